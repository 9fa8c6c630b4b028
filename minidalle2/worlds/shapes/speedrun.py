"""The speedrun: how long training takes until prompts of two objects are drawn correctly.

The measured time is that of all trainings, including the drawing of training pictures, loading and
saving. The judge has the weights that come with minidalle2, reads pictures of 32 px, and does not
count towards the time. Three quarters of the prompts are from the split `seen`. One quarter have a
(shape, colour) pair that is not in the training pictures, as about one quarter of all scenes of two
objects do.
"""

import time
from collections.abc import Callable
from pathlib import Path

import torch

from minidalle2.clip import CLIP, CLIPConfig
from minidalle2.dalle2 import DALLE2, WEIGHTS, load_prior, load_upsampler
from minidalle2.decoder import Decoder, DecoderConfig
from minidalle2.evaluation.rows import row
from minidalle2.priors.kinds import kind_of
from minidalle2.storage.checkpoints import load_model, load_tokenizer
from minidalle2.worlds.shapes.evaluation.drawn import read_drawn
from minidalle2.worlds.shapes.evaluation.prompts import ROWS, asked, follows
from minidalle2.worlds.shapes.judge import Judge, JudgeConfig
from minidalle2.worlds.shapes.world import Shapes

STAGES = ("tokenizer", "clip", "prior", "decoder")
KINDS = ("one", "two")  # no prompt asks for three objects or for signs
GOAL = 0.9
JUDGED = {"two objects": 0.75, "held-out pairs, two objects": 0.25}  # name: share of the prompts

Train = Callable[[str, Shapes], object]  # trains one stage completely


def clocked(train: Train, device: torch.device) -> dict[str, float]:
    """Trains all stages and returns the seconds of each."""
    world, spent = Shapes(KINDS), {}
    for stage in STAGES:
        started = time.monotonic()
        train(stage, world)
        if device.type == "cuda":
            torch.cuda.synchronize()
        spent[stage] = time.monotonic() - started
    return spent


def load(folder: Path, device: torch.device) -> DALLE2:
    """Returns the trained stages with the upsamplers that come with minidalle2.

    The upsamplers are not judged.
    """
    clip = load_model(folder / "clip", "clip", CLIPConfig, CLIP)
    decoder = load_model(folder / "decoder", "decoder", DecoderConfig, Decoder)
    return DALLE2(
        tokenizer=load_tokenizer(folder / "tokenizer.json"),
        clip=clip.to(device),
        prior=load_prior(folder, kind_of("diffusion")).to(device),
        decoder=decoder.to(device),
        upsampler64=load_upsampler(WEIGHTS / "shapes", 64).to(device),
        upsampler128=load_upsampler(WEIGHTS / "shapes", 128).to(device),
    )


def judged(dalle2: DALLE2, n: int, seed: int) -> list[dict]:
    """Rows of about n prompts: one for each entry of JUDGED, and one of all prompts."""
    judge = load_model(WEIGHTS / "shapes" / "judge", "judge", JudgeConfig, Judge)
    judge, rows = judge.to(dalle2.device, memory_format=torch.channels_last), []
    for name, share in JUDGED.items():
        rows.append(_row(dalle2, judge, name, max(1, round(n * share)), seed))
    right = sum(round(part["accuracy"] * part["n"]) for part in rows)
    return [*rows, row("speedrun", "both", "", right, sum(part["n"] for part in rows))]


def _row(dalle2: DALLE2, judge: Judge, name: str, n: int, seed: int) -> dict:
    scenes, prompts = asked(name, n, seed)
    answers = read_drawn(dalle2, judge, prompts, stage="image32", activity=f"testing {name}")
    right = follows(scenes, answers)
    return row("speedrun", name, ROWS[name][0], int(right.sum()), n)
