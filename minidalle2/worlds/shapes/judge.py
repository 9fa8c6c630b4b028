"""The judge: a small convolutional network that reads the attributes of a picture of shapes.

(B, 3, 64, 64) → the shape at each of the nine places (or none), its colour and size, the
background, and the letters on a sign. The judge is trained separately, on real pictures only, and
shares no weights with the networks that it judges. Larger pictures are averaged to 64 px first.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minidalle2.evaluation.judging import READ, reader, sized
from minidalle2.training.world import JudgeKind
from minidalle2.worlds.shapes.drawing import draw
from minidalle2.worlds.shapes.scenes import (
    BACKGROUNDS,
    COLOURS,
    PLACES,
    SHAPES,
    SIZES,
    SLOTS,
    WORDS,
    Scenes,
    concatenate,
    sample_scenes,
)

SIZE = 64
LETTERS = " abcdefghijklmnopqrstuvwxyz"
LONGEST_WORD = max(map(len, WORDS))
HEADS = {  # name: (number of questions, number of possible answers)
    "shape": (len(PLACES), len(SHAPES) + 1),  # the last answer means: no object
    "colour": (len(PLACES), len(COLOURS)),
    "size": (len(PLACES), len(SIZES)),
    "background": (1, len(BACKGROUNDS)),
    "letters": (LONGEST_WORD, len(LETTERS)),  # spaces only mean: no sign
}
NOTHING = len(SHAPES)


@dataclass
class JudgeConfig:
    width: int = 32  # channels at 32 px; twice as many at smaller sizes


class Judge(nn.Module):
    """(B, 3, 64, 64) → {head: (B, questions, answers) logits}."""

    def __init__(self, config: JudgeConfig):
        super().__init__()
        self.config = config
        self.body = reader(config.width)
        self.head = nn.Linear(READ, sum(q * a for q, a in HEADS.values()))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        flat = self.head(self.body(images)).float()
        parts = flat.split([q * a for q, a in HEADS.values()], dim=1)
        return {
            name: part.reshape(-1, *HEADS[name]) for name, part in zip(HEADS, parts, strict=True)
        }


def answers_of(scenes: Scenes) -> dict[str, Tensor]:
    """The true answers {head: (B, questions)}; -1 for questions that have no answer."""
    n, places = len(scenes), torch.full((len(scenes), len(PLACES)), -1)
    answers = {"shape": places.clone().fill_(NOTHING), "colour": places.clone(), "size": places}
    for k in range(SLOTS):
        rows = (scenes.shape[:, k] >= 0).nonzero()[:, 0]
        for name in ("shape", "colour", "size"):
            answers[name][rows, scenes.place[rows, k]] = getattr(scenes, name)[rows, k]
    spelled = [[LETTERS.index(c) for c in word.ljust(LONGEST_WORD)] for word in (*WORDS, "")]
    answers["letters"] = torch.tensor(spelled)[scenes.word]  # word -1 selects the last row, no sign
    answers["background"] = scenes.background.reshape(n, 1)
    return answers


def judge_data(n: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
    """Returns new pictures and their true answers.

    The judge must be able to read every drawing. So its pictures contain all pairs of shape and
    colour, also those that are held out from the other stages.
    """
    parts = [
        sample_scenes(n - n // 2, "train", generator),
        sample_scenes(n // 2, "pairs", generator),
    ]
    images = torch.cat([_worn(draw(part, SIZE), generator) for part in parts])
    return images, answers_of(concatenate(parts))


def judge_loss(
    judge: Judge, batch: tuple[Tensor, dict[str, Tensor]], generator: torch.Generator
) -> Tensor:
    """The sum of the mean cross-entropies of all heads."""
    images, truth = batch
    device = next(judge.parameters()).device
    logits = judge(images.to(device, memory_format=torch.channels_last))
    return sum(
        F.cross_entropy(
            logits[name].flatten(0, 1), truth[name].flatten().to(device), ignore_index=-1
        )
        for name in HEADS
    )


def _worn(images: Tensor, generator: torch.Generator) -> Tensor:
    """Degrades half of the pictures slightly (soft, noisy, tinted), as drawings may be."""
    n = len(images)
    soft = F.interpolate(F.avg_pool2d(images, 2), scale_factor=2, mode="bilinear")
    amount = torch.rand(n, 1, 1, 1, generator=generator) * (
        torch.rand(n, 1, 1, 1, generator=generator) < 0.5
    )
    noise = torch.randn(images.shape, generator=generator) * 0.1
    tint = (torch.rand(n, 3, 1, 1, generator=generator) - 0.5) * 0.15
    return torch.lerp(images, soft, amount) + amount * (noise + tint)


@torch.no_grad()
def read(judge: Judge, images: Tensor) -> dict[str, Tensor]:
    """(B, 3, S, S) pictures in [-1, 1], S a multiple of 64 or less → {head: (B, questions)}."""
    logits = judge(sized(images, SIZE).contiguous(memory_format=torch.channels_last))
    return {name: logit.argmax(-1).cpu() for name, logit in logits.items()}


def word_of(letters: Tensor) -> str:
    """(LONGEST_WORD,) indices of letters → the word."""
    return "".join(LETTERS[i] for i in letters.tolist()).strip()


JUDGE = JudgeKind(JudgeConfig, Judge, judge_data, judge_loss)
