"""Prompts as people type them: does the judge read a name that the author of the prompt accepts?

natural.jsonl has the prompts, the names that are accepted, and the background if the prompt names
one. Otherwise the background should be white. Each prompt is drawn with two seeds and the default
settings of `draw`. All pictures count. The prompts are for measurements only. Nothing is tuned with
them. Letters: P prompts, n pictures, S pixels a side.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from minidalle2.dalle2 import DALLE2, Sampling
from minidalle2.evaluation.drawn import draw_prompts
from minidalle2.evaluation.rows import row
from minidalle2.storage.pictures import to_uint8
from minidalle2.worlds.emoji.backgrounds import RGB
from minidalle2.worlds.emoji.called import HAN
from minidalle2.worlds.emoji.evaluation.prompts import read_all
from minidalle2.worlds.emoji.judge import Judge
from minidalle2.worlds.emoji.labels import known_names, ranks
from minidalle2.worlds.emoji.words import BACKGROUNDS, WHITE

SEEDS = 2  # pictures of each prompt
BORDER = 64  # the border of a picture is 1/64 of its side wide, and at least one pixel


@dataclass(frozen=True)
class Natural:
    """A prompt and what its pictures should show."""

    prompt: str
    accepted: tuple[str, ...]  # names in CLDR's spelling
    background: int | None  # an index into BACKGROUNDS if the prompt names it

    @property
    def language(self) -> str:
        return "Chinese" if HAN.search(self.prompt) else "English"


@cache
def natural_prompts() -> tuple[Natural, ...]:
    """All prompts of natural.jsonl, in its order."""
    text = (Path(__file__).parent / "natural.jsonl").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in text.split("\n") if line]
    return tuple(
        Natural(
            row["prompt"],
            tuple(row["accepted"]),
            list(BACKGROUNDS).index(row["background"]) if "background" in row else None,
        )
        for row in rows
    )


def natural_rows(dalle2: DALLE2, judge: Judge, sampling: Sampling | None = None) -> Iterator[dict]:
    """Rows for all prompts and for each language: the names, and then the backgrounds.

    `n` is the number of prompts. The intervals are over prompts: they hold if both pictures of a
    prompt always agree, and are slightly too wide if they do not.
    """
    prompts = natural_prompts()
    images = draw_natural(dalle2, [one.prompt for one in prompts], sampling)
    rank = accepted_ranks(read_all(judge, images)[0], prompts)
    ground = read_backgrounds(images)
    named = torch.tensor([one.background is not None for one in prompts])
    wanted = torch.tensor([WHITE if one.background is None else one.background for one in prompts])
    for language in ("", "English", "Chinese"):
        chosen = torch.tensor([language in ("", one.language) for one in prompts])
        about = f", {language}" if language else ""
        yield from _share(f"name top-1{about}", rank < 1, chosen)
        yield from _share(f"name top-5{about}", rank < 5, chosen)
    right = ground == wanted.repeat(SEEDS)
    yield from _share("background right, named", right, named)
    yield from _share("background white, none named", right, ~named)


def draw_natural(dalle2: DALLE2, prompts: list[str], sampling: Sampling | None) -> Tensor:
    """P prompts → (SEEDS * P, 3, 128, 128) uint8: all prompts, and all again with other seeds."""
    drawn = draw_prompts(dalle2, prompts * SEEDS, sampling, activity="drawing natural prompts")
    return torch.cat([to_uint8(made.image128).cpu() for made in drawn])


def accepted_ranks(scores: Tensor, prompts: tuple[Natural, ...]) -> Tensor:
    """Scores of names (SEEDS * P, names) → the rank of the accepted name with the highest score."""
    place = {name.name: i for i, name in enumerate(known_names())}
    accepted = torch.zeros(len(prompts), scores.shape[1], dtype=torch.bool)
    for i, one in enumerate(prompts):
        accepted[i, [place[name] for name in one.accepted if name in place]] = True
    best = scores.masked_fill(~accepted.repeat(SEEDS, 1), float("-inf")).argmax(1)
    return ranks(scores, best)


def read_backgrounds(images: Tensor) -> Tensor:
    """(n, 3, S, S) uint8 → the index of the colour nearest to the median of the border (n,)."""
    width = max(1, images.shape[-1] // BORDER)
    inside = torch.zeros(images.shape[-2:], dtype=torch.bool)
    inside[width:-width, width:-width] = True
    border = images[:, :, ~inside].float().median(2).values / 255  # (n, 3)
    return torch.cdist(border, RGB).argmin(1)


def _share(name: str, right: Tensor, chosen: Tensor) -> Iterator[dict]:
    """A row about the chosen prompts (P,) from answers (SEEDS * P,)."""
    by_prompt = right.view(SEEDS, -1).double().mean(0)[chosen]
    if len(by_prompt):
        yield row("natural", name, "natural", by_prompt.sum().item(), len(by_prompt))
