"""Options and their types that several commands have. Nothing here imports torch (see cli.py)."""

import math
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable
from pathlib import Path

DEVICES = ("auto", "cpu", "cuda", "mps")
LARGEST_SEED = 2**53  # every JSON reader holds integers up to here exactly


def add_drawn(parser: ArgumentParser) -> None:
    """What all have that make pictures."""
    parser.add_argument(
        "--size", type=int, choices=(32, 64, 128), default=128, help="pixels (default 128)"
    )
    add_weights(parser)
    add_device(parser)
    parser.add_argument(
        "--out", type=Path, default=Path("outputs"), metavar="DIR", help="(default outputs)"
    )


def add_world(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--world", default="shapes", metavar="WORLD",
        help="shapes, emoji, critters, a folder with pictures and metadata.jsonl or .csv, or tar "
        "files in WebDataset's layout: a folder, or a pattern as 'data/{000..009}.tar' "
        "(default shapes)",
    )  # fmt: skip


def add_seed(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--seed", type=integer(0, LARGEST_SEED), default=0, metavar="S",
        help="same seed, same result (default 0)",
    )  # fmt: skip


def add_weights(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--weights", type=Path, metavar="DIR",
        help="a folder that `train` made (default: the weights that came with minidalle2)",
    )  # fmt: skip


def add_device(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--device", choices=DEVICES, default="auto", help="auto takes cuda, else mps, else cpu"
    )


def integer(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.strip().isdecimal() or not low <= int(text) <= high:
            raise ArgumentTypeError(f"{text!r} is not a whole number from {low} to {high}")
        return int(text)

    return parse


def number(text: str, low: float, high: float) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not low <= value <= high:
        raise ArgumentTypeError(f"{text!r} is not a number from {low} to {high}")
    return value


def guidance(text: str) -> float:
    return number(text, 0, 100)


def eta(text: str) -> float:
    return number(text, 0, 1)


def theta(text: str) -> float:
    return number(text, 0, 0.5)


def minutes(text: str) -> float:
    return number(text, 0.01, 100_000)
