"""Exercises 01: pictures and scenes."""

from collections.abc import Callable

import torch

from minidalle2.pictures import to_uint8
from minidalle2.teaching.checks.compare import call, compare
from minidalle2.worlds.shapes.scenes import HELD_OUT_COLOUR


def check_coverage(coverage: Callable, seed: int = 0) -> None:
    """coverage(distance, pixel) → how much of each pixel is inside."""
    distance = torch.rand(40, generator=torch.Generator().manual_seed(seed)) - 0.5
    pixel, inside = 0.125, 0.5 - distance / 0.125
    compare(
        "coverage", call("coverage", coverage, distance, pixel), inside.clamp(0, 1),
        {
            "some values leave 0 to 1; a pixel can't be more than covered": inside,
            "inside and outside are exchanged; which sign has the distance inside?":
                (0.5 + distance / pixel).clamp(0, 1),
            "edges are all or nothing; what is half covered should be a half":
                (distance < 0).float(),
            "the distance is counted in pictures, not in pixels":
                (0.5 - distance).clamp(0, 1),
        },
    )  # fmt: skip


def check_holds_held_out(holds_held_out: Callable, seed: int = 0) -> None:
    """holds_held_out(shape, colour) → (B,) bool; -1 marks an empty slot."""
    generator = torch.Generator().manual_seed(seed)
    shape = torch.randint(-1, 8, (200, 3), generator=generator)
    colour = torch.randint(0, 8, (200, 3), generator=generator)
    colour[:100] = HELD_OUT_COLOUR[shape[:100].clamp(min=0)]
    colour[50:100, 1:] = (colour[50:100, 1:] + 1) % 8
    # What an empty slot is taken for, where it is not left out: the last shape of the table.
    colour[:8], shape[:8] = HELD_OUT_COLOUR[-1], -1
    shape[:8, 0], colour[:8, 0] = torch.arange(8), (HELD_OUT_COLOUR + 1) % 8
    match = colour == HELD_OUT_COLOUR[shape.clamp(min=0)]
    compare(
        "holds_held_out", call("holds_held_out", holds_held_out, shape, colour),
        (match & (shape >= 0)).any(1),
        {
            "empty slots (-1) count as objects; leave them out":
                (colour == HELD_OUT_COLOUR[shape]).any(1),
            "empty slots (-1) are taken for shape 0; leave them out": match.any(1),
            "one held-out object is enough; all of them are asked for":
                (match | (shape < 0)).all(1),
            "only the first object is looked at": match[:, 0] & (shape[:, 0] >= 0),
        },
    )  # fmt: skip


def check_relation(relation: Callable, seed: int = 0) -> None:
    """relation(x1, y1, x2, y2) → where the first stands, seen from the second."""
    truths = {
        (0.25, 0.5, 0.75, 0.5): "left of",
        (0.75, 0.5, 0.25, 0.52): "right of",
        (0.5, 0.25, 0.52, 0.75): "above",
        (0.5, 0.75, 0.48, 0.25): "below",
    }
    upside = {"above": "below", "below": "above"}
    mirrored = {"left of": "right of", "right of": "left of"}
    for place, truth in list(truths.items())[seed % 4 :] + list(truths.items())[: seed % 4]:
        compare(
            f"relation{place}", relation(*place), truth,
            {
                "upside down; y is counted from the top": upside.get(truth, ""),
                "mirrored; x is counted from the left": mirrored.get(truth, ""),
            },
        )  # fmt: skip


def check_to_bytes(to_bytes: Callable, seed: int = 0) -> None:
    """to_bytes(images) → uint8, from [-1, 1] and a little beyond."""
    images = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(seed)) * 2.2 - 1.1
    images[0, 0, :4] = torch.tensor([-1.0, 1.0, 0.0, 1.006])
    scaled = (images + 1) * 127.5
    compare(
        "to_bytes", call("to_bytes", to_bytes, images), to_uint8(images),
        {
            "numbers are cut off, not rounded: every picture gets darker":
                scaled.clamp(0, 255).to(torch.uint8),
            "values beyond the range wrap around: the brightest pixels turn black":
                scaled.round().to(torch.int64).remainder(256).to(torch.uint8),
            "the range is taken to begin at 0; pictures are in [-1, 1]":
                (images * 255).clamp(0, 255).round().to(torch.uint8),
        },
    )  # fmt: skip
