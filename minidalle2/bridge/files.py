"""Finds the files of a published network in its folder, and reads its JSON."""

import json
from pathlib import Path

from minidalle2.storage.checkpoints import CheckpointError


def only_file(folder: Path, suffixes: tuple[str, ...], what: str) -> Path:
    """The only file of a folder with one of these suffixes.

    `what` names the file in the message. Raises CheckpointError if there is none or more than one.
    """
    found = files(folder, suffixes)
    if len(found) != 1:
        raise not_one(folder, found, suffixes, what)
    return found[0]


def files(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """The visible files of a folder with one of these suffixes, in the order of their names.

    The list of the parts of a checkpoint (.index.json) is no such file.
    """
    named = (p for p in sorted(folder.glob("*")) if not p.name.startswith("."))
    named = (p for p in named if not p.name.endswith(".index.json"))
    return [p for p in named if p.suffix.lower() in suffixes and p.is_file()]


def not_one(folder: Path, found: list[Path], suffixes: tuple[str, ...], what: str) -> Exception:
    """The error for a folder that does not have exactly one file."""
    names = sorted(p.name for p in found or folder.glob("*"))
    listed = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    held = f"holds {listed}" if found else f"holds no such file (it holds {listed or 'nothing'})"
    below = sorted(folder.rglob("*"))  # trainers also write folders with names such as last.ckpt
    parts = [p.parent for p in below if p.suffix == ".distcp"]
    zero = ("zero_to_fp32.py", "*zero_pp_rank*")
    deepspeed = [p.parent for p in below if any(map(p.match, zero))]
    if found:
        help = "keep the one that you want, and move the others to another folder"
    elif parts:
        help = (
            "join the parts of torch.distributed with `python -m torch.distributed.checkpoint."
            f"format_utils dcp_to_torch {parts[0]} {folder / 'model.pt'}`"
        )
    elif deepspeed:
        help = (
            f"join the parts of DeepSpeed in {deepspeed[0]} with the script zero_to_fp32.py that "
            "DeepSpeed puts beside them"
        )
    else:
        help = f"put the {what} there"
    return CheckpointError(
        f"{folder} should hold exactly one {what} ({', '.join(suffixes)}), but {held}; {help}"
    )


def read_json(path: Path) -> dict:
    """Reads a JSON file. Raises CheckpointError if its content is not a JSON object."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, OSError, RecursionError) as error:
        raise CheckpointError(f"{path} can't be read as JSON ({error})") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} is no JSON object, so it can't be the config of a network")
    return content
