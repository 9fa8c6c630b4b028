"""Reads the weights of other projects.

A checkpoint can be a file of torch.save, a TorchScript archive or a safetensors file. It can be
split into parts. It can contain a state dict only, or the whole state of a trainer. The content of
a file decides how it is read, not its suffix. No code in a file is ever run.
"""

import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from minidalle2.bridge.files import files, not_one, only_file
from minidalle2.bridge.pickles import StandIn, read_archive
from minidalle2.storage.checkpoints import CheckpointError

SUFFIXES = (".pth", ".pt", ".bin", ".ckpt", ".safetensors")
PART = re.compile(r"(.+)-(\d+)-of-(\d+)\.\w+")  # model-00001-of-00002.safetensors
OLD_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # begins files of torch before 1.6
# The first bytes of files that are no weights of torch, what they are, and what to do.
FOREIGN = {
    b"version https://git-lfs": ("a pointer of Git LFS and not the weights", "run `git lfs pull`"),
    b"<": ("a web page", "open the link in a browser, and download the file itself"),
    b"{": ("a text in JSON", "download the file of weights"),
    b"\x1f\x8b": ("a packed file (gzip)", "unpack it"),
    b"GGUF": ("a quantised file of llama.cpp (GGUF)", "download the weights as safetensors"),
    b"\x89HDF": ("a file of Keras (HDF5)", "download the weights for PyTorch"),
}


@dataclass
class Published:
    """The content of a checkpoint."""

    path: Path  # the file, or the first of its parts
    content: Any  # what was saved, with stand-ins; usually a dict
    scripted: bool = False  # whether it is a TorchScript archive

    @property
    def version(self) -> str | None:
        """The version of the package that saved the file, or None if the file does not say it."""
        content = self.content if isinstance(self.content, dict) else {}
        return version_of(content.get("version"))


def read_checkpoint(folder: Path) -> Published:
    """Reads the only file of weights in a folder, or all parts of one, onto the CPU.

    Raises CheckpointError if there is not exactly one such file, or if it can't be read.
    """
    paths = files(folder, SUFFIXES)
    if paths and all(PART.fullmatch(path.name) for path in paths):
        return read_parts(paths)
    return read_file(only_file(folder, SUFFIXES, "file of weights"))


def read_parts(paths: list[Path]) -> Published:
    """Reads the parts of one checkpoint, each with other tensors.

    Raises CheckpointError if a part is missing, or if the files belong to different checkpoints.
    """
    names = [PART.fullmatch(path.name) for path in paths]
    kinds = {(name[1], int(name[3]), path.suffix) for name, path in zip(names, paths, strict=True)}
    if len(kinds) > 1:
        raise not_one(paths[0].parent, paths, SUFFIXES, "file of weights")
    missing = set(range(1, int(names[0][3]) + 1)) - {int(name[2]) for name in names}
    if missing:
        raise CheckpointError(
            f"{paths[0].parent} lacks part {min(missing)} of the {int(names[0][3])} parts of "
            f"{names[0][1]}; download it, too"
        )
    content = {}
    for path in paths:
        part = read_file(path).content
        twice = sorted(set(content) & set(part)) if isinstance(part, dict) else [path.name]
        if twice:
            raise CheckpointError(
                f"{path} can't be joined with the parts before it, because {twice[0]!r} occurs "
                "twice or is no dict; download all parts again"
            )
        content |= part
    return Published(paths[0], content)


def read_file(path: Path) -> Published:
    """Reads one file of weights. Raises CheckpointError, which says what the file is instead."""
    start = b""
    try:
        with path.open("rb") as file:
            start = file.read(200)
        safetensors = is_safetensors(start, path.stat().st_size)
        foreign = None if safetensors else foreign_kind(start)
        if foreign:
            raise CheckpointError(f"{path} is {foreign[0]}; {foreign[1]}")
        if safetensors:
            return Published(path, load_file(path))
        if start.startswith(b"PK"):
            return Published(path, *read_archive(path))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about the protocol of other pickles
            return Published(path, torch.load(path, map_location="cpu", weights_only=True))
    except CheckpointError:
        raise
    except Exception as error:  # broken files make the readers raise many kinds of errors
        reason, remedy = explained(error, start)
        raise CheckpointError(
            f"{path} can't be read as a checkpoint ({reason}); {remedy}"
        ) from error


def foreign_kind(start: bytes) -> tuple[str, str] | None:
    """→ (what a file is, what to do) if its first bytes say that it has no weights, else None."""
    if not start:
        return "empty", "download it again"
    return next((said for begin, said in FOREIGN.items() if start.lstrip().startswith(begin)), None)


def is_safetensors(start: bytes, size: int) -> bool:
    """Whether a file is safetensors: the length of a JSON header in 8 bytes, then the header."""
    return start[8:9] == b"{" and int.from_bytes(start[:8], "little") < size


def explained(error: Exception, start: bytes) -> tuple[str, str]:
    """→ (why a file can't be read, what would work)."""
    reason = (str(error).splitlines() or [""])[0] or type(error).__name__
    unknown = re.search(r"GLOBAL (\S+) was not an allowed", str(error))
    if unknown:
        return (
            f"it has the format of torch before 1.6, and contains an object of {unknown[1]}",
            "where this class is installed, load it and save its state dict again with torch.save",
        )
    if start.startswith(b"\x80") and not start.startswith(OLD_TORCH):
        return (
            "it is a pickle, but not of torch.save",
            "load it where you trust it, and save its state dict with torch.save",
        )
    return reason[:200], "download it again, or save its state dict again with torch.save"


def version_of(value: Any) -> str | None:
    """The version in a value, for example '1.15.6', or None.

    The value can be a string or a pickled `packaging.Version`, which contains (1, 15, 6).
    """
    if isinstance(value, str):
        return value
    if isinstance(value, tuple) and len(value) > 1 and all(type(n) is int for n in value):
        return ".".join(map(str, value))
    if isinstance(value, StandIn):
        value = tuple(value.content)
    parts = value.values() if isinstance(value, dict) else value if type(value) is tuple else ()
    return next(filter(None, map(version_of, parts)), None)
