"""Scenes → a folder of PNG files with metadata.jsonl, which Hugging Face's `imagefolder` loads.

A line of metadata.jsonl has `file_name`, `text` (the caption), `objects`, `background` and `words`
(on signs). An object has shape, color, size, x and y. x and y are the centre as a share of the
side, measured from the top left corner.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from minidalle2.storage.pictures import save_png, to_uint8
from minidalle2.worlds.batches import caption_rng
from minidalle2.worlds.shapes.captions import describe
from minidalle2.worlds.shapes.drawing import draw
from minidalle2.worlds.shapes.scenes import (
    BACKGROUNDS,
    COLOURS,
    SHAPES,
    SIZES,
    SPLITS,
    WORDS,
    Scenes,
    sample_scenes,
)

CHUNK = 256  # scenes sampled at a time
PIXELS = 1 << 20  # approximate number of pixels drawn at a time


def check_split(split: str) -> None:
    """Raises ValueError for an unknown split."""
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}; the shapes world has {', '.join(SPLITS)}")


def export(split: str, n: int, size: int, seed: int, folder: Path) -> Iterator[int]:
    """Writes n pictures of `size` px into an empty folder; yields the number written so far.

    Picture i depends on the split and the seed only, not on n. It shows the same scene at every
    size.
    """
    check_split(split)
    at_once = max(1, min(CHUNK, PIXELS // size**2))
    with open(folder / "metadata.jsonl", "w", encoding="utf-8") as metadata:
        for start in range(0, n, CHUNK):
            scenes, captions = _sample(split, seed, start // CHUNK, min(CHUNK, n - start))
            for i in range(0, len(scenes), at_once):
                part = slice(i, i + at_once)
                _write(scenes[part], captions[part], start + i, size, folder, metadata)
                yield start + min(i + at_once, len(scenes))


def _sample(split: str, seed: int, chunk: int, n: int) -> tuple[Scenes, list[str]]:
    """The first n scenes of a chunk of CHUNK scenes, with captions."""
    generator = torch.Generator().manual_seed((seed * 1_000_003 + chunk) % 2**63)
    scenes = sample_scenes(CHUNK, split, generator)
    return scenes[:n], describe(scenes, caption_rng(generator), split)[:n]


def _write(
    scenes: Scenes, captions: list[str], start: int, size: int, folder: Path, metadata
) -> None:
    pictures: Tensor = to_uint8(draw(scenes, size))
    for i, (picture, facts) in enumerate(zip(pictures, ground_truth(scenes), strict=True)):
        file_name = f"{start + i:06d}.png"
        save_png(picture, folder / file_name)
        metadata.write(json.dumps({"file_name": file_name, "text": captions[i], **facts}) + "\n")


def ground_truth(scenes: Scenes) -> list[dict]:
    """The objects, background and words of each scene, as metadata.jsonl contains them."""
    columns = (scenes.shape, scenes.colour, scenes.size, scenes.x, scenes.y)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    signs = zip(scenes.background.tolist(), scenes.word.tolist(), strict=True)
    return [
        {
            "objects": [
                {
                    "shape": SHAPES[shape],
                    "color": COLOURS[colour],
                    "size": SIZES[size],
                    "x": round(x, 4),
                    "y": round(y, 4),
                }
                for shape, colour, size, x, y in zip(*row, strict=True)
                if shape >= 0
            ],
            "background": BACKGROUNDS[background],
            "words": [WORDS[word]] if word >= 0 else [],
        }
        for row, (background, word) in zip(rows, signs, strict=True)
    ]
