"""All that is measured of a set of weights, as rows of one table."""

from collections.abc import Iterator
from pathlib import Path

import torch

from minidalle2.dalle2 import DALLE2, WEIGHTS, Sampling
from minidalle2.evaluation.judge import SIZE, Judge, JudgeConfig, answers_of, read
from minidalle2.evaluation.probe import scene_accuracy
from minidalle2.evaluation.prompts import ROWS, prompt_row, wilson_interval
from minidalle2.evaluation.retrieval import recall_at_1
from minidalle2.training.checkpoints import load_model
from minidalle2.worlds.shapes.drawing import draw
from minidalle2.worlds.shapes.scenes import sample_scenes

WHAT = ("judge", "clip", "probe", "prompts")


def evaluate(
    folder: Path, device: torch.device, what: list[str], n: int, seed: int
) -> Iterator[dict]:
    """Rows {what, name, split, n, accuracy, low, high} for the weights in `folder`.

    `judge`: share of real pictures read without a fault. `clip`: retrieval R@1. `probe`: scenes
    read from z_i alone. `prompts`: pictures that follow their prompt, n for each kind and split.
    """
    dalle2 = DALLE2.load(folder, device)
    judge = load_judge(folder, device)
    if "judge" in what:
        for split in ("seen", "pairs", "combinations"):
            right = _pictures_read(judge, device, split, seed, 2_000)
            yield _row("judge", "real pictures read without a fault", split, right, 2_000)
    if "clip" in what:
        for split in ("seen", "pairs", "combinations"):
            for name, share in zip(
                ("R@1 image to text", "R@1 text to image"),
                recall_at_1(dalle2.clip, dalle2.tokenizer, split, 512, seed),
                strict=True,
            ):
                yield _row("clip", name, split, round(share * 512), 512)
    if "probe" in what:
        share = scene_accuracy(dalle2.clip, seed=seed)
        yield _row("probe", "scene read from z_i", "seen", round(share * 4_000), 4_000)
    if "prompts" in what:
        for name in ROWS:
            yield prompt_row(dalle2, judge, name, n, seed)
        paper = Sampling(candidates=2, drawings=1)  # section 2.2
        alone = prompt_row(dalle2, judge, "two objects", n, seed, paper)
        yield {**alone, "name": "two objects, one drawing each"}


def load_judge(folder: Path, device: torch.device) -> Judge:
    """The judge beside the weights if one was trained there, else the committed one."""
    place = folder / "judge" if (folder / "judge").is_dir() else WEIGHTS / "shapes" / "judge"
    judge = load_model(place, "judge", JudgeConfig, Judge)
    return judge.to(device, memory_format=torch.channels_last)


def _pictures_read(judge: Judge, device: torch.device, split: str, seed: int, n: int) -> int:
    """How many of n real pictures at 128 px the judge reads without a fault."""
    generator, right = torch.Generator().manual_seed(seed), 0
    for _ in range(n // 100):
        scenes = sample_scenes(100, split, generator)
        answers = read(judge, draw(scenes, 2 * SIZE).to(device))
        truth = answers_of(scenes)
        good = [((answers[k] == truth[k]) | (truth[k] < 0)).all(1) for k in truth]
        right += int(torch.stack(good).all(0).sum())
    return right


def _row(what: str, name: str, split: str, right: int, n: int) -> dict:
    low, high = wilson_interval(right, n)
    return {
        "what": what, "name": name, "split": split, "n": n,
        "accuracy": right / n, "low": low, "high": high,
    }  # fmt: skip
