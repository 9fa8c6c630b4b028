"""The critters world: drawn once, at its first use, and kept; afterwards batches are read.

A drawing takes 6 ms or more, too long for training, so all pictures are drawn at 128 px into the
cache (see stored.py), with their scenes beside them in a .jsonl. Training pictures are drawn as
groups of near misses: a batch takes pictures of any groups, or whole groups.
"""

import hashlib
import json
import math
import os
import random
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from minidalle2.worlds.contrasting import mostly_near_misses
from minidalle2.worlds.critters import drawing
from minidalle2.worlds.critters.captions import describe
from minidalle2.worlds.critters.scenes import (
    GROUP, SPLITS, Scene, check_split, sample, sample_group,
)  # fmt: skip
from minidalle2.worlds.stored import SIDE, Stored, cache_folder, shuffled, write_pictures

GROUPS = 800  # of training pictures: 6,400
OTHERS = 400  # pictures in each of the other splits
SEED = 0


class Critters:
    """`scenes[row]` is what picture `row` shows. Raises ValueError without the packages to draw."""

    name = "critters"
    enough = math.inf  # captions are chosen afresh

    def __init__(self, cache: Path | None = None, groups: int = GROUPS, others: int = OTHERS):
        self.scenes, shifts = planned(groups, others)
        parts = torch.arange(len(self.scenes)).split([groups * GROUP, others, others])
        self._rows = dict(zip(SPLITS, parts, strict=True))
        self._stored = drawn(self.scenes, shifts, cache or cache_folder())

    def captioned(
        self, n: int, generator: torch.Generator, split: str = "train", size: int = 32
    ) -> tuple[Tensor, list[str]]:
        """→ (n, 3, size, size) pictures in [-1, 1], size at most 128, and their captions.

        No picture comes twice in a batch before each has come once. Captions of `pairs` say
        everything, so that the held-out pair is among it.
        """
        rows = shuffled(self.rows(split), n, generator)
        return self._batch(rows, generator, size, everything=split == "pairs")

    def near_misses(
        self, n: int, generator: torch.Generator, size: int = 32
    ) -> tuple[Tensor, list[str]]:
        """As `captioned`, from `train`, in groups that differ in one attribute or one swap."""
        groups = self._rows["train"].view(-1, GROUP)
        chosen = shuffled(torch.arange(len(groups)), -(-n // GROUP), generator)
        return self._batch(groups[chosen].flatten()[:n], generator, size, everything=True)

    def contrasting(self, n: int, generator: torch.Generator) -> tuple[Tensor, list[str]]:
        """A batch for CLIP."""
        return mostly_near_misses(self, n, generator)

    def crops(self, n: int, generator: torch.Generator, size: int) -> Tensor:
        """→ (n, 3, size/4, size/4): random windows of training pictures of `size` px."""
        rows = shuffled(self._rows["train"], n, generator)
        return self._stored.crops(rows, generator, size)

    def rows(self, split: str) -> Tensor:
        """Numbers of a split's pictures: the places of their scenes in `scenes`."""
        check_split(split)
        return self._rows[split]

    def _batch(
        self, rows: Tensor, generator: torch.Generator, size: int, everything: bool = False
    ) -> tuple[Tensor, list[str]]:
        # Captions are chosen in plain Python, from the same seed as everything else.
        rng = random.Random(int(torch.randint(2**62, (), generator=generator)))
        captions = [describe(self.scenes[row], rng, everything) for row in rows.tolist()]
        return self._stored.pictures(rows, size), captions


def planned(groups: int, others: int) -> tuple[list[Scene], list[float]]:
    """→ all scenes, split after split, and how far each stands off the middle, in per cent.

    `seen` scenes follow the rules of training, but no training picture shows the same.
    """
    rng = random.Random(SEED)
    scenes = [scene for _ in range(groups) for scene in sample_group(rng)]
    train = set(scenes)
    while len(scenes) < groups * GROUP + others:
        if (scene := sample(rng)) not in train:
            scenes.append(scene)
    scenes += [sample(rng, held_out=True) for _ in range(others)]
    return scenes, [drawing.shift_of(rng) for _ in scenes]


def drawn(scenes: list[Scene], shifts: list[float], cache: Path) -> Stored:
    """The pictures as they were kept, or else drawn now and kept."""
    lines = [
        json.dumps({"kind": type(scene).__name__.lower(), **asdict(scene), "shift": shift})
        for scene, shift in zip(scenes, shifts, strict=True)
    ]
    path = cache / f"critters-{_fingerprint(lines)}.u8"
    if not path.is_file():
        drawing.check_packages()
        bar = tqdm(scenes, desc="drawing critters, once", unit="picture", disable=None)
        pictures = (drawing.draw(scene, s, SIDE) for scene, s in zip(bar, shifts, strict=True))
        write_pictures(path, pictures)
        beside = path.with_suffix(f".{os.getpid()}.tmp")
        beside.write_text("\n".join(lines) + "\n", encoding="utf-8")
        os.replace(beside, path.with_suffix(".jsonl"))
    return Stored(path, len(scenes))


def _fingerprint(lines: list[str]) -> str:
    """Of all that decides how the pictures look, but for the packages that draw them."""
    tables = [value for name, value in sorted(vars(drawing).items()) if name.isupper()]
    return hashlib.sha256(json.dumps([SIDE, tables, lines]).encode()).hexdigest()[:16]
