"""Prompt accuracy: does the judge read the name and the style that the prompt asks for?

The prompts contain only names that the judge knows: drawings of `seen`, and of `pairs`, whose names
are known in other styles, to the judge as to the other stages. The judge's accuracy on the real
drawings is the upper limit. Letters: n pictures, S pixels a side.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from minidalle2.dalle2 import DALLE2, Sampling
from minidalle2.evaluation.drawn import BATCH, draw_prompts
from minidalle2.storage.pictures import to_uint8
from minidalle2.storage.progress import each
from minidalle2.worlds.emoji.backgrounds import compose
from minidalle2.worlds.emoji.drawings import draw
from minidalle2.worlds.emoji.judge import SIZE, Judge, read
from minidalle2.worlds.emoji.labels import known_names, places_in, ranks, styles_of
from minidalle2.worlds.emoji.names import Name, drawings
from minidalle2.worlds.emoji.nouns import spoken, with_article
from minidalle2.worlds.emoji.words import STYLES, WHITE

LANGUAGES = ("English", "Chinese")


@dataclass
class Drawn:
    """Drawn pictures and what they should show."""

    rows: Tensor  # (n,) rows of `drawings()` that were asked for
    prompts: list[str]
    images: Tensor  # (n, 3, 128, 128) uint8
    small: Tensor  # (n, 3, 32, 32) uint8, before the upsamplers


@dataclass
class Reading:
    """What the judge reads in n pictures."""

    name_rank: Tensor  # (n,) 0 if the right name has the highest score
    style_rank: Tensor  # (n,)
    name: list[str]  # the name with the highest score
    style: list[str]  # the style with the highest score


def prompt_of(name: Name, style: str, language: str) -> str:
    """The prompt for a name in a style, phrased like training captions: 'a crab in noto style'."""
    if language == "Chinese":
        return f"{style}风格的{name.name_zh.lower()}"
    return f"{with_article(spoken(name.name))} in {style} style"


def sample_rows(rows: Tensor, n: int, seed: int) -> Tensor:
    """n different random rows, or all rows if there are fewer."""
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))
    return rows[order[:n]]


def draw_rows(
    dalle2: DALLE2, rows: Tensor, language: str, sampling: Sampling | None = None
) -> Drawn:
    """Draws rows of `drawings()` (n,) from prompts in a language, with seeds 0, 1, …"""
    prompts = [prompt_of(*drawings()[row], language) for row in rows.tolist()]
    drawn = [
        (to_uint8(made.image128).cpu(), to_uint8(made.image32).cpu())
        for made in draw_prompts(dalle2, prompts, sampling, activity=f"drawing, {language}")
    ]
    images, small = (torch.cat(sizes) for sizes in zip(*drawn, strict=True))
    return Drawn(rows, prompts, images, small)


def real_pictures(rows: Tensor, size: int = SIZE) -> Tensor:
    """Rows of `drawings()` (n,) → (n, 3, size, size) in [-1, 1], on white."""
    return compose(draw(rows, size), torch.full_like(rows, WHITE))


def read_all(judge: Judge, images: Tensor) -> tuple[Tensor, Tensor]:
    """Pictures (n, 3, S, S), in [-1, 1] or uint8 → logits of names and styles, on the CPU."""
    parts = []
    for part in each(images.split(BATCH), "reading pictures"):
        part = part.float() / 127.5 - 1 if part.dtype == torch.uint8 else part
        parts.append(read(judge, part))
    name, style = (torch.cat(answers) for answers in zip(*parts, strict=True))
    return name, style


def judged(judge: Judge, rows: Tensor, images: Tensor) -> Reading:
    """The reading of pictures (n, 3, S, S), in [-1, 1] or uint8, that should show `rows` (n,)."""
    name, style = read_all(judge, images)
    return Reading(
        ranks(name, places_in(known_names(), rows)),
        ranks(style, styles_of(rows)),
        [spoken(known_names()[i].name) for i in name.argmax(1).tolist()],
        [STYLES[i] for i in style.argmax(1).tolist()],
    )
