"""What several commands have in common: options and their types. Does not import torch (cli.py)."""

import math
from argparse import ArgumentParser, ArgumentTypeError, RawDescriptionHelpFormatter
from collections.abc import Callable
from pathlib import Path
from textwrap import fill
from typing import Any

DEVICES = ("auto", "cpu", "cuda", "mps")
PRIORS = ("diffusion", "autoregressive", "regression")  # the keys of priors.kinds.PRIORS
LARGEST_SEED = 2**53  # every JSON reader reads integers up to this one exactly
WIDTH = 78  # columns of a description

Commands = Any  # the object that ArgumentParser.add_subparsers returns


def add_command(
    commands: Commands, name: str, summary: str, description: str, *examples: str
) -> ArgumentParser:
    """Adds a command without options. Returns its parser, to which options can be added."""
    return commands.add_parser(
        name,
        help=summary,
        description=fill(description, WIDTH),
        epilog="\n  ".join(("example:", *examples)),
        formatter_class=RawDescriptionHelpFormatter,
    )


def add_drawn(parser: ArgumentParser, out: str) -> None:
    """The options of all commands that draw pictures. `out` is the default folder."""
    parser.add_argument(
        "--size",
        type=int,
        choices=(32, 64, 128),
        default=128,
        help="side of the pictures in pixels (default 128)",
    )
    add_weights(parser)
    add_device(parser)
    parser.add_argument(
        "--out",
        type=Path,
        default=Path(out),
        metavar="DIR",
        help="folder for the pictures; they replace the results of an earlier command there "
        f"(default {out})",
    )


def add_world(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--world",
        default="shapes",
        metavar="WORLD",
        help="shapes or emoji; or a folder with pictures and metadata.jsonl or metadata.csv; or "
        "tar files in WebDataset's layout, as a folder or as a pattern such as "
        "'data/{000..009}.tar' (default shapes)",
    )


def add_seed(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--seed",
        type=integer(0, LARGEST_SEED),
        default=0,
        metavar="S",
        help="seed of the random numbers; the same seed gives the same result (default 0)",
    )


def add_weights(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--weights",
        type=Path,
        metavar="DIR",
        help="a folder that `minidalle2 train` wrote (default: the weights that come with "
        "minidalle2)",
    )


def add_device(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--device",
        choices=DEVICES,
        default="auto",
        help="auto selects cuda if there is one, else mps, else cpu (default auto)",
    )


def integer(low: int, high: int) -> Callable[[str], int]:
    """The type of an option that takes a whole number from `low` to `high`."""

    def parse(text: str) -> int:
        if not text.strip().isdecimal() or not low <= int(text) <= high:
            raise ArgumentTypeError(f"{text!r} is not a whole number from {low} to {high}")
        return int(text)

    return parse


def number(text: str, low: float, high: float) -> float:
    """Raises ArgumentTypeError unless the text is a number from `low` to `high`."""
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
