"""The options of `vary`, `blend`, `edit` and `inpaint`. Nothing here imports torch (see cli.py)."""

from argparse import ArgumentParser
from pathlib import Path

from minidalle2.commands.arguments import (
    add_drawn, add_seed, add_world, eta, guidance, integer, theta,
)  # fmt: skip


def add_vary(parser: ArgumentParser) -> None:
    _add_images(parser, "+")
    parser.add_argument(
        "-n", type=integer(1, 10_000), default=4, metavar="N",
        help="variations of each picture, with seeds S, S+1, … (default 4)",
    )  # fmt: skip
    parser.add_argument(
        "--eta", type=eta, default=1.0, metavar="E",
        help="how much changes: 0 gives the picture back, 1 is the most (default 1)",
    )  # fmt: skip
    _add_walk(parser)


def add_blend(parser: ArgumentParser) -> None:
    _add_images(parser, "*")
    parser.add_argument(
        "--text", action="append", default=[], dest="texts", metavar="TEXT",
        help="what else to blend, in words; may be given several times",
    )  # fmt: skip
    parser.add_argument(
        "--frames", type=integer(2, 10_000), default=7, metavar="F",
        help="pictures on the way, both ends included; of more than two things so many mixtures, "
        "with seeds S, S+1, … (default 7)",
    )  # fmt: skip
    parser.add_argument(
        "--x-T", choices=("both", "fixed"), default="both", dest="x_T",
        help="the noise that is decoded from: both leads from the one's to the other's and gives "
        "back both ends, fixed is one for the whole way (default both)",
    )  # fmt: skip
    _add_walk(parser)


def add_edit(parser: ArgumentParser) -> None:
    _add_images(parser, "+")
    parser.add_argument(
        "--from", required=True, dest="old", metavar="TEXT", help="what the pictures show"
    )
    parser.add_argument(
        "--to", required=True, dest="new", metavar="TEXT", help="what they shall show"
    )
    parser.add_argument(
        "--theta", type=theta, metavar="T",
        help="how far to turn, in shares of the way to the difference of both texts: 0 to 0.5 "
        "(default: by the angle between both texts)",
    )  # fmt: skip
    parser.add_argument(
        "--frames", type=integer(1, 10_000), default=5, metavar="F",
        help="pictures of each on the way from 0 to T; 1 is the end alone (default 5)",
    )  # fmt: skip
    _add_walk(parser)


def add_inpaint(parser: ArgumentParser) -> None:
    _add_images(parser, "+")
    parser.add_argument(
        "--mask", type=Path, required=True, metavar="MASK",
        help="a picture of the same size: what is white there is drawn anew, the rest is kept",
    )  # fmt: skip
    parser.add_argument(
        "--to", dest="new", metavar="TEXT",
        help="what the whole picture shall show then (default: what it shows now)",
    )  # fmt: skip
    parser.add_argument(
        "-n", type=integer(1, 10_000), default=4, metavar="N",
        help="pictures of each, with seeds S, S+1, … (default 4)",
    )  # fmt: skip
    add_seed(parser)
    parser.add_argument(
        "--steps", type=integer(1, 1000), default=25, metavar="K",
        help="of the decoder, most of which are taken five times (default 25)",
    )  # fmt: skip
    parser.add_argument(
        "--guidance", type=guidance, default=2.0, metavar="G",
        help="how closely the decoder follows what the picture shall show (default 2)",
    )  # fmt: skip
    add_drawn(parser)


def _add_images(parser: ArgumentParser, nargs: str) -> None:
    parser.add_argument(
        "images", nargs=nargs, type=Path, metavar="IMAGE",
        help="a PNG or another picture of any size; its middle square is taken",
    )  # fmt: skip
    add_world(parser)


def _add_walk(parser: ArgumentParser) -> None:
    """What all have that begins with a picture."""
    add_seed(parser)
    parser.add_argument(
        "--steps", type=integer(1, 1000), default=25, metavar="K",
        help="of the decoder, from the picture to noise and as many back (default 25)",
    )  # fmt: skip
    parser.add_argument(
        "--guidance", type=guidance, default=1.0, metavar="G",
        help="of the decoder: more than 1 draws clearer what CLIP sees (default 1)",
    )  # fmt: skip
    add_drawn(parser)
