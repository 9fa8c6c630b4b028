"""The command line: `minidalle2 draw | vary | blend | edit | inpaint | train | speedrun | evaluate
| export`.

Here are only the options and the errors; what several commands take is in commands/arguments.py.
Each command has its own file in commands/, imported when it runs: torch takes a second to import,
and `--help` should take none.
"""

import argparse
import io
import sys
from importlib import import_module
from pathlib import Path
from typing import NoReturn

from minidalle2.commands.arguments import (
    add_device, add_drawn, add_seed, add_weights, add_world, guidance, integer, minutes,
)  # fmt: skip
from minidalle2.commands.manipulation_arguments import (
    add_blend, add_edit, add_inpaint, add_vary,
)  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    """Run a command; returns the exit code: 0, 2 for an error, 130 for Ctrl-C."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a narrow console must not fail on a wide prompt
            stream.reconfigure(errors="replace")
    try:
        args = build_parser().parse_args(argv)
        import_module(f"minidalle2.commands.{args.command}").run(args)
    except KeyboardInterrupt as stop:
        return _fail(str(stop) or "stopped", 130)
    except OSError as error:
        where = f" {error.filename}" if error.filename else ""
        return _fail(f"could not read or write{where}: {(error.strerror or str(error)).lower()}", 2)
    except _known_errors() as error:
        return _fail(str(error), 2)
    return 0


def _known_errors() -> tuple[type[Exception], ...]:
    """What bad input raises; anything else is our bug and keeps its traceback."""
    from minidalle2.training.checkpoints import CheckpointError
    from minidalle2.training.loop import TrainingError

    return ValueError, CheckpointError, TrainingError


def _fail(message: str, code: int) -> int:
    print(f"minidalle2: {' '.join(message.split())}", file=sys.stderr)
    return code


class _Parser(argparse.ArgumentParser):
    """A wrong option is an error like all others: one sentence."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message}; see `{self.prog} --help`")


def build_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="minidalle2",
        description="DALL·E 2, small enough to train on a laptop: text → picture.",
        epilog="`minidalle2 COMMAND --help` shows a command's options and an example.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_draw(_command(
        commands, "draw", "draw pictures of prompts",
        "Draw each prompt: one PNG a picture, grid.png with all of them, and manifest.jsonl.",
        'minidalle2 draw "a small red circle above a large blue square" -n 4 --out outputs',
    ))  # fmt: skip
    add_vary(_command(
        commands, "vary", "draw variations of pictures",
        "Draw variations of each picture: what CLIP sees in it stays, the rest changes with --eta.",
        "minidalle2 vary photo.png -n 6 --eta 0.8 --out outputs",
    ))  # fmt: skip
    add_blend(_command(
        commands, "blend", "go from one picture or text to another, or mix several",
        "Of two pictures, or a picture and a text, draw the way from one to the other; of more, "
        "mixtures.",
        'minidalle2 blend a.png b.png --frames 7\n  minidalle2 blend a.png --text "a blue square"',
    ))  # fmt: skip
    add_edit(_command(
        commands, "edit", "change what two captions tell apart in pictures",
        "Turn each picture from what one caption says to what the other says, step by step.",
        'minidalle2 edit photo.png --from "a red square" --to "a blue square"',
    ))  # fmt: skip
    add_inpaint(_command(
        commands, "inpaint", "draw a part of pictures anew",
        "Draw anew what is white in a mask; the rest of each picture stays as it is.",
        'minidalle2 inpaint photo.png --mask mask.png --to "a red square in the center"',
    ))  # fmt: skip
    _add_train(_command(
        commands, "train", "train one stage, or all of them in order",
        "Train a stage, or all in order, from nothing. Ctrl-C keeps the model; --resume goes on.",
        "minidalle2 train all --profile laptop\n  minidalle2 train clip --profile laptop --resume",
    ))  # fmt: skip
    _add_speedrun(_command(
        commands, "speedrun", "train against the clock until two objects are drawn right",
        "Train tokenizer, CLIP, prior and decoder of the shapes world from nothing, the clock "
        "running, then judge prompts of two objects at 32 px (docs/speedrun.md).",
        "minidalle2 speedrun --out runs/speedrun",
    ))  # fmt: skip
    _add_evaluate(_command(
        commands, "evaluate", "measure how well trained weights do",
        "Measure trained weights: a table with 95 % intervals, a row as soon as it is known.",
        "minidalle2 evaluate --what prompts,clip -n 500 --json results.json",
    ))  # fmt: skip
    _add_export(_command(
        commands, "export", "write captioned pictures of a world as a dataset",
        "Write captioned pictures and their ground truth in Hugging Face's imagefolder convention.",
        "minidalle2 export --world shapes --split train -n 1000 --size 64 --out data/train\n"
        "  minidalle2 export --world shapes -n 10000 --tar 1000 --out data/shards",
    ))  # fmt: skip
    return parser


