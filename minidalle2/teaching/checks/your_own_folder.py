"""Checks of exercises 17: metadata, held-out files, square pictures, and near-duplicates."""

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
            raise CheckFailed("metadata_line: A line is a str. `json.dumps` returns one.")
        if "\n" in line.strip():
            raise CheckFailed("metadata_line: A line break in the caption breaks the line in two.")
        try:
            facts = json.loads(line)
        except ValueError as error:
            raise CheckFailed(
                f"metadata_line: {line!r} is not valid JSON ({error}). For example, quotation "
                "marks in a caption need an escape."
            ) from None
        mistakes = {
            "The key of the caption must be `text`.": {"file_name": "fox.png", "caption": text},
            "The key of the file must be `file_name`.": {"file": "fox.png", "text": text},
        }
        truth = {"file_name": "fox.png", "text": text}
        compare(f"metadata_line of {text!r}", facts, truth, mistakes)


def check_held_out(held_out: Callable, seed: int = 0) -> None:
    """held_out(file) → whether the hash of its name is in the lowest twentieth of all hashes."""
    files = [f"{seed}/{k:04}.png" for k in range(400)]

    def hashed(order: str = "big", places: slice = slice(8)) -> torch.Tensor:
        parts = (hashlib.sha256(file.encode()).digest()[places] for file in files)
        return torch.tensor([int.from_bytes(p, order) / 2 ** (8 * len(p)) for p in parts])

    python_hash = torch.tensor([hash(file) / 2**64 % 1 < HELD_OUT for file in files])
    every_twentieth = torch.arange(400) % 20 == 0
    little_endian = hashed("little") < HELD_OUT
    last_bytes = hashed(places=slice(-8, None)) < HELD_OUT
    mistakes = {
        "Python's `hash` differs between runs. Each would hold out other files.": python_hash,
        "Every twentieth in order is held out. A new file shifts all later ones.": every_twentieth,
        "The bytes are read from the wrong end. The first one counts most.": little_endian,
        "The last eight bytes are read. Read the first eight.": last_bytes,
        "The highest twentieth is held out. Use the lowest.": hashed() > 1 - HELD_OUT,
        "Almost all files are held out.": hashed() >= HELD_OUT,
    }
    answer = torch.tensor([bool(call("held_out", held_out, file)) for file in files])
    compare("held_out", answer, hashed() < HELD_OUT, mistakes)


def check_square(square: Callable, seed: int = 0) -> None:
    """square(picture (3, H, W)) → (3, S, S), the middle. S is the shorter side."""
    for high, wide in ((4, 10), (9 + 2 * seed, 5)):
        picture = torch.rand(3, high, wide, generator=torch.Generator().manual_seed(seed))
        side, top, left = min(high, wide), max(0, high - wide) // 2, max(0, wide - high) // 2
        squashed = F.interpolate(picture[None], (side, side), mode="bilinear")[0]
        upper_left = picture[:, :side, :side]
        lower_right = picture[:, high - side :, wide - side :]
        exchanged = picture[:, left : left + side, top : top + side]
        mistakes = {
            "The upper left corner is cut out. Cut out the middle.": upper_left,
            "The whole picture is squashed into a square. Cut out the middle.": squashed,
            "The lower right corner is cut out. Cut out the middle.": lower_right,
            "Height and width are exchanged.": exchanged,
        }
        truth = picture[:, top : top + side, left : left + side]
        compare(f"square of {high} x {wide}", call("square", square, picture), truth, mistakes)


def check_twins(twins: Callable, seed: int = 0) -> None:
    """twins(pictures (N, 3, S, S), near) → [(i, j), …] with i < j, in order.

    The root mean square difference of each pair is less than near.
    """
    pictures = torch.rand(7, 3, 4, 4, generator=torch.Generator().manual_seed(seed))
    pictures[2 + seed] = pictures[0] + 0.01
    pictures[6] = pictures[1]
    close = (pictures[:, None] - pictures).square().mean((2, 3, 4)).sqrt() < 0.05
    pairs = [(i, j) for i in range(7) for j in range(7) if close[i, j]]
    with_itself = [(i, j) for i, j in pairs if i <= j]
    both_orders = [(i, j) for i, j in pairs if i != j]
    mistakes = {
        "A picture is not a twin of itself.": with_itself,
        "Each pair is listed twice.": both_orders,
        "Each pair is listed twice, and each picture with itself.": pairs,
        "Only equal pictures are found. A file that is saved again differs a little.": [(1, 6)],
    }
    answer = [tuple(pair) for pair in call("twins", twins, pictures, 0.05)]
    compare("twins", answer, [(i, j) for i, j in pairs if i < j], mistakes)
