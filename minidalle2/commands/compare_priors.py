"""Compares priors: one after another, with the same CLIP, captions, noise and decoder.

python -m minidalle2.commands.compare_priors --weights runs/shapes --prompts 200

Prints four tables: the similarity of predicted and real image embeddings, the effect of selecting
the best of n candidates, the effect of guidance, and how many pictures are correct. The priors are
those in the folder of weights, and ridge regression, which is fitted here.
"""

import argparse
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import torch

from minidalle2.commands.options import weights_of
from minidalle2.dalle2 import DALLE2, Sampling
from minidalle2.evaluation.priors import all_priors
from minidalle2.evaluation.similarity import (
    COUNTS,
    best_of_n_rows,
    draw,
    embedded,
    guidance_rows,
    similarity_row,
)
from minidalle2.storage.checkpoints import CheckpointError, write_json
from minidalle2.storage.devices import pick_device
from minidalle2.storage.progress import doing
from minidalle2.training.world import World
from minidalle2.unclip import AnyPrior
from minidalle2.worlds.catalogue import definition, load_judge, open_world
from minidalle2.worlds.shapes.evaluation.prompts import prompt_row
from minidalle2.worlds.shapes.judge import Judge


def accuracy_row(
    name: str, prior: AnyPrior, dalle2: DALLE2, judge: Judge, n: int, sampling: Sampling
) -> dict:
    """The accuracy of n pictures with two objects: the share that the judge reads as prompted."""
    row = prompt_row(replace(dalle2, prior=prior), judge, "two objects", n, 0, sampling)
    return {"prior": name, "drawings": sampling.drawings} | {
        key: row[key] for key in ("n", "accuracy", "low", "high")
    }


def bench(
    folder: Path, world: World, device: torch.device, args: argparse.Namespace
) -> Iterator[tuple[str, dict]]:
    """Yields (name of a table, row) for the tables similarity, best of n, guidance and accuracy.

    There is no table of accuracy without --prompts.
    """
    with doing("loading the weights"):
        dalle2 = DALLE2.load(folder, device)
    models = dalle2.clip, dalle2.tokenizer
    pairs = embedded(world, *models, args.n, 1, "seen")
    priors = all_priors(folder, dalle2, embedded(world, *models, args.pairs, 2, "train"))
    yield "similarity", similarity_row("real pictures", pairs.z_i[:, None], pairs)
    yield "similarity", similarity_row("z_t itself", pairs.z_t[:, None], pairs)
    drawn = {}
    for name, prior in priors.items():
        drawn[name], ms = draw(prior, pairs, max(COUNTS), args.guidance, activity=f"{name} prior")
        guidance = args.guidance if prior.noise_size else None  # a deterministic prior has none
        yield "similarity", similarity_row(name, drawn[name], pairs, guidance, ms)
    for name, z in drawn.items():
        yield from (("best of n", row) for row in best_of_n_rows(name, z, pairs))
    for name, prior in priors.items():
        if prior.noise_size:
            yield from (("guidance", row) for row in guidance_rows(name, prior, pairs, 2))
    if args.prompts:
        judge = load_judge("shapes", folder, device)
        sampling = Sampling(
            candidates=2 * args.drawings, drawings=args.drawings, prior_guidance=args.guidance
        )
        for name, prior in priors.items():
            row = accuracy_row(name, prior, dalle2, judge, args.prompts, sampling)
            yield "accuracy", row


def line(cells: Iterable) -> str:
    texts = (f"{c:.3f}" if isinstance(c, float) else "" if c is None else str(c) for c in cells)
    return "  ".join(f"{text:>13}" for text in texts)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m minidalle2.commands.compare_priors", description=__doc__.split("\n")[0]
    )
    parser.add_argument(
        "--world", default="shapes", help="shapes, emoji or a folder (default shapes)"
    )
    parser.add_argument(
        "--weights", type=Path, help="folder (default: the weights that come with minidalle2)"
    )
    parser.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda", "mps"),
        default="auto",
        help="auto selects cuda if there is one, else mps, else cpu (default auto)",
    )
    parser.add_argument("-n", type=int, default=200, help="number of captions (default 200)")
    parser.add_argument(
        "--pairs",
        type=int,
        default=4_000,
        help="number of pictures and captions for ridge regression (default 4000)",
    )
    parser.add_argument(
        "--guidance",
        type=float,
        default=Sampling.prior_guidance,
        help="guidance scale of the priors (default %(default)s)",
    )
    parser.add_argument(
        "--prompts",
        type=int,
        default=0,
        help="number of prompts to draw for the accuracy (default 0)",
    )
    parser.add_argument(
        "--drawings", type=int, default=1, help="number of drawings of each prompt (default 1)"
    )
    parser.add_argument("--json", type=Path, help="also write the tables to this file")
    args = parser.parse_args(argv)
    tables: dict[str, list[dict]] = {}
    try:
        folder, device = weights_of(args.world, args.weights), pick_device(args.device)
        check(args)
        for table, row in bench(folder, open_world(args.world), device, args):
            if table not in tables:
                print(f"\n{table}\n{line(row)}")
            print(line(row.values()), flush=True)
            tables.setdefault(table, []).append(row)
            if args.json:
                write_json(args.json, tables)
    except (ValueError, CheckpointError) as error:
        raise SystemExit(f"minidalle2: {error}") from error


def check(args: argparse.Namespace) -> None:
    """Raises ValueError for options with which the priors can't be compared."""
    if args.n < 2 or args.pairs < 2:
        raise ValueError(
            "-n and --pairs must be at least 2, because a caption is compared with another one"
        )
    if args.prompts and definition(args.world).report.prompt_row is not prompt_row:
        raise ValueError(
            f"--prompts needs the judge of the shapes, but the world is {args.world}; leave out "
            "--prompts, or use --world shapes"
        )


if __name__ == "__main__":
    main()
