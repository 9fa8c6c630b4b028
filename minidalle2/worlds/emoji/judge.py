"""The judge: convolutional networks that read the name and the style of an emoji.

(B, 3, 64, 64) → logits of the names that the split `train` contains, and of the six styles. The
judge trains on drawings of `train` only. So the pairs of name and style that are held out from the
stages are held out from the judge, too. It shares no weights with the networks that it judges.
Larger pictures are averaged to 64 px first.

Name and style have separate networks. A network that recognises the name can memorise which drawing
has which style, and is then wrong for held-out pairs. Therefore the style network sees windows of
21 px only, and averages over them. It has to recognise the style from the strokes.
"""

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minidalle2.blocks.convolutions import Residual, layer
from minidalle2.evaluation.judging import sized
from minidalle2.training.world import JudgeKind
from minidalle2.worlds.emoji.backgrounds import compose, sample_backgrounds
from minidalle2.worlds.emoji.drawings import draw
from minidalle2.worlds.emoji.labels import known_names, places_in, styles_of
from minidalle2.worlds.emoji.splits import members
from minidalle2.worlds.emoji.words import STYLES
from minidalle2.worlds.emoji.worn import moved, worn
from minidalle2.worlds.stored import shuffled

SIZE = 64
# Label smoothing (Szegedy et al. 2016), because a name has at most six drawings, which are soon
# memorised.
SMOOTHING = 0.1


@dataclass
class JudgeConfig:
    widths: tuple[int, ...] = (48, 96, 160, 256)  # channels at 32, 16, 8 and 4 px
    stroke_widths: tuple[int, ...] = (48, 64, 96)  # at 64, 32 and 16 px
    names: int = field(default_factory=lambda: len(known_names()))
    styles: int = len(STYLES)


class Judge(nn.Module):
    """(B, 3, 64, 64) → logits of names (B, names) and of styles (B, styles)."""

    def __init__(self, config: JudgeConfig):
        super().__init__()
        self.config = config
        w32, w16, w8, w4 = config.widths
        self.name = nn.Sequential(
            nn.PixelUnshuffle(2),
            *layer(12, w32, 1),  # (B, w32, 32, 32)
            *layer(w32, w16, 2),
            Residual(w16),  # (B, w16, 16, 16)
            *layer(w16, w8, 2),
            Residual(w8),  # (B, w8, 8, 8)
            *layer(w8, w4, 2),
            *layer(w4, w4, 1),  # (B, w4, 4, 4)
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.LayerNorm(w4),
            nn.Linear(w4, config.names),
        )
        s64, s32, s16 = config.stroke_widths
        self.style = nn.Sequential(
            *layer(3, s64, 1),  # (B, s64, 64, 64)
            *layer(s64, s32, 2),
            *layer(s32, s32, 1),  # (B, s32, 32, 32)
            *layer(s32, s16, 2),
            *layer(s16, s16, 1),  # (B, s16, 16, 16), each position sees 21 px
            nn.Conv2d(s16, config.styles, 1),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return self.name(images).float(), self.style(images).float()


def judge_data(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Drawings of `train` only, moved and degraded, and the indices of their names and styles."""
    rows = shuffled(members("train"), n, generator)
    drawn = moved(draw(rows, SIZE), generator)
    images = worn(compose(drawn, sample_backgrounds(rows, generator)), generator)
    return images, places_in(known_names(), rows), styles_of(rows)


def judge_loss(
    judge: Judge, batch: tuple[Tensor, Tensor, Tensor], generator: torch.Generator
) -> Tensor:
    """The sum of the cross-entropies of name and style."""
    device = next(judge.parameters()).device
    images, *truth = (part.to(device) for part in batch)
    logits = judge(images.contiguous(memory_format=torch.channels_last))
    return sum(
        F.cross_entropy(guess, right, label_smoothing=SMOOTHING)
        for guess, right in zip(logits, truth, strict=True)
    )


@torch.no_grad()
def read(judge: Judge, images: Tensor) -> tuple[Tensor, Tensor]:
    """(B, 3, S, S) in [-1, 1], S a multiple of 64 or less → logits of names and styles, on the CPU.

    Only core names have finite logits.
    """
    images = sized(images, SIZE).to(
        next(judge.parameters()).device, memory_format=torch.channels_last
    )
    name, style = judge(images)
    return only_core(name.cpu()), style.cpu()


def only_core(name: Tensor) -> Tensor:
    """(B, names) logits → the same, with -inf for symbols and clocks.

    No measurement asks for symbols and clocks.
    """
    other = torch.tensor([known.tier != "core" for known in known_names()])
    return name.masked_fill(other, float("-inf"))


JUDGE = JudgeKind(JudgeConfig, Judge, judge_data, judge_loss)
