"""The speedrun: from nothing to prompts of two objects drawn right, the clock running.

What counts is the time of all trainings (drawing the data, loading and saving included). The judge
has its committed weights and reads pictures of 32 px, with the clock stopped. Three quarters of the
prompts are of the split `seen`, a quarter holds a (shape, colour) pair that no training has: about
as many as among all scenes of two objects.
"""

import time
from collections.abc import Callable
from pathlib import Path

import torch

from minidalle2.dalle2 import DALLE2, MODELS, WEIGHTS
from minidalle2.evaluation.judging import load_judge
from minidalle2.evaluation.rows import row
from minidalle2.evaluation.shapes.drawn import read_drawn
from minidalle2.evaluation.shapes.judge import Judge
from minidalle2.evaluation.shapes.prompts import ROWS, asked, follows
from minidalle2.tokenizer import Tokenizer
from minidalle2.training.checkpoints import load_model
from minidalle2.worlds.shapes.world import Shapes

STAGES = ("tokenizer", "clip", "prior", "decoder")
KINDS = ("one", "two")  # scenes of three objects and signs teach what is not asked
GOAL = 0.9
JUDGED = {"two objects": 0.75, "held-out pairs, two objects": 0.25}  # name: share of the prompts

Train = Callable[[str, Shapes], object]  # trains one stage to its end


def clocked(train: Train, device: torch.device) -> dict[str, float]:
    """Train all stages; → seconds of each."""
    world, spent = Shapes(KINDS), {}
    for stage in STAGES:
        started = time.monotonic()
        train(stage, world)
        if device.type == "cuda":
            torch.cuda.synchronize()
        spent[stage] = time.monotonic() - started
    return spent


def load(folder: Path, device: torch.device) -> DALLE2:
    """What was trained, with the committed upsamplers, which nothing is asked of."""
    stages = {
        name: load_model(
            (folder if name in STAGES else WEIGHTS / "shapes") / name, name, *classes
        ).to(device)
        for name, classes in MODELS.items()
    }
    return DALLE2(Tokenizer.load(folder / "tokenizer.json"), **stages)


def judged(dalle2: DALLE2, n: int, seed: int) -> list[dict]:
    """Rows of about n prompts: one for each of JUDGED, and both together."""
    judge, rows = load_judge("shapes", WEIGHTS / "shapes", dalle2.device), []
    for name, share in JUDGED.items():
        rows.append(_row(dalle2, judge, name, max(1, round(n * share)), seed))
    right = sum(round(part["accuracy"] * part["n"]) for part in rows)
    return [*rows, row("speedrun", "both", "", right, sum(part["n"] for part in rows))]


def _row(dalle2: DALLE2, judge: Judge, name: str, n: int, seed: int) -> dict:
    scenes, prompts = asked(name, n, seed)
    right = follows(scenes, read_drawn(dalle2, judge, prompts, stage="image32"))
    return row("speedrun", name, ROWS[name][0], int(right.sum()), n)
