"""Compares variants of CLIP's training at equal training time, one row of a table per variant.

    python -m minidalle2.commands.compare_clip_variants --minutes 4 --json variants.json

All variants start from the same weights, see the same batches and train for the same time. A
variant whose steps take twice as long takes half as many steps. Time means processor time, summed
over all cores, so that other programs do not influence the result. The CLIP is small, so that it
learns something within minutes. Only the CLIP is measured, by its z_i and z_t, without the parts
that a variant needs in training only. Each row is written as soon as it is known. After Ctrl-C the
same command continues.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from minidalle2.clip import CLIP, CLIPConfig, clip_loss
from minidalle2.commands.evaluate import hardware
from minidalle2.commands.options import make_folder
from minidalle2.evaluation.drawn import embed
from minidalle2.evaluation.rank import components_needed, effective_rank
from minidalle2.evaluation.rows import wilson_interval
from minidalle2.storage.checkpoints import (
    CheckpointError,
    load_model,
    load_tokenizer,
    save_tokenizer,
    write_json,
)
from minidalle2.storage.devices import pick_device
from minidalle2.storage.memory import keep_freed_memory
from minidalle2.storage.progress import bar, doing, each
from minidalle2.tokenizer import Tokenizer
from minidalle2.training.contrastive.decoupled import decoupled_loss
from minidalle2.training.contrastive.filip import Filip, filip_loss
from minidalle2.training.contrastive.infoloob import TwoDirections, infoloob_loss
from minidalle2.training.contrastive.masked_language import MaskedLanguage, masked_language_loss
from minidalle2.training.contrastive.multi_positive import multi_positive_loss
from minidalle2.training.contrastive.self_supervision import (
    SimCLR,
    SimSiam,
    simclr_loss,
    simsiam_loss,
)
from minidalle2.training.loop import Loss, fit
from minidalle2.training.recipe import Recipe
from minidalle2.training.run import Step, TrainingError, whole
from minidalle2.training.sharpness import sharpness_aware
from minidalle2.training.stages import Setting, clip_job, train_tokenizer
from minidalle2.worlds.catalogue import definition
from minidalle2.worlds.shapes.evaluation.probe import scene_accuracy
from minidalle2.worlds.shapes.evaluation.retrieval import recall_at_1
from minidalle2.worlds.shapes.world import Shapes

TESTED = 4_000  # scenes on which the probe is tested
SMALL = CLIPConfig(patch_size=8, width=64, heads=2, image_layers=2, text_layers=2)
FIRST_STEPS, TIMED_STEPS = 2, 10  # the first steps also reserve memory and are not timed
HEADER = (
    f"{'variant':16} {'steps':>6}  {'image to text':>22}  {'text to image':>22}  "
    f"{'scene read from z_i':>22}  {'rank':>5}  {'99 %':>4}"
)


@dataclass
class Variant:
    """A way to train CLIP."""

    loss: Loss
    wrapped: Callable[[CLIP], nn.Module] = whole  # adds the parts that only training needs


VARIANTS = {
    "clip": Variant(clip_loss),
    "filip": Variant(filip_loss, Filip),
    "decoupled": Variant(decoupled_loss),
    "infoloob": Variant(infoloob_loss, TwoDirections),
    "multi-positive": Variant(multi_positive_loss),
    "simclr": Variant(simclr_loss, SimCLR),
    "simsiam": Variant(simsiam_loss, SimSiam),
    "masked-language": Variant(masked_language_loss, MaskedLanguage),
    "sharpness-aware": Variant(sharpness_aware(clip_loss)),
}


@dataclass
class Bench:
    """How each variant is trained and measured."""

    recipe: Recipe
    clip: CLIPConfig = field(default_factory=lambda: SMALL)
    pairs: int = 512  # of picture and caption, for the retrieval accuracy
    scenes: int = 8_000  # on which the probe is trained
    probe_steps: int = 800
    embedded: int = 2_000  # pictures whose z_i determine the rank


def compare(folder: Path, bench: Bench, device: torch.device, names: list[str]) -> Iterator[dict]:
    """Trains each variant into folder/name, or finishes its training, and yields its row."""
    world = Shapes()
    if not (folder / "tokenizer.json").exists():
        with doing("training the tokenizer"):
            save_tokenizer(train_tokenizer(world), folder / "tokenizer.json")
    tokenizer = load_tokenizer(folder / "tokenizer.json")
    for name in names:
        train(name, folder, bench, device, tokenizer.vocab_size)
        clip = load_model(folder / name, "clip", CLIPConfig, CLIP).to(device)
        last = json.loads((folder / name / "log.jsonl").read_text().splitlines()[-1])
        yield {"variant": name, "steps": last["step"], **measured(clip, tokenizer, bench)}


def train(name: str, folder: Path, bench: Bench, device: torch.device, vocab_size: int) -> None:
    """Trains one variant into folder/name. The tokenizer must be in `folder`."""
    variant, world = VARIANTS[name], Shapes()
    data = clip_job(Setting(world, folder, device)).data

    def steps(recipe: Recipe, where: Path) -> Iterator[Step]:
        # CLIP is made right after seeding, so that all variants start from the same weights.
        torch.manual_seed(recipe.seed)
        model = variant.wrapped(CLIP(replace(bench.clip, vocab_size=vocab_size))).to(device)
        return fit(model, data, variant.loss, recipe, where, "clip", kept)

    recipe = planned(bench.recipe, folder / name, steps)
    with bar(f"training {name}", recipe.steps) as shown:
        for step in steps(recipe, folder / name):
            if shown.n == 0:  # the steps before an interruption must not count for the speed
                shown.initial = shown.n = step.step - 1
            shown.update()


def planned(
    recipe: Recipe, folder: Path, steps: Callable[[Recipe, Path], Iterator[Step]]
) -> Recipe:
    """The recipe with the number of steps that fits its minutes.

    A few steps are timed and then discarded. For a training that was interrupted, the number comes
    from its log.
    """
    if recipe.minutes is None:
        return recipe
    log = folder / "log.jsonl"
    if log.exists():
        affordable = json.loads(log.read_text().splitlines()[-1])["total"]
    else:
        trial = replace(recipe, steps=FIRST_STEPS + TIMED_STEPS, minutes=None)
        with tempfile.TemporaryDirectory() as thrown_away:
            timed = each(steps(trial, Path(thrown_away)), "timing some steps", trial.steps)
            ends = [time.process_time() for _ in timed]
        a_step = (ends[-1] - ends[FIRST_STEPS - 1]) / TIMED_STEPS
        affordable = max(1, int(60 * recipe.minutes / a_step))
    return replace(recipe, steps=affordable, minutes=None)


def kept(model: nn.Module) -> CLIP:
    """The CLIP inside a trained model."""
    return model if isinstance(model, CLIP) else model.clip


def measured(clip: CLIP, tokenizer: Tokenizer, bench: Bench) -> dict:
    """Accuracies on the split `seen`, and how many directions its z_i use."""
    to_text, to_image = recall_at_1(clip, tokenizer, "seen", bench.pairs)
    z_i = embedded(clip, bench.embedded)
    return {
        "image_to_text": to_text,
        "text_to_image": to_image,
        "pairs": bench.pairs,
        "scene_read": scene_accuracy(clip, bench.scenes, bench.probe_steps),
        "scenes": TESTED,
        "rank": effective_rank(z_i),
        "components": components_needed(z_i),
    }


def embedded(clip: CLIP, n: int) -> Tensor:
    """→ z_i (n, E) of pictures of the split `seen`."""
    images, _ = Shapes().captioned(n, torch.Generator().manual_seed(0), "seen")
    return embed(clip, images)


def table_line(row: dict) -> str:
    shares = (("image_to_text", "pairs"), ("text_to_image", "pairs"), ("scene_read", "scenes"))
    cells = [with_interval(row[share], row[n]) for share, n in shares]
    line = f"{row['variant']:16} {row['steps']:6}  {'  '.join(f'{cell:>22}' for cell in cells)}"
    return f"{line}  {row['rank']:5.1f}  {row['components']:4}"


def with_interval(share: float, n: int) -> str:
    low, high = wilson_interval(round(share * n), n)
    return f"{share:.1%} ({low:.1%} to {high:.1%})"


# The command


def run(args: argparse.Namespace) -> None:
    keep_freed_memory()
    if "probe" not in definition(args.world).report.what:
        raise ValueError(
            f"the variants can't be compared on {args.world}, because the probe reads scenes of "
            "shapes; use --world shapes"
        )
    names = chosen(args.variants)
    if not args.minutes > 0:
        raise ValueError(f"--minutes must be larger than 0, not {args.minutes}; 4 would work")
    device, folder = pick_device(args.device), make_folder(args.out)
    known = rows_of(args.json, args.minutes)
    recipe = Recipe(steps=1_000_000, batch_size=64, warmup_steps=40, minutes=args.minutes)
    print(HEADER)
    for name in names:
        if name not in known:
            print(f"{name}: {args.minutes:g} minutes", file=sys.stderr, flush=True)
            (known[name],) = compare(folder, Bench(recipe), device, [name])
            content = {"minutes_each": args.minutes, "hardware": hardware(device)}
            write_json(args.json, content | {"rows": list(known.values())})
        print(table_line(known[name]), flush=True)


def chosen(text: str) -> list[str]:
    """'clip,filip' → ['clip', 'filip']; 'all' → all names. Raises ValueError for unknown names."""
    names = list(VARIANTS) if text == "all" else [name.strip() for name in text.split(",")]
    for name in names:
        if name not in VARIANTS:
            raise ValueError(
                f"there is no variant {name!r}; --variants takes all or some of "
                f"{','.join(VARIANTS)}"
            )
    return names


def rows_of(path: Path, minutes: float) -> dict[str, dict]:
    """The rows that are already in the file, by the name of their variant.

    Raises ValueError if the file is not such a table, or if its rows had other minutes.
    """
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        each, rows = content["minutes_each"], {row["variant"]: row for row in content["rows"]}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} holds no table of variants ({error}); choose another file with --json"
        ) from error
    if each != minutes:
        raise ValueError(
            f"the rows in {path} had {each:g} minutes each, not {minutes:g}; choose another file "
            f"with --json and another folder with --out, or use --minutes {each:g}"
        )
    return rows


def main(argv: list[str] | None = None) -> int:
    """Returns the exit code: 0, 2 for an error, 130 for Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="python -m minidalle2.commands.compare_clip_variants",
        description=__doc__.split("\n")[0],
    )
    parser.add_argument(
        "--minutes", type=float, default=4.0, help="processor time for each variant (default 4)"
    )
    parser.add_argument(
        "--world",
        default="shapes",
        help="only shapes has the probe that is needed (default shapes)",
    )
    parser.add_argument(
        "--variants", default="all", help=f"all, or some of {','.join(VARIANTS)} (default all)"
    )
    parser.add_argument(
        "--json",
        type=Path,
        default=Path("clip_variants.json"),
        metavar="FILE",
        help="file for the rows; rows that are in it already are not measured again (default "
        "clip_variants.json)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("runs/clip_variants"),
        metavar="DIR",
        help="folder for the weights (default runs/clip_variants)",
    )
    parser.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda", "mps"),
        default="auto",
        help="auto selects cuda if there is one, else mps, else cpu (default auto)",
    )
    try:
        run(parser.parse_args(argv))
    except KeyboardInterrupt:
        print("stopped; the same command continues", file=sys.stderr)
        return 130
    except (ValueError, CheckpointError, TrainingError) as error:
        print(f"clip_variants: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
