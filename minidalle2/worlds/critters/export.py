"""Scenes → a folder of PNGs with metadata.jsonl, as of the shapes world.

A line of metadata.jsonl: `file_name`, `text` (the caption), `kind` (critter or sprout), and all
that the picture shows: `shape`, `colour`, `top`, `top_colour` or `plant`, `bloom`, `pot`,
`pot_colour`, and `eyes`, `mouth`, `background`.
"""

import json
import random
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from minidalle2.worlds.critters import drawing, scenes
from minidalle2.worlds.critters.captions import describe
from minidalle2.worlds.shapes.export import remove_pictures_from


def check_split(split: str) -> None:
    """Raises ValueError for an unknown split, and where what draws critters is not installed."""
    scenes.check_split(split)
    drawing.check_packages()


def export(split: str, n: int, size: int, seed: int, folder: Path) -> Iterator[int]:
    """Write n pictures of `size` px; yields how many are written so far.

    Picture i depends on split and seed only, not on n, and shows the same scene at every size.
    """
    check_split(split)
    remove_pictures_from(n, folder)
    held_out = split == "pairs"
    with open(folder / "metadata.jsonl", "w", encoding="utf-8") as metadata:
        for i in range(n):
            rng = random.Random(f"{split} {seed} {i}")
            scene = scenes.sample(rng, held_out)
            file_name, text = f"{i:06d}.png", describe(scene, rng, everything=held_out)
            drawing.draw(scene, drawing.shift_of(rng), size).save(folder / file_name)
            facts = {"kind": type(scene).__name__.lower(), **asdict(scene)}
            metadata.write(json.dumps({"file_name": file_name, "text": text, **facts}) + "\n")
            yield i + 1
