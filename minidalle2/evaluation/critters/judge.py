"""The judge of critters: a small convolutional network that reads a picture back into a scene.

(B, 3, 64, 64) → critter or sprout, every attribute of both, of which those of the other kind don't
count. It is trained apart, on drawings of its own, and shares no weights with what it judges.
Larger pictures are averaged down to 64 px first.
"""

import random
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minidalle2.degradation import bsr
from minidalle2.evaluation.judging import READ, reader, sized
from minidalle2.worlds.critters.drawing import shift_of
from minidalle2.worlds.critters.scenes import OPTIONS, Critter, Scene, Sprout, sample
from minidalle2.worlds.critters.world import drawn
from minidalle2.worlds.stored import Stored, cache_folder

SIZE = 64
PICTURES = 6_400  # drawn once for the judge alone, and kept like those of the world
KINDS = (Critter, Sprout)
# Question → its answers; critters have all eyes that sprouts have.
ANSWERS = {"kind": KINDS, **OPTIONS[Sprout], **OPTIONS[Critter]}
NOT_ASKED = -1  # a sprout has no shape


@dataclass
class JudgeConfig:
    width: int = 32  # channels at 32 px; doubled further down


class Judge(nn.Module):
    """(B, 3, 64, 64) → {question: (B, answers) logits}."""

    def __init__(self, config: JudgeConfig):
        super().__init__()
        self.config = config
        self.body = reader(config.width)
        self.head = nn.Linear(READ, sum(map(len, ANSWERS.values())))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        flat = self.head(self.body(images)).float()
        parts = flat.split([len(answers) for answers in ANSWERS.values()], dim=1)
        return dict(zip(ANSWERS, parts, strict=True))


def answers_of(scenes: list[Scene]) -> dict[str, Tensor]:
    """Ground truth in the judge's terms: {question: (B,)}."""

    def answer(scene: Scene, question: str) -> int:
        if question == "kind":
            return KINDS.index(type(scene))
        value = getattr(scene, question, None)
        return NOT_ASKED if value is None else ANSWERS[question].index(value)

    return {
        question: torch.tensor([answer(scene, question) for scene in scenes])
        for question in ANSWERS
    }


def scenes_of(answers: dict[str, Tensor]) -> list[Scene]:
    """What the judge has read, as scenes; they need not exist (a tulip of no colour)."""

    def scene(b: int) -> Scene:
        kind = KINDS[answers["kind"][b]]
        return kind(**{name: ANSWERS[name][answers[name][b]] for name in OPTIONS[kind]})

    return [scene(b) for b in range(len(answers["kind"]))]


def judge_data(n: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
    """n of the judge's pictures, half of them worn as drawn ones may be, and the truth."""
    scenes, stored = _own_pictures()
    rows = torch.randint(len(scenes), (n,), generator=generator)
    images = stored.pictures(rows, SIZE)
    worn = torch.rand(n, 1, 1, 1, generator=generator) < 0.5
    images = torch.where(worn, bsr(images, generator), images)
    return images, answers_of([scenes[row] for row in rows.tolist()])


@cache
def _own_pictures() -> tuple[list[Scene], Stored]:
    scenes, shifts = own_scenes()
    return scenes, drawn(scenes, shifts, cache_folder())


def own_scenes() -> tuple[list[Scene], list[float]]:
    """What the judge learns from, and how far each stands off the middle. Half have a held-out
    pair of attributes, because the judge must read whatever is drawn."""
    rng = random.Random("judge")
    scenes = [sample(rng, held_out=i % 2 == 1) for i in range(PICTURES)]
    return scenes, [shift_of(rng) for _ in scenes]


def judge_loss(
    judge: Judge, batch: tuple[Tensor, dict[str, Tensor]], generator: torch.Generator
) -> Tensor:
    """The sum of the mean cross-entropies of all questions."""
    images, truth = batch
    device = next(judge.parameters()).device
    logits = judge(images.to(device, memory_format=torch.channels_last))
    loss = torch.zeros((), device=device)
    for question, answer in truth.items():
        asked = int((answer != NOT_ASKED).sum())  # none, where a batch has no sprout
        total = F.cross_entropy(
            logits[question], answer.to(device), ignore_index=NOT_ASKED, reduction="sum"
        )
        loss = loss + total / max(asked, 1)
    return loss


@torch.no_grad()
def read(judge: Judge, images: Tensor) -> list[Scene]:
    """(B, 3, S, S) pictures in [-1, 1], S a multiple of 64 or less → B scenes."""
    logits = judge(sized(images, SIZE).contiguous(memory_format=torch.channels_last))
    return scenes_of({name: logit.argmax(-1).cpu() for name, logit in logits.items()})
