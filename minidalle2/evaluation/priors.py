"""The bench of the priors: the same CLIP, captions, noise and decoder, and one prior after another.

python -m minidalle2.evaluation.priors --weights runs/shapes --prompts 200

Tables of similarity, of choosing the best of n candidates, of guiding the prior, and of how many
pictures show what their prompt says. Ridge regression is fitted on the spot; the other priors take
part where `train` has put them beside the rest of the weights.
"""

import argparse
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch

from minidalle2.commands.options import pick_device, weights_of
from minidalle2.any_prior import PRIORS, AnyPrior
from minidalle2.dalle2 import DALLE2, Sampling
from minidalle2.evaluation.analytic_prior import AnalyticPrior
from minidalle2.evaluation.judging import load_judge
from minidalle2.evaluation.shapes.judge import Judge
from minidalle2.evaluation.shapes.prompts import prompt_row
from minidalle2.evaluation.similarity import (
    COUNTS, Pairs, best_of_n_rows, draw, embedded, guidance_rows, similarity_row,
)  # fmt: skip
from minidalle2.regression_prior import RegressionPrior, RegressionPriorConfig, ridge
from minidalle2.training.checkpoints import CheckpointError, load_model, write_json
from minidalle2.worlds.world import World, open_world

MEASURED = 256  # pairs from which Analytic-DPM learns its variances


def all_priors(folder: Path, dalle2: DALLE2, train: Pairs) -> dict[str, AnyPrior]:
    """Those that are in `folder`, and two that need only `train`: ridge regression, and the
    diffusion prior's other sampler."""
    device = train.z_i.device
    priors: dict[str, AnyPrior] = {"ridge": ridge(train.z_t, train.z_i)}
    if (folder / "regression_prior").is_dir():
        classes = RegressionPriorConfig, RegressionPrior
        mlp = load_model(folder / "regression_prior", "regression_prior", *classes)
        priors["mlp"] = mlp.to(device)
    stage, *classes = PRIORS["autoregressive"]
    if (folder / stage).is_dir():
        priors["autoregressive"] = load_model(folder / stage, stage, *classes).to(device)
    few = slice(0, MEASURED)
    priors["diffusion"] = dalle2.prior
    priors["analytic"] = AnalyticPrior(
        dalle2.prior, train.z_i[few], train.z_t[few], train.tokens[few]
    )
    return priors


def with_prior(dalle2: DALLE2, prior: AnyPrior) -> DALLE2:
    """The same machine around another prior."""
    return DALLE2(
        dalle2.tokenizer, dalle2.clip, prior, dalle2.decoder, dalle2.upsampler64,
        dalle2.upsampler128,
    )  # fmt: skip


def accuracy_row(
    name: str, prior: AnyPrior, dalle2: DALLE2, judge: Judge, n: int, sampling: Sampling
) -> dict:
    """How many of n pictures of two objects the judge reads as they were asked for."""
    row = prompt_row(with_prior(dalle2, prior), judge, "two objects", n, 0, sampling)
    return {"prior": name, "drawings": sampling.drawings} | {
        key: row[key] for key in ("n", "accuracy", "low", "high")
    }


def bench(
    folder: Path, world: World, device: torch.device, args: argparse.Namespace
) -> Iterator[tuple[str, dict]]:
    """Yields (table, row) of the tables similarity, best of n, guidance and, with prompts to draw,
    accuracy."""
    dalle2 = DALLE2.load(folder, device)
    models = dalle2.clip, dalle2.tokenizer
    pairs = embedded(world, *models, args.n, 1, "seen")
    priors = all_priors(folder, dalle2, embedded(world, *models, args.pairs, 2, "train"))
    yield "similarity", similarity_row("real pictures", pairs.z_i[:, None], pairs)
    yield "similarity", similarity_row("z_t itself", pairs.z_t[:, None], pairs)
    drawn = {}
    for name, prior in priors.items():
        drawn[name], ms = draw(prior, pairs, max(COUNTS), args.guidance)
        guidance = args.guidance if prior.noise_size else None  # what draws nothing has none
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
    parser = argparse.ArgumentParser(description="One prior beside another.")
    parser.add_argument("--world", default="shapes")
    parser.add_argument("--weights", type=Path, help="(default: those that came with minidalle2)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto")
    parser.add_argument("-n", type=int, default=200, help="captions (default 200)")
    parser.add_argument("--pairs", type=int, default=4_000, help="for ridge regression")
    parser.add_argument("--guidance", type=float, default=Sampling.prior_guidance)
    parser.add_argument("--prompts", type=int, default=0, help="to draw (default 0)")
    parser.add_argument("--drawings", type=int, default=1, help="a prompt (default 1)")
    parser.add_argument("--json", type=Path, help="write the tables there, too")
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
    """Raises ValueError for numbers that can't be benched with."""
    if args.n < 2 or args.pairs < 2:
        raise ValueError("-n and --pairs are at least 2: one caption has no unrelated other")
    if args.prompts and args.world != "shapes":
        raise ValueError(f"--prompts needs the judge of the shapes; the world is {args.world}")


if __name__ == "__main__":
    main()
