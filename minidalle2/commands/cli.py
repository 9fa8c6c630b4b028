"""The command line: the options of all commands, and how errors are reported.

`minidalle2 NAME` runs commands/NAME.py, which is imported only then. Importing torch takes a
second, and `--help` should not wait for it. So no file that is imported here may import torch.
"""

import argparse
import io
import os
import sys
import time
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import NoReturn

from minidalle2.commands.arguments import (
    PRIORS,
    Commands,
    add_command,
    add_device,
    add_drawn,
    add_seed,
    add_weights,
    add_world,
    guidance,
    integer,
    minutes,
)
from minidalle2.commands.manipulation_arguments import add_blend, add_edit, add_inpaint, add_vary

ASIDE = 5.0  # seconds until torchrun has ended this process, which has no message of its own


def main(argv: list[str] | None = None) -> int:
    """Runs a command. Returns the exit code: 0, 2 after an error, 130 after Ctrl-C."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # the console may lack letters of a prompt
            stream.reconfigure(errors="replace")
    try:
        args = build_parser().parse_args(argv)
    except ValueError as error:
        if os.environ.get("RANK", "0") != "0":  # the first of torchrun's processes says the same
            time.sleep(ASIDE)
            return 2
        return _fail(str(error), 2)
    try:
        _command(args.command).run(args)
    except KeyboardInterrupt as stop:
        return _fail(str(stop) or "stopped", 130)
    except OSError as error:
        where = f" {error.filename}" if error.filename else ""
        return _fail(f"could not read or write{where}: {(error.strerror or str(error)).lower()}", 2)
    except _known_errors() as error:
        return _fail(str(error), 2)
    return 0


def _command(name: str) -> ModuleType:
    """Imports the module of a command. The first import of torch after a restart can take long."""
    from minidalle2.storage.progress import doing  # not above, because of the time of `--help`

    with doing("starting"):
        return import_module(f"minidalle2.commands.{name}")


def _known_errors() -> tuple[type[Exception], ...]:
    """The errors that bad input raises. Every other error is a bug and keeps its traceback."""
    from minidalle2.storage.checkpoints import CheckpointError
    from minidalle2.training.run import TrainingError

    return ValueError, CheckpointError, TrainingError


def _fail(message: str, code: int) -> int:
    print(f"minidalle2: {' '.join(message.split())}", file=sys.stderr)
    return code


class _Parser(argparse.ArgumentParser):
    """Raises ValueError for a wrong option, so that this error is reported like all others."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message}; see `{self.prog} --help`")


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = _Parser(
        prog="minidalle2",
        description="DALL·E 2, small enough to train on a laptop: draws pictures from text.",
        epilog="`minidalle2 COMMAND --help` shows the options of a command and an example.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    add_draw(commands)
    add_vary(commands)
    add_blend(commands)
    add_edit(commands)
    add_inpaint(commands)
    add_train(commands)
    add_speedrun(commands)
    add_evaluate(commands)
    add_export(commands)
    add_names(commands)
    return parser


def add_draw(commands: Commands) -> None:
    parser = add_command(
        commands,
        "draw",
        "draw pictures from text prompts",
        "Draw pictures of each prompt. Writes one PNG file for each picture, grid.png with the "
        "first 64 pictures, and manifest.jsonl with all prompts, seeds and settings.",
        'minidalle2 draw "a small red circle above a large blue square" -n 4 --out outputs',
    )
    parser.add_argument("prompts", nargs="*", metavar="PROMPT", help="what to draw, in quotes")
    parser.add_argument(
        "--prompts-file",
        type=Path,
        metavar="FILE",
        help="a UTF-8 text file with one prompt per line; empty lines and lines that start with # "
        "are skipped",
    )
    add_world(parser)
    parser.add_argument(
        "-n",
        type=integer(1, 10_000),
        default=1,
        metavar="N",
        help="number of pictures of each prompt; their seeds are S, S+1, … (default 1)",
    )
    add_seed(parser)
    parser.add_argument(
        "--guidance",
        type=guidance,
        metavar="G",
        help="guidance scale of the decoder: 0 ignores the prompt, 1 is no guidance, larger values "
        "follow the prompt more closely (default 2)",
    )
    parser.add_argument(
        "--prior",
        choices=PRIORS,
        default="diffusion",
        help="the prior that predicts the image embedding; --weights must contain it (default "
        "diffusion)",
    )
    add_drawn(parser, "outputs")


def add_train(commands: Commands) -> None:
    parser = add_command(
        commands,
        "train",
        "train one stage, or all stages in order",
        "Train one stage, or all stages in order, from random weights, or from pretrained weights "
        "with --from. Ctrl-C stops the training and saves it. --resume continues it.",
        "minidalle2 train all --profile laptop",
        "minidalle2 train all --world my_pictures --from emoji",
        "minidalle2 train clip --profile laptop --resume",
    )
    parser.add_argument(
        "stage",
        metavar="STAGE",
        help="one of tokenizer, clip, prior, decoder, upsampler64, upsampler128, judge, "
        "autoregressive_prior, regression_prior, glide, image_tower; or all, which trains the "
        "first six of them in this order. glide is a decoder without image embeddings, for "
        "comparison. image_tower adds a second image tower to a trained CLIP",
    )
    add_world(parser)
    parser.add_argument(
        "--from",
        dest="start",
        type=Path,
        metavar="WEIGHTS",
        help="start from pretrained weights: shapes, emoji, or a folder that `minidalle2 train` "
        "wrote. This suits a few hundred pictures of your own. Tokenizer and sizes of the networks "
        "are those of WEIGHTS, and `all` copies the upsamplers (default: random weights)",
    )
    parser.add_argument(
        "--profile",
        choices=("smoke", "laptop", "full", "finetune"),
        help="smoke: seconds, only shows that training runs; laptop: `all` takes about 40 minutes "
        "on 2 CPU cores; full: takes longer and draws better, for a GPU or overnight; finetune: "
        "short, needs --from (default: finetune with --from, else laptop)",
    )
    parser.add_argument(
        "--minutes",
        type=minutes,
        metavar="M",
        help="train for about M minutes in all: the first steps are timed and determine the number "
        "of steps; with `all`, the stages share the minutes",
    )
    parser.add_argument(
        "--parts",
        type=integer(1, 100_000),
        default=1,
        metavar="K",
        help="compute each batch in K parts; this needs less memory and gives the same gradient "
        "(default 1)",
    )
    parser.add_argument(
        "--recompute",
        action="store_true",
        help="compute the activations inside each block again in the backward pass; this needs "
        "less memory and a third more computation",
    )
    parser.add_argument("--resume", action="store_true", help="continue the training in --out")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="folder for the weights (default runs/WORLD)"
    )
    add_device(parser)


