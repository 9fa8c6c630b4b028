"""What a world is to the rest of the package, and how one is opened by its name or its files.

Nothing here imports torch, so that the command line's `--help` need not wait for it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from minidalle2.worlds.shards.names import label, names_shards

if TYPE_CHECKING:
    import torch
    from torch import Tensor

WORLDS = ("shapes", "emoji", "critters")


class World(Protocol):
    """A source of captioned pictures. The same generator state gives the same batch."""

    name: str
    enough: float  # captioned pictures of `train` that show all there is; may be infinity

    def captioned(
        self, n: int, generator: torch.Generator, split: str = "train", size: int = 32
    ) -> tuple[Tensor, list[str]]:
        """→ (n, 3, size, size) pictures in [-1, 1] and their n captions.

        Raises ValueError for a split that the world lacks.
        """
        ...

    def near_misses(
        self, n: int, generator: torch.Generator, size: int = 32
    ) -> tuple[Tensor, list[str]]:
        """As `captioned`, from `train`, in groups of eight neighbours whose captions differ.

        Where n is no multiple of eight, the last group is cut short.
        """
        ...

    def contrasting(self, n: int, generator: torch.Generator) -> tuple[Tensor, list[str]]:
        """→ (n, 3, 32, 32) and n captions of `train`: a batch in which CLIP has to look at all that
        captions say, because for each of its things some pictures differ in little else."""
        ...

    def crops(self, n: int, generator: torch.Generator, size: int) -> Tensor:
        """→ (n, 3, size/4, size/4) in [-1, 1]: random quarter-size windows of `train` pictures of
        `size` px, on whole pixels of the half-size picture, so that both resolutions align."""
        ...


def label_of(name: str) -> str:
    """A short name, for messages and folders of weights: 'shapes', or the last part of a path.

    A world's name comes before a folder of that name; write ./shapes for the folder. Raises
    ValueError where the name is neither a world nor a folder nor tar files.
    """
    if name in WORLDS:
        return name
    if names_shards(name):
        return label(name)
    if not name or not Path(name).is_dir():
        raise ValueError(
            f"there is no world {name!r}: the worlds are {', '.join(WORLDS)}, and a folder of "
            "pictures with metadata.jsonl (file_name, text) or of tar files would work, too"
        )
    return Path(name).resolve().name or "folder"


def open_world(name: str) -> World:
    """A world by its name, by a folder's path, or by a pattern of tar files. Raises ValueError
    where there is none of them."""
    label_of(name)
    if name == "shapes":
        from minidalle2.worlds.shapes.world import Shapes

        return Shapes()
    if name == "emoji":
        from minidalle2.worlds.emoji.world import Emoji

        return Emoji()
    if name == "critters":
        from minidalle2.worlds.critters.world import Critters

        return Critters()
    if names_shards(name):
        from minidalle2.worlds.shards.world import Shards

        return Shards(name)
    from minidalle2.worlds.folder.world import Folder

    return Folder(Path(name))
