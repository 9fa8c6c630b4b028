"""All that is measured of weights that were trained on critters, as rows of one table."""

import random
from collections.abc import Iterator
from pathlib import Path

import torch

from minidalle2.clip import CLIP, CLIPConfig
from minidalle2.dalle2 import DALLE2
from minidalle2.evaluation.critters.binding import (
    BATCH, SPLITS, clip_rows, draw_scenes, prompt_rows,
)  # fmt: skip
from minidalle2.evaluation.critters.judge import Judge, JudgeConfig, own_scenes, read
from minidalle2.evaluation.rows import row
from minidalle2.tokenizer import Tokenizer
from minidalle2.training.checkpoints import CheckpointError, load_model
from minidalle2.worlds.critters import drawing
from minidalle2.worlds.critters.scenes import Scene, sample
from minidalle2.worlds.stored import SIDE

WHAT = ("judge", "clip", "prompts")


def evaluate(
    folder: Path, device: torch.device, what: list[str], n: int, seed: int
) -> Iterator[dict]:
    """Rows {what, name, split, n, accuracy, low, high} for the weights in `folder`.

    `judge`: share of n real pictures read without a fault. `clip`: the swap test on n pairs, which
    needs no more than the tokenizer and CLIP. `prompts`: verdicts on n drawn prompts. All of both
    splits. Raises CheckpointError, with how to train it, for what is missing.
    """
    drawing.check_packages()
    check_trained(folder, what)
    if "judge" in what or "prompts" in what:
        judge = load_model(folder / "judge", "judge", JudgeConfig, Judge)
        judge.to(device, memory_format=torch.channels_last)
    if "judge" in what:
        for split in SPLITS:
            right = pictures_read(judge, device, split, n, seed)
            yield row("judge", "real pictures read without a fault", split, right, n)
    if "clip" in what:
        clip = load_model(folder / "clip", "clip", CLIPConfig, CLIP).to(device)
        tokenizer = Tokenizer.load(folder / "tokenizer.json")
        for split in SPLITS:
            yield from clip_rows(clip, tokenizer, split, n, seed)
    if "prompts" in what:
        dalle2 = DALLE2.load(folder, device)
        for split in SPLITS:
            yield from prompt_rows(dalle2, judge, split, n, seed)


def check_trained(folder: Path, what: list[str]) -> None:
    """Raises CheckpointError where there are no weights, or no judge for what needs it."""
    train = f"minidalle2 train {{}} --world critters --out {folder}"
    if set(what) & {"clip", "prompts"} and not (folder / "tokenizer.json").is_file():
        raise CheckpointError(
            f"there are no weights of critters in {folder}, and none come with minidalle2; train "
            f"them with `{train.format('all')}` and their judge with `{train.format('judge')}`"
        )
    if set(what) & {"judge", "prompts"} and not (folder / "judge" / "config.json").is_file():
        raise CheckpointError(
            f"there is no judge of critters in {folder}; train it with `{train.format('judge')}`"
        )


def pictures_read(judge: Judge, device: torch.device, split: str, n: int, seed: int) -> int:
    """How many of n real pictures at 128 px, that it has not learnt from, the judge reads right."""
    rng, own, right = random.Random(f"{split} {seed}"), set(own_scenes()[0]), 0
    scenes: list[Scene] = []
    while len(scenes) < n:
        if (scene := sample(rng, held_out=split == "pairs")) not in own:
            scenes.append(scene)
    for i in range(0, n, BATCH):
        part = scenes[i : i + BATCH]
        images = draw_scenes(part, [drawing.shift_of(rng) for _ in part], SIDE)
        shown = read(judge, images.to(device))
        right += sum(a == b for a, b in zip(part, shown, strict=True))
    return right
