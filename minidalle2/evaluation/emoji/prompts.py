"""Prompt accuracy: does the judge read the thing and the style that were asked for?

Only names that the judge knows can be asked for: drawings of `seen`, and held-out `pairs`, whose
names it has seen in other styles, as the stages have. What it makes of the real drawings of both
is the ceiling.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from minidalle2.dalle2 import DALLE2, Sampling
from minidalle2.evaluation.drawn import BATCH, draw_prompts
from minidalle2.evaluation.emoji.judge import SIZE, Judge, read
from minidalle2.evaluation.emoji.labels import (
    known_names, places_in, ranks, styles_of,
)  # fmt: skip
from minidalle2.pictures import to_uint8
from minidalle2.training.precision import half_precision
from minidalle2.worlds.emoji.backgrounds import compose
from minidalle2.worlds.emoji.captions import spoken, with_article
from minidalle2.worlds.emoji.names import Name, drawings
from minidalle2.worlds.emoji.words import STYLES, WHITE
from minidalle2.worlds.emoji.world import draw

LANGUAGES = ("English", "Chinese")


@dataclass
class Drawn:
    """Pictures, and what they should show."""

    rows: Tensor  # (n,) the drawings asked for, rows of `drawings()`
    prompts: list[str]
    images: Tensor  # (n, 3, 128, 128) uint8
    small: Tensor  # (n, 3, 32, 32) uint8, what the upsamplers enlarged


@dataclass
class Reading:
    """What the judge made of n pictures."""

    name_rank: Tensor  # (n,) 0 where the right name came first
    style_rank: Tensor  # (n,)
    name: list[str]  # that came first
    style: list[str]


def prompt_of(name: Name, style: str, language: str) -> str:
    """As training's captions say it: 'a crab in noto style'."""
    if language == "Chinese":
        return f"{style}风格的{name.name_zh.lower()}"
    return f"{with_article(spoken(name.name))} in {style} style"


def sample_rows(rows: Tensor, n: int, seed: int) -> Tensor:
    """n of the rows, or all if there are fewer, none twice."""
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))
    return rows[order[:n]]


def draw_rows(
    dalle2: DALLE2, rows: Tensor, language: str, sampling: Sampling | None = None
) -> Drawn:
    """(n,) rows of `drawings()`, asked for in a language, with seeds 0, 1, …"""
    prompts = [prompt_of(*drawings()[row], language) for row in rows.tolist()]
    drawn = [
        (to_uint8(made.image128).cpu(), to_uint8(made.image32).cpu())
        for made in draw_prompts(dalle2, prompts, sampling)
    ]
    images, small = (torch.cat(sizes) for sizes in zip(*drawn, strict=True))
    return Drawn(rows, prompts, images, small)


def real_pictures(rows: Tensor, size: int = SIZE) -> Tensor:
    """(n,) rows of `drawings()` → (n, 3, size, size) in [-1, 1], on white."""
    return compose(draw(rows, size), torch.full_like(rows, WHITE))


def judged(judge: Judge, rows: Tensor, images: Tensor) -> Reading:
    """(n,) drawings asked for, (n, 3, S, S) pictures in [-1, 1] or uint8."""
    device, parts = next(judge.parameters()).device, []
    for part in images.split(BATCH):
        part = part.float() / 127.5 - 1 if part.dtype == torch.uint8 else part
        with half_precision(device):
            parts.append(read(judge, part))
    name, style = (torch.cat(answers) for answers in zip(*parts, strict=True))
    return Reading(
        ranks(name, places_in(known_names(), rows)),
        ranks(style, styles_of(rows)),
        [spoken(known_names()[i].name) for i in name.argmax(1).tolist()],
        [STYLES[i] for i in style.argmax(1).tolist()],
    )
