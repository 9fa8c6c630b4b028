"""All worlds. To add a world, write its folder and add it to WORLDS.

The worlds are imported inside the functions. So it is fast to import this module, and opening one
world does not import the others.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from minidalle2.worlds.shards.names import label, names_shards

if TYPE_CHECKING:
    import torch
    from torch import nn

    from minidalle2.training.world import World
    from minidalle2.worlds.definition import Definition


def _shapes() -> Definition:
    from minidalle2.worlds.shapes.definition import SHAPES

    return SHAPES


def _emoji() -> Definition:
    from minidalle2.worlds.emoji.definition import EMOJI

    return EMOJI


WORLDS: dict[str, Callable[[], Definition]] = {"shapes": _shapes, "emoji": _emoji}


def definition(name: str) -> Definition:
    """Returns the definition of a world. Raises ValueError for other names, such as a user's
    folder.
    """
    if name in WORLDS:
        return WORLDS[name]()
    raise ValueError(
        f"the world {label_of(name)} can't be evaluated or exported, because it has pictures and "
        "captions only, but no judge and no ground truth; --world "
        f"{' or --world '.join(WORLDS)} would work"
    )


def find(name: str) -> Definition | None:
    """Returns the definition of a world, or None for a name that is not in WORLDS."""
    return definition(name) if name in WORLDS else None


def label_of(name: str) -> str:
    """A short name for messages and folders: 'shapes', or the last part of a path.

    The name of a world takes precedence over a folder of that name; write ./shapes for the folder.
    Raises ValueError for a name that is neither a world nor a folder nor tar files.
    """
    if name in WORLDS:
        return name
    if names_shards(name):
        return label(name)
    if not name or not Path(name).is_dir():
        raise ValueError(
            f"there is no world {name!r}: the worlds are {', '.join(WORLDS)}; a folder of pictures "
            "with metadata.jsonl (file_name, text) or of tar files would work, too"
        )
    return Path(name).resolve().name or "folder"


def open_world(name: str) -> World:
    """Opens a world by its name, by the path of a folder, or by a pattern of tar files.

    Raises ValueError if there is no such world.
    """
    label_of(name)
    if name in WORLDS:
        return definition(name).open()
    if names_shards(name):
        from minidalle2.worlds.shards.world import Shards

        return Shards(name)
    from minidalle2.worlds.folder.world import Folder

    return Folder(Path(name))


def load_judge(name: str, folder: Path, device: torch.device) -> nn.Module:
    """Returns the judge in `folder`/judge, or else the judge that comes with minidalle2."""
    from minidalle2.evaluation.judging import judge_beside

    return judge_beside(definition(name).judge, name, folder, device)
