"""The commands `vary`, `blend`, `edit` and `inpaint` and their options. Does not import torch."""

from argparse import ArgumentParser
from pathlib import Path

from minidalle2.commands.arguments import (
    Commands,
    add_command,
    add_drawn,
    add_seed,
    add_world,
    eta,
    guidance,
    integer,
    theta,
)


def add_vary(commands: Commands) -> None:
    parser = add_command(
        commands,
        "vary",
        "draw variations of pictures",
        "Draw variations of each picture. A variation keeps what CLIP's image embedding describes. "
        "--eta says how much everything else changes. The command says how far each picture is "
        "from the training pictures.",
        "minidalle2 vary photo.png -n 6 --eta 0.8 --out variations",
    )
    _add_images(parser, "+")
    parser.add_argument(
        "-n",
        type=integer(1, 10_000),
        default=4,
        metavar="N",
        help="number of variations of each picture; their seeds are S, S+1, … (default 4)",
    )
    parser.add_argument(
        "--eta",
        type=eta,
        default=1.0,
        metavar="E",
        help="how much changes, from 0 (a reconstruction, which is not exact; its PSNR is "
        "reported) to 1 (default 1)",
    )
    _add_walk(parser, "outputs/vary")


def add_blend(commands: Commands) -> None:
    parser = add_command(
        commands,
        "blend",
        "interpolate between two pictures or texts, or mix several",
        "Interpolate between two inputs, or draw mixtures of more than two. An input is a picture "
        "or a text. Pictures come before texts.",
        "minidalle2 blend a.png b.png --frames 7",
        'minidalle2 blend a.png --text "a blue square"',
    )
    _add_images(parser, "*")
    parser.add_argument(
        "--text",
        action="append",
        default=[],
        dest="texts",
        metavar="TEXT",
        help="a text as a further input; can be given several times",
    )
    parser.add_argument(
        "--frames",
        type=integer(2, 10_000),
        default=7,
        metavar="F",
        help="of two inputs: number of pictures from the first to the second, both included; of "
        "more inputs: number of mixtures, with the seeds S, S+1, … (default 7)",
    )
    parser.add_argument(
        "--x-T",
        choices=("both", "fixed"),
        default="both",
        dest="x_T",
        help="the noise that the decoder starts from, of two inputs. both: interpolated from the "
        "noise of the first to that of the second, so that the ends resemble both inputs; fixed: "
        "the same noise for every picture (default both)",
    )
    _add_walk(parser, "outputs/blend")


def add_edit(commands: Commands) -> None:
    parser = add_command(
        commands,
        "edit",
        "edit pictures by the difference between two captions",
        "Change each picture step by step: from what one caption describes to what another caption "
        "describes.",
        'minidalle2 edit photo.png --from "a red square" --to "a blue square"',
    )
    _add_images(parser, "+")
    parser.add_argument(
        "--from",
        required=True,
        dest="old",
        metavar="TEXT",
        help="a caption of what the pictures show",
    )
    parser.add_argument(
        "--to",
        required=True,
        dest="new",
        metavar="TEXT",
        help="a caption of what the pictures should show",
    )
    parser.add_argument(
        "--theta",
        type=theta,
        metavar="T",
        help="how far the image embedding is rotated towards the difference between the text "
        "embeddings, as a share of the angle between them: 0 to 0.5 (default: by the angle between "
        "the two text embeddings)",
    )
    parser.add_argument(
        "--frames",
        type=integer(1, 10_000),
        default=5,
        metavar="F",
        help="number of pictures for each input picture, with rotations from 0 to T; 1 draws the "
        "rotation by T only (default 5)",
    )
    _add_walk(parser, "outputs/edit")


def add_inpaint(commands: Commands) -> None:
    parser = add_command(
        commands,
        "inpaint",
        "redraw a part of pictures",
        "Redraw the part of each picture that is white in a mask. The rest of the picture does not "
        "change.",
        'minidalle2 inpaint photo.png --mask mask.png --to "a red square in the center"',
    )
    _add_images(parser, "+")
    parser.add_argument(
        "--mask",
        type=Path,
        required=True,
        metavar="MASK",
        help="a picture of the same size: what is white in it is redrawn, the rest is kept",
    )
    parser.add_argument(
        "--to",
        dest="new",
        metavar="TEXT",
        help="a caption of what the whole picture should show (default: what CLIP sees in the "
        "picture)",
    )
    parser.add_argument(
        "-n",
        type=integer(1, 10_000),
        default=4,
        metavar="N",
        help="number of results for each picture; their seeds are S, S+1, … (default 4)",
    )
    add_seed(parser)
    parser.add_argument(
        "--steps",
        type=integer(1, 1000),
        default=25,
        metavar="K",
        help="number of steps of the decoder; most of them are repeated five times (default 25)",
    )
    parser.add_argument(
        "--guidance",
        type=guidance,
        default=2.0,
        metavar="G",
        help="guidance scale of the decoder: larger values follow --to (or what CLIP sees) more "
        "closely (default 2)",
    )
    add_drawn(parser, "outputs/inpaint")


def _add_images(parser: ArgumentParser, nargs: str) -> None:
    parser.add_argument(
        "images",
        nargs=nargs,
        type=Path,
        metavar="IMAGE",
        help="a PNG or another picture of any size; its square centre is used",
    )
    add_world(parser)


def _add_walk(parser: ArgumentParser, out: str) -> None:
    """The options of the commands that invert a picture and decode it again."""
    add_seed(parser)
    parser.add_argument(
        "--steps",
        type=integer(1, 1000),
        default=25,
        metavar="K",
        help="number of steps of the decoder: K from the picture to noise, K back (default 25)",
    )
    parser.add_argument(
        "--guidance",
        type=guidance,
        default=1.0,
        metavar="G",
        help="guidance scale of the decoder: above 1, it draws more clearly what CLIP sees "
        "(default 1)",
    )
    add_drawn(parser, out)