def add_speedrun(commands: Commands) -> None:
    parser = add_command(
        commands,
        "speedrun",
        "measure how fast training learns to draw two objects",
        "Train tokenizer, CLIP, prior and decoder of the shapes world from random weights, and "
        "measure the time. Then draw prompts with two objects at 32 px, and count the correct "
        "pictures. See docs/speedrun.md.",
        "minidalle2 speedrun --out runs/speedrun",
    )
    parser.add_argument(
        "--profile",
        choices=("smoke", "speedrun", "speedrun_gpu"),
        help="smoke: seconds, only shows that it runs (default: speedrun_gpu on cuda, else "
        "speedrun)",
    )
    parser.add_argument(
        "-n",
        type=integer(4, 100_000),
        default=500,
        metavar="N",
        help="number of prompts to draw; a quarter of them name a pair of shape and colour that "
        "is not in the training pictures (default 500)",
    )
    add_seed(parser)
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("runs/speedrun"),
        metavar="DIR",
        help="folder for the weights and record.json; the record is also appended to "
        "speedruns.jsonl in the folder above (default runs/speedrun)",
    )
    add_device(parser)


def add_evaluate(commands: Commands) -> None:
    parser = add_command(
        commands,
        "evaluate",
        "measure how good trained weights are",
        "Measure trained weights. Prints a table with 95 % confidence intervals, each row as soon "
        "as it is measured.",
        "minidalle2 evaluate --what prompts,clip -n 500 --json results.json",
    )
    add_world(parser)
    add_weights(parser)
    parser.add_argument(
        "--what",
        default="all",
        metavar="LIST",
        help="all, or a list with commas. Of shapes: judge,clip,probe,prompts,manipulations. Of "
        "emoji: judge,clip,prompts,copying,manipulations. Not part of all are the experiments with "
        "shapes: probes for all of them, or some of rows,pca,attack,binding,words,guidance; and "
        "natural of emoji: prompts as people type them (default all)",
    )
    parser.add_argument(
        "-n",
        type=integer(1, 100_000),
        default=500,
        metavar="N",
        help="number of prompts for each row (default 500)",
    )
    add_seed(parser)
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="also write the rows to this JSON file"
    )
    parser.add_argument(
        "--pictures",
        type=Path,
        metavar="DIR",
        help="also write sheets of the drawn pictures to this folder (emoji only)",
    )
    add_device(parser)


def add_export(commands: Commands) -> None:
    parser = add_command(
        commands,
        "export",
        "write captioned pictures of a world as a dataset",
        "Write captioned pictures of a world and their ground truth as a dataset: a folder in "
        "Hugging Face's imagefolder layout, or tar files in WebDataset's layout.",
        "minidalle2 export --world shapes --split train -n 1000 --size 64 --out data/train",
        "minidalle2 export --world shapes -n 10000 --tar 1000 --out data/shards",
    )
    add_world(parser)
    parser.add_argument(
        "--split",
        default="train",
        metavar="NAME",
        help="which split of the world. Of shapes: train, seen, pairs, combinations or phrasings. "
        "Of emoji: train, seen, pairs or names (default train)",
    )
    parser.add_argument(
        "-n",
        type=integer(1, 1_000_000),
        default=1000,
        metavar="N",
        help="number of pictures (default 1000)",
    )
    parser.add_argument(
        "--size",
        type=integer(8, 2048),
        default=64,
        metavar="PX",
        help="side of the pictures in pixels (default 64)",
    )
    parser.add_argument(
        "--tar",
        type=integer(1, 1_000_000),
        nargs="?",
        const=1000,
        metavar="N",
        help="write tar files of N pictures each; --tar without a number means 1000 (default: a "
        "folder without tar files)",
    )
    add_seed(parser)
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder for the dataset"
    )


def add_names(commands: Commands) -> None:
    parser = add_command(
        commands,
        "names",
        "list the things that can be requested from the emoji world",
        "List the names of the emoji world in English and Chinese, one per line. A prompt works "
        "best with one of these names.",
        "minidalle2 names apple",
    )
    parser.add_argument(
        "words",
        nargs="*",
        metavar="WORD",
        help="list only names that contain every WORD, in the name or in a keyword",
    )
