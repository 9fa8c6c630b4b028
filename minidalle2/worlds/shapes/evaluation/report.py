"""All measurements of weights of the shapes world, as rows of one table."""

from collections.abc import Iterator
from pathlib import Path

import torch

from minidalle2.dalle2 import DALLE2, Sampling
from minidalle2.evaluation.judging import judge_beside
from minidalle2.evaluation.rows import row
from minidalle2.storage.progress import doing, each
from minidalle2.worlds.shapes.drawing import draw
from minidalle2.worlds.shapes.evaluation import probing
from minidalle2.worlds.shapes.evaluation.manipulations import manipulation_rows
from minidalle2.worlds.shapes.evaluation.probe import scene_accuracy
from minidalle2.worlds.shapes.evaluation.prompts import ROWS, prompt_row
from minidalle2.worlds.shapes.evaluation.retrieval import recall_at_1
from minidalle2.worlds.shapes.judge import JUDGE, SIZE, Judge, answers_of, read
from minidalle2.worlds.shapes.scenes import sample_scenes

WHAT = ("judge", "clip", "probe", "prompts", "manipulations")
PROBES = probing.PROBES  # measured on request only


def evaluate(
    folder: Path,
    device: torch.device,
    what: list[str],
    n: int,
    seed: int,
    pictures: Path | None = None,
) -> Iterator[dict]:
    """Yields rows {what, name, split, n, accuracy, low, high} for the weights in `folder`.

    `judge`: the share of real pictures that the judge reads without an error. `clip`: retrieval
    R@1. `probe`: the share of scenes read from z_i alone. `prompts`: the share of pictures that
    show what their prompt says, of n for each kind and split. `manipulations`: what section 3 of
    the paper says, on n pictures. The PROBES are experiments of the paper. They run first, because
    they stop at once if GLIDE is missing. A row of a probe that is not a share has `value` in place
    of `accuracy`.
    """
    with doing("loading the weights"):
        dalle2 = DALLE2.load(folder, device)
        judge = judge_beside(JUDGE, "shapes", folder, device)
    yield from probing.probe_rows(folder, dalle2, judge, what, n, seed)
    if "judge" in what:
        for split in ("seen", "pairs", "combinations"):
            right = _pictures_read(judge, device, split, seed, 2_000)
            yield row("judge", "real pictures read without a fault", split, right, 2_000)
    if "clip" in what:
        for split in each(("seen", "pairs", "combinations"), "retrieving captions and pictures"):
            for name, share in zip(
                ("R@1 image to text", "R@1 text to image"),
                recall_at_1(dalle2.clip, dalle2.tokenizer, split, 512, seed),
                strict=True,
            ):
                yield row("clip", name, split, round(share * 512), 512)
    if "probe" in what:
        share = scene_accuracy(dalle2.clip, seed=seed)
        yield row("probe", "scene read from z_i", "seen", round(share * 4_000), 4_000)
    if "prompts" in what:
        for name in ROWS:
            yield prompt_row(dalle2, judge, name, n, seed)
        paper = Sampling(candidates=2, drawings=1)  # section 2.2
        alone = prompt_row(dalle2, judge, "two objects", n, seed, paper)
        yield {**alone, "name": "two objects, one drawing each"}
    if "manipulations" in what:
        yield from manipulation_rows(dalle2, judge, n, seed)


def _pictures_read(judge: Judge, device: torch.device, split: str, seed: int, n: int) -> int:
    """How many of n real pictures at 128 px the judge reads without an error."""
    generator, right = torch.Generator().manual_seed(seed), 0
    for _ in each(range(n // 100), f"reading real pictures, {split}"):
        scenes = sample_scenes(100, split, generator)
        answers = read(judge, draw(scenes, 2 * SIZE).to(device))
        truth = answers_of(scenes)
        good = [((answers[k] == truth[k]) | (truth[k] < 0)).all(1) for k in truth]
        right += int(torch.stack(good).all(0).sum())
    return right
