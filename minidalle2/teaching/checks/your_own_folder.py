"""Exercises 17: the lines of a folder, what is held out of it, squares, and twins."""

import hashlib
import json
from collections.abc import Callable

import torch
import torch.nn.functional as F

from minidalle2.teaching.checks.compare import CheckFailed, call, compare
from minidalle2.worlds.folder.world import HELD_OUT


def check_metadata_line(metadata_line: Callable, seed: int = 0) -> None:
    """metadata_line(file_name, text) → a line of metadata.jsonl."""
    for text in ("a red fox", 'a fox that says "hello"', "two lines:\none fox", "狐狸")[seed:]:
        line = call("metadata_line", metadata_line, "fox.png", text)
        if not isinstance(line, str):
            raise CheckFailed("metadata_line: a line is a str; json.dumps makes one")
        if "\n" in line.strip():
            raise CheckFailed("metadata_line: the caption's line end breaks the line in two")
        try:
            facts = json.loads(line)
        except ValueError as error:
            raise CheckFailed(
                f"metadata_line: {line!r} is no JSON ({error}); quotes inside a caption, for one, "
                "need an escape"
            ) from None
        compare(
            f"metadata_line of {text!r}", facts, {"file_name": "fox.png", "text": text},
            {
                "the captions' key is `text`": {"file_name": "fox.png", "caption": text},
                "the files' key is `file_name`": {"file": "fox.png", "text": text},
            },
        )  # fmt: skip


def check_held_out(held_out: Callable, seed: int = 0) -> None:
    """held_out(file) → whether the hash of its name is among the lowest twentieth."""
    files = [f"{seed}/{k:04}.png" for k in range(400)]

    def hashed(order: str = "big", places: slice = slice(8)) -> torch.Tensor:
        parts = (hashlib.sha256(file.encode()).digest()[places] for file in files)
        return torch.tensor([int.from_bytes(p, order) / 2 ** (8 * len(p)) for p in parts])

    compare(
        "held_out", torch.tensor([bool(call("held_out", held_out, file)) for file in files]),
        hashed() < HELD_OUT,
        {
            "Python's own hash differs from run to run, and with it what is held out":
                torch.tensor([hash(file) / 2**64 % 1 < HELD_OUT for file in files]),
            "every twentieth in order: one file more, and all later ones change sides":
                torch.arange(400) % 20 == 0,
            "the bytes are read from the wrong end; `big` is asked for":
                hashed("little") < HELD_OUT,
            "the last bytes are taken; the first eight are asked for":
                hashed(places=slice(-8, None)) < HELD_OUT,
            "the highest twentieth is held out": hashed() > 1 - HELD_OUT,
            "nearly all are held out": hashed() >= HELD_OUT,
        },
    )  # fmt: skip


def check_square(square: Callable, seed: int = 0) -> None:
    """square(picture) → (3, S, S), the middle of (3, H, W), S the shorter side."""
    for high, wide in ((4, 10), (9 + 2 * seed, 5)):
        picture = torch.rand(3, high, wide, generator=torch.Generator().manual_seed(seed))
        side, top, left = min(high, wide), max(0, high - wide) // 2, max(0, wide - high) // 2
        squashed = F.interpolate(picture[None], (side, side), mode="bilinear")[0]
        compare(
            f"square of {high} x {wide}", call("square", square, picture),
            picture[:, top : top + side, left : left + side],
            {
                "the upper left corner is cut out; things mostly stand in the middle":
                    picture[:, :side, :side],
                "the whole picture is squashed": squashed,
                "the lower right corner is cut out": picture[:, high - side :, wide - side :],
                "height and width are exchanged":
                    picture[:, left : left + side, top : top + side],
            },
        )  # fmt: skip


def check_twins(twins: Callable, seed: int = 0) -> None:
    """twins(pictures, near) → [(i, j), …], i < j, closer than `near` (root mean square)."""
    pictures = torch.rand(7, 3, 4, 4, generator=torch.Generator().manual_seed(seed))
    pictures[2 + seed] = pictures[0] + 0.01
    pictures[6] = pictures[1]
    close = (pictures[:, None] - pictures).square().mean((2, 3, 4)).sqrt() < 0.05
    pairs = [(i, j) for i in range(7) for j in range(7) if close[i, j]]
    compare(
        "twins", [tuple(pair) for pair in call("twins", twins, pictures, 0.05)],
        [(i, j) for i, j in pairs if i < j],
        {
            "a picture is no twin of its own": [(i, j) for i, j in pairs if i <= j],
            "each pair comes twice": [(i, j) for i, j in pairs if i != j],
            "each pair comes twice, and each picture with itself": pairs,
            "only equal pictures are found; saved again, a picture is nearly equal": [(1, 6)],
        },
    )  # fmt: skip
