"""A tar file → where its samples are, in WebDataset's convention.

Files of a sample lie one after another and have the same path up to the first dot of the file name:
`a/0001.jpg`, `a/0001.txt`. A picture is .png, .jpg, .jpeg or .webp; its caption is .txt or, where
there is none, the "text" or "caption" of .json. All else is passed over, links as well.

A tar file is read header by header, whatever its size, and nothing is ever unpacked: a name in it
is a label here, never a path.
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
CAPTIONS = ("txt", "json")  # the first that a sample has counts
KEYS = ("text", "caption")  # of .json; the first counts
MOST_CAPTION = 1 << 20  # bytes; what is larger is no caption


@dataclass
class Piece:
    """A file inside of a tar file: `size` bytes from byte `offset` of it."""

    extension: str
    offset: int
    size: int


@dataclass
class Sample:
    key: str  # the path in the tar file, up to the first dot of the file name
    picture: Piece
    caption: Piece


class BadCaption(ValueError):
    """A caption that can't be used; the message is what a summary says of it."""


class BrokenShard(ValueError):
    """A tar file that can't be read to its end; the message says which."""


def samples(path: Path, report: Report) -> Iterator[Sample]:
    """The samples that are whole; the others are noted. Raises ValueError for a broken tar file."""
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
    """What keeps a sample from being used, or ''."""
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
    """A caption's file → its text. Raises BadCaption."""
    if len(data) > MOST_CAPTION:
        raise BadCaption("with a caption that is far too long")
    try:
        text = data.decode("utf-8-sig")
        text = _text_in(text) if extension == "json" else text
        text.encode()  # JSON can write halves of characters
    except UnicodeError as error:
        raise BadCaption("with a caption that is no Unicode text") from error
    if not " ".join(text.split()).rstrip(". "):
        raise BadCaption("with an empty caption")
    return text


def _text_in(written: str) -> str:
    try:
        facts = json.loads(written)
    except (ValueError, RecursionError) as error:
        raise BadCaption("with broken JSON") from error
    found = [facts[key] for key in KEYS if key in facts] if isinstance(facts, dict) else []
    if not found or not isinstance(found[0], str):
        raise BadCaption("without a caption")
    return found[0]


def read(file: BinaryIO, piece: Piece) -> bytes:
    """The bytes of a piece, of a caption that is far too long only the beginning. Raises ValueError
    where there are fewer."""
    most = MOST_CAPTION + 1 if piece.extension in CAPTIONS else piece.size
    file.seek(piece.offset)
    data = file.read(min(piece.size, most))
    if len(data) < min(piece.size, most):
        raise ValueError(f"{file.name} is shorter than it was when it was first read; start again")
    return data


def _pieces(path: Path) -> Iterator[tuple[str, Piece]]:
    """Of all regular files in a tar file: the sample's key, and where it is."""
    for name, offset, size in _members(path):
        folder, slash, base = name.rpartition("/")
        stem, _, extension = base.partition(".")
        if stem:
            yield folder + slash + stem, Piece(extension.lower(), offset, size)


def _members(path: Path) -> Iterator[tuple[str, int, int]]:
    """→ (name, offset, size). Raises ValueError where the tar file has no proper end, which is how
    a broken download looks: Python's tarfile alone would take most such files for whole, and of
    damaged sizes and names it raises more than its own errors."""
    length, end = path.stat().st_size, 0
    try:
        with tarfile.open(path, "r:") as tar:
            while member := tar.next():
                tar.members.clear()  # of which it would keep a list
                start, end = end, tar.offset  # of the next header
                if not start < end <= length:
                    raise tarfile.ReadError("the file ends before, or goes in circles")
                if member.isreg() and not member.issparse():
                    yield member.name, member.offset_data, member.size
            tar.fileobj.seek(tar.offset)
            if tar.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise tarfile.ReadError("no end where one should be")
    except (tarfile.TarError, ValueError, OverflowError, MemoryError) as error:
        where = f"cut off or broken (it has {length:,} bytes)" if end else "no plain tar file"
        raise BrokenShard(f"{path} is {where}") from error