def _command(commands, name: str, summary: str, description: str, example: str) -> _Parser:
    return commands.add_parser(
        name,
        help=summary,
        description=description,
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _add_draw(parser: _Parser) -> None:
    parser.add_argument("prompts", nargs="*", metavar="PROMPT", help="what to draw, in quotes")
    parser.add_argument(
        "--prompts-file", type=Path, metavar="FILE",
        help="a prompt a line, in UTF-8; blank lines and those that start with # are skipped",
    )  # fmt: skip
    add_world(parser)
    parser.add_argument(
        "-n", type=integer(1, 10_000), default=1, metavar="N",
        help="pictures of each prompt, with seeds S, S+1, … (default 1)",
    )  # fmt: skip
    add_seed(parser)
    parser.add_argument(
        "--guidance", type=guidance, metavar="G",
        help="how closely the decoder follows the prompt: 0 ignores it, 1 is unguided (default 2)",
    )  # fmt: skip
    parser.add_argument(
        "--prior", choices=("diffusion", "autoregressive"), default="diffusion",
        help="which prior makes the image embedding; the autoregressive one must have been trained "
        "beside the other weights (default diffusion)",
    )  # fmt: skip
    add_drawn(parser)


def _add_train(parser: _Parser) -> None:
    parser.add_argument(
        "stage", metavar="STAGE",
        help="one of tokenizer, clip, prior, decoder, upsampler64, upsampler128, judge, "
        "autoregressive_prior, regression_prior, glide, image_tower (the decoder's twin without "
        "image embedding, CLIP's second image tower); or all, which is all but the last five",
    )  # fmt: skip
    add_world(parser)
    parser.add_argument(
        "--profile", choices=("smoke", "laptop", "full"), default="laptop",
        help="smoke: seconds, to see that it runs; laptop: about 40 minutes on 2 CPU cores; "
        "full: for a GPU or a night (default laptop)",
    )  # fmt: skip
    parser.add_argument(
        "--minutes", type=minutes, metavar="M",
        help="stop after M minutes; with `all` they are shared out among the stages",
    )  # fmt: skip
    parser.add_argument(
        "--parts", type=integer(1, 100_000), default=1, metavar="K",
        help="compute each batch in K smaller passes, for less memory; the gradient is the same",
    )  # fmt: skip
    parser.add_argument(
        "--recompute", action="store_true",
        help="keep no activations inside of blocks: less memory for a third more work",
    )  # fmt: skip
    parser.add_argument("--resume", action="store_true", help="go on with what is in --out")
    parser.add_argument("--out", type=Path, metavar="DIR", help="(default runs/WORLD)")
    add_device(parser)


def _add_speedrun(parser: _Parser) -> None:
    parser.add_argument(
        "--profile", choices=("smoke", "speedrun", "speedrun_gpu"),
        help="smoke: seconds, to see that it runs (default: what fits the device)",
    )  # fmt: skip
    parser.add_argument(
        "-n", type=integer(4, 100_000), default=500, metavar="N",
        help="prompts to judge, a quarter of them with a held-out pair (default 500)",
    )  # fmt: skip
    add_seed(parser)
    parser.add_argument(
        "--out", type=Path, default=Path("runs/speedrun"), metavar="DIR",
        help="(default runs/speedrun); the record is added to speedruns.jsonl beside it",
    )  # fmt: skip
    add_device(parser)


def _add_evaluate(parser: _Parser) -> None:
    add_world(parser)
    add_weights(parser)
    parser.add_argument(
        "--what", default="all", metavar="LIST",
        help="all, or some of judge,clip,probe,prompts,manipulations; of emoji judge,clip,prompts,"
        "copying,manipulations; of shapes also probes, or some of rows,pca,attack,binding,words,"
        "guidance (default all)",
    )  # fmt: skip
    parser.add_argument(
        "-n", type=integer(1, 100_000), default=500, metavar="N",
        help="prompts a row (default 500)",
    )  # fmt: skip
    add_seed(parser)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there, too")
    parser.add_argument(
        "--pictures", type=Path, metavar="DIR",
        help="write sheets of what was drawn there (emoji only)",
    )  # fmt: skip
    add_device(parser)


def _add_export(parser: _Parser) -> None:
    add_world(parser)
    parser.add_argument(
        "--split", default="train", metavar="NAME",
        help="train, seen, pairs, or of shapes also combinations or phrasings (default train)",
    )  # fmt: skip
    parser.add_argument(
        "-n", type=integer(1, 1_000_000), default=1000, metavar="N", help="pictures (default 1000)"
    )
    parser.add_argument(
        "--size", type=integer(8, 2048), default=64, metavar="PX", help="pixels (default 64)"
    )
    parser.add_argument(
        "--tar", type=integer(1, 1_000_000), nargs="?", const=1000, metavar="N",
        help="write tar files of N samples each, in WebDataset's layout (default 1000)",
    )  # fmt: skip
    add_seed(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
