"""Checks of exercises 01: pictures and scenes."""

from collections.abc import Callable

import torch

from minidalle2.storage.pictures import to_uint8
from minidalle2.teaching.checks.compare import call, compare
from minidalle2.worlds.shapes.scenes import HELD_OUT_COLOUR


def check_coverage(coverage: Callable, seed: int = 0) -> None:
    """coverage(distance (N,), pixel) → (N,), the share of each pixel that is inside the shape."""
    distance = torch.rand(40, generator=torch.Generator().manual_seed(seed)) - 0.5
    pixel = 0.125
    unclamped = 0.5 - distance / pixel
    exchanged = (0.5 + distance / pixel).clamp(0, 1)
    hard_edges = (distance < 0).float()
    in_pictures = (0.5 - distance).clamp(0, 1)
    mistakes = {
        "Some values are below 0 or above 1. A pixel cannot be more than covered.": unclamped,
        "Inside and outside are exchanged. What is the sign of the distance inside?": exchanged,
        "A pixel is either 0 or 1. A pixel that is half covered should be 0.5.": hard_edges,
        "The distance is in sides of the picture. Convert it to pixels first.": in_pictures,
    }
    answer = call("coverage", coverage, distance, pixel)
    compare("coverage", answer, unclamped.clamp(0, 1), mistakes)


def check_holds_held_out(holds_held_out: Callable, seed: int = 0) -> None:
    """holds_held_out(shape (B, 3), colour (B, 3)) → (B,) bool. Shape -1 marks an empty slot."""
    generator = torch.Generator().manual_seed(seed)
    shape = torch.randint(-1, 8, (200, 3), generator=generator)
    colour = torch.randint(0, 8, (200, 3), generator=generator)
    colour[:100] = HELD_OUT_COLOUR[shape[:100].clamp(min=0)]
    colour[50:100, 1:] = (colour[50:100, 1:] + 1) % 8
    # Eight scenes without a held-out object. Their empty slots have the held-out colour of the last
    # shape, which index -1 reads.
    colour[:8], shape[:8] = HELD_OUT_COLOUR[-1], -1
    shape[:8, 0], colour[:8, 0] = torch.arange(8), (HELD_OUT_COLOUR + 1) % 8

    present = shape >= 0
    match = colour == HELD_OUT_COLOUR[shape.clamp(min=0)]
    last_shape = (colour == HELD_OUT_COLOUR[shape]).any(1)
    mistakes = {
        "In empty slots, shape -1 reads the last entry of the table. Leave them out.": last_shape,
        "Empty slots count as objects of shape 0. Leave them out.": match.any(1),
        "All objects must be held out here. One is enough.": (match | ~present).all(1),
        "Only the first object of each scene is checked.": match[:, 0] & present[:, 0],
    }
    answer = call("holds_held_out", holds_held_out, shape, colour)
    compare("holds_held_out", answer, (match & present).any(1), mistakes)


def check_relation(relation: Callable, seed: int = 0) -> None:
    """relation(x1, y1, x2, y2) → where the first object stands, seen from the second."""
    truths = {
        (0.25, 0.5, 0.75, 0.5): "left of",
        (0.75, 0.5, 0.25, 0.52): "right of",
        (0.5, 0.25, 0.52, 0.75): "above",
        (0.5, 0.75, 0.48, 0.25): "below",
    }
    upside_down = {"above": "below", "below": "above"}
    mirrored = {"left of": "right of", "right of": "left of"}
    for place, truth in list(truths.items())[seed % 4 :] + list(truths.items())[: seed % 4]:
        mistakes = {
            "Above and below are exchanged. y grows downward.": upside_down.get(truth, ""),
            "Left and right are exchanged. x grows to the right.": mirrored.get(truth, ""),
        }
        compare(f"relation{place}", relation(*place), truth, mistakes)


def check_to_bytes(to_bytes: Callable, seed: int = 0) -> None:
    """to_bytes(images) → uint8 of the same shape, for values in [-1, 1] and slightly outside."""
    images = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(seed)) * 2.2 - 1.1
    images[0, 0, :4] = torch.tensor([-1.0, 1.0, 0.0, 1.006])
    scaled = (images + 1) * 127.5
    cut_off = scaled.clamp(0, 255).to(torch.uint8)
    wrapped = scaled.round().to(torch.int64).remainder(256).to(torch.uint8)
    from_zero = (images * 255).clamp(0, 255).round().to(torch.uint8)
    mistakes = {
        "Fractions are cut off, not rounded. Every picture gets darker.": cut_off,
        "Values above 255 or below 0 wrap around. The brightest pixels turn black.": wrapped,
        "The lowest value is treated as 0. Pictures are in [-1, 1].": from_zero,
    }
    compare("to_bytes", call("to_bytes", to_bytes, images), to_uint8(images), mistakes)
