"""A tar file → the positions of its samples, in WebDataset's convention.

The files of a sample are adjacent, and their paths are equal up to the first dot of the file name:
`a/0001.jpg`, `a/0001.txt`. A picture is a .png, .jpg, .jpeg or .webp file. Its caption is the .txt
file, or else the "text" or "caption" in the .json file. Other files and links are ignored.

A tar file is read header by header, so its size does not matter. Nothing is unpacked. A name in a
tar file is used as a label only, never as a path.
"""

import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import BinaryIO

from minidalle2.worlds.folder.metadata import Report

PICTURES = ("png", "jpg", "jpeg", "webp")
CAPTIONS = ("txt", "json")  # the first one that a sample has is used
KEYS = ("text", "caption")  # of .json; the first one is used
MOST_CAPTION = 1 << 20  # bytes; a larger file is not a caption


@dataclass
class Piece:
    """A file inside a tar file: `size` bytes from byte `offset` on."""

    extension: str
    offset: int
    size: int


@dataclass
class Sample:
    """A picture and its caption."""

    key: str  # the path in the tar file, up to the first dot of the file name
    picture: Piece
    caption: Piece


class BadCaption(ValueError):
    """A caption that can't be used. The message is the entry in the summary."""


class BrokenShard(ValueError):
    """A tar file that can't be read to its end. The message contains its path."""


def samples(path: Path, report: Report) -> Iterator[Sample]:
    """Yields the complete samples and notes the others in `report`.

    Raises BrokenShard, a ValueError, for a broken tar file.
    """
    with open(path, "rb") as file:
        for key, group in groupby(_pieces(path), lambda named: named[0]):
            pieces: dict[str, Piece] = {}
            for _, piece in group:
                if piece.extension in (*PICTURES, *CAPTIONS):
                    pieces.setdefault(piece.extension, piece)
            if not pieces:
                continue
            picture = next((pieces[e] for e in PICTURES if e in pieces), None)
            caption = next((pieces[e] for e in CAPTIONS if e in pieces), None)
            problem = _problem(file, picture, caption)
            if problem:
                report.note(problem, f"{path.name}/{key}")
            else:
                yield Sample(key, picture, caption)


def _problem(file: BinaryIO, picture: Piece | None, caption: Piece | None) -> str:
    """Why a sample can't be used; '' if it can be used."""
    if picture is None:
        return "without a picture"
    if caption is None:
        return "without a caption"
    try:
        caption_of(read(file, caption), caption.extension)
    except BadCaption as error:
        return str(error)
    return ""


def caption_of(data: bytes, extension: str) -> str:
    """The content of a caption file → its text. Raises BadCaption."""
    if len(data) > MOST_CAPTION:
        raise BadCaption("with a caption that is far too long")
    try:
        text = data.decode("utf-8-sig")
        text = _text_in(text) if extension == "json" else text
        text.encode()  # JSON can contain half of a surrogate pair
    except UnicodeError as error:
        raise BadCaption("with a caption that is not Unicode text") from error
    if not " ".join(text.split()).rstrip(". "):
        raise BadCaption("with an empty caption")
    return text


def _text_in(written: str) -> str:
    """JSON → its "text" or "caption". Raises BadCaption."""
    try:
        facts = json.loads(written)
    except (ValueError, RecursionError) as error:
        raise BadCaption("with broken JSON") from error
    found = [facts[key] for key in KEYS if key in facts] if isinstance(facts, dict) else []
    if not found or not isinstance(found[0], str):
        raise BadCaption("without a caption")
    return found[0]


def read(file: BinaryIO, piece: Piece) -> bytes:
    """The bytes of a piece. Of a caption, at most MOST_CAPTION + 1 bytes are read.

    Raises ValueError if the file ends before.
    """
    most = MOST_CAPTION + 1 if piece.extension in CAPTIONS else piece.size
    file.seek(piece.offset)
    data = file.read(min(piece.size, most))
    if len(data) < min(piece.size, most):
        raise ValueError(
            f"{file.name} is shorter than it was when its index was made; start the command again"
        )
    return data


def _pieces(path: Path) -> Iterator[tuple[str, Piece]]:
    """Yields the key of the sample and the position for each regular file in a tar file."""
    for name, offset, size in _members(path):
        folder, slash, base = name.rpartition("/")
        stem, _, extension = base.partition(".")
        if stem:
            yield folder + slash + stem, Piece(extension.lower(), offset, size)


def _members(path: Path) -> Iterator[tuple[str, int, int]]:
    """Yields (name, offset, size) for each regular file. Raises BrokenShard for a broken tar file.

    A tar file without a proper end is broken, because an incomplete download looks like that.
    Python's tarfile module alone would accept most such files as complete. For damaged sizes and
    names it raises other errors than its own, too.
    """
    length, end = path.stat().st_size, 0
    try:
        with tarfile.open(path, "r:") as tar:
            while member := tar.next():
                tar.members.clear()  # otherwise this list grows with the file
                start, end = end, tar.offset  # offset of the next header
                if not start < end <= length:
                    raise tarfile.ReadError("the next header is beyond the end or not ahead")
                if member.isreg() and not member.issparse():
                    yield member.name, member.offset_data, member.size
            tar.fileobj.seek(tar.offset)
            if tar.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise tarfile.ReadError("the end of the archive is missing")
    except (tarfile.TarError, ValueError, OverflowError, MemoryError) as error:
        broken = f"cut off or broken (it has {length:,} bytes)"
        raise BrokenShard(f"{path} is {broken if end else 'not a plain tar file'}") from error
