"""A tar file → the positions of its samples, in WebDataset's convention.

The files of a sample are adjacent, and their paths are equal up to the first dot of the file name:
`a/0001.jpg`, `a/0001.txt`. The rest of the name is the extension. A picture is a .png, .jpg, .jpeg
or .webp file. Its caption is the .txt file, or else the "text" or "caption" in the .json file.
Files whose name has no dot, or begins with a dot, are ignored.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import BinaryIO

from minidalle2.worlds.captions import MOST, BadCaption, caption_of_row, checked, object_in
from minidalle2.worlds.folder.formats import PICTURES as ALL_PICTURES
from minidalle2.worlds.folder.names import folded
from minidalle2.worlds.folder.world import MOST_BYTES, TOO_LARGE
from minidalle2.worlds.report import Report
from minidalle2.worlds.shards.members import BrokenShard, Member, members

__all__ = ["BadCaption", "BrokenShard", "caption_of", "read", "samples"]

MOST_READ = 16 * MOST  # bytes of a caption's file; JSON can have other keys and escapes
PICTURES = ("png", "jpg", "jpeg", "webp")
CAPTIONS = ("txt", "json")  # the first one that a sample has is used
NO_PICTURE, NO_CAPTION = "without a picture", "without a caption"
LINKS = "pack the files themselves: tar --dereference --hard-dereference"
FIRST_DOT = (
    "the name of a sample ends at the first dot; name its files alike, with one dot each, such as "
    "22_05.jpg and 22_05.txt"
)
ALIKE = "write upper and lower case, accents and slashes alike in the names of both files"
APART = "a picture and its caption must be adjacent: tar --sort=name"


@dataclass
class Piece:
    """A file inside a tar file: `size` bytes from byte `offset` on."""

    extension: str
    offset: int
    size: int
    link: bool = False


@dataclass
class Sample:
    """A picture and its caption."""

    key: str  # the path in the tar file, up to the first dot of the file name
    picture: Piece
    caption: Piece


class _BadSample(ValueError):
    """A sample that can't be used. `end` is added to its key in the summary."""

    def __init__(self, problem: str, remedy: str, end: str = ""):
        super().__init__(problem)
        self.problem, self.remedy, self.end = problem, remedy, end


def samples(path: Path, report: Report) -> Iterator[Sample]:
    """Yields the complete samples and notes the others in `report`.

    Raises BrokenShard, a ValueError, for a broken tar file.
    """
    halves: dict[str, list[tuple[str, _BadSample]]] = {}  # without a picture or without a caption
    with open(path, "rb") as file:
        for key, group in groupby(_pieces(path, report), lambda named: named[0]):
            pieces = [piece for _, piece in group]
            dotted, whole = _dotted(pieces)
            for piece in dotted:
                name = f"{path.name}/{key}.{piece.extension}"
                report.note("with a second dot in its name", name, FIRST_DOT)
            if dotted and not whole:
                continue
            try:
                yield _sample(file, key, pieces)
            except _BadSample as bad:
                if bad.problem in (NO_PICTURE, NO_CAPTION):
                    halves.setdefault(folded(key), []).append((key, bad))
                else:
                    report.note(bad.problem, f"{path.name}/{key}{bad.end}", bad.remedy)
    _note_halves(halves.values(), path.name, report)


def _note_halves(
    halves: Iterable[list[tuple[str, _BadSample]]], shard: str, report: Report
) -> None:
    """Notes pictures without a caption and captions without a picture, and those of one name."""
    for alike in halves:
        first = f"{shard}/{alike[0][0]}"
        if len({bad.problem for _, bad in alike}) == 1:
            for key, bad in alike:
                report.note(bad.problem, f"{shard}/{key}", bad.remedy)
        elif len({key for key, _ in alike}) == 1:
            report.note("whose files lie apart", first, APART)
        else:
            report.note("whose files are spelled differently", first, ALIKE)


def _dotted(pieces: list[Piece]) -> tuple[list[Piece], bool]:
    """→ the files of samples that were meant to have a dot in their name, and whether the sample
    is complete without them.

    In a complete sample, `10.seg.png` is a further picture of sample 10 unless there is a
    `10.seg.txt`, too.
    """
    plain = {piece.extension for piece in pieces}
    has_picture, has_caption = plain & {*PICTURES}, plain & {*CAPTIONS}
    parts = [(piece, *piece.extension.rpartition(".")) for piece in pieces]
    pictures = [(piece, stem) for piece, stem, dot, last in parts if dot and last in PICTURES]
    captions = [(piece, stem) for piece, stem, dot, last in parts if dot and last in CAPTIONS]
    if has_picture and has_caption:
        stems = {stem for _, stem in captions}
        return [piece for piece, stem in pictures if stem in stems], True
    missing = captions if has_picture else pictures if has_caption else pictures or captions
    return [piece for piece, _ in missing], False


def _sample(file: BinaryIO, key: str, pieces: list[Piece]) -> Sample:
    """Raises _BadSample if the files are no complete sample."""
    pictures = [piece for piece in pieces if piece.extension in PICTURES]
    captions = [piece for piece in pieces if piece.extension in CAPTIONS]
    _check_links(pictures, captions)
    _check_number(pictures, captions)
    others = list(dict.fromkeys(f".{piece.extension}" for piece in pieces if piece not in captions))
    unread = next((other for other in others if other in ALL_PICTURES), None)
    if not pictures and unread:
        remedy = f"{unread} is not read; convert the pictures to PNG, JPEG or WebP"
        raise _BadSample("with a picture in a format that is not read from tar files", remedy)
    if not pictures and not captions:
        remedy = f"{', '.join(others)}: only .png, .jpg, .jpeg, .webp, .txt and .json are read"
        raise _BadSample("with neither a picture nor a caption", remedy)
    if not pictures:
        remedy = (
            "put a .png, .jpg, .jpeg or .webp file of the same name directly before the caption"
        )
        raise _BadSample(NO_PICTURE, remedy)
    if not captions:
        remedy = "put a .txt or .json file of the same name directly after the picture"
        raise _BadSample(NO_CAPTION, remedy)
    picture, caption = pictures[0], min(captions, key=lambda c: CAPTIONS.index(c.extension))
    if not picture.size:
        raise _BadSample("with an empty file as its picture", "write or download it again")
    if picture.size > MOST_BYTES:
        raise _BadSample(*TOO_LARGE)
    try:
        caption_of(read(file, caption), caption.extension)
    except BadCaption as error:
        raise _BadSample(error.problem, error.remedy) from error
    return Sample(key, picture, caption)


def _check_links(pictures: list[Piece], captions: list[Piece]) -> None:
    for pieces, problem in ((pictures, NO_PICTURE), (captions, NO_CAPTION)):
        for piece in pieces:
            if piece.link:
                raise _BadSample(f"{problem} because it is a link", LINKS, f".{piece.extension}")


def _check_number(pictures: list[Piece], captions: list[Piece]) -> None:
    """Raises _BadSample if it is not clear which picture and which caption belong together."""
    names = [piece.extension for piece in (*pictures, *captions)]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        remedy = "it is not clear which one is meant; give each sample a name of its own"
        raise _BadSample("with two files of the same name", remedy, f".{twice}")
    if len(pictures) > 1:
        found = " and ".join(f".{piece.extension}" for piece in pictures[:2])
        remedy = f"it has {found}; give each picture a name and a caption of its own"
        raise _BadSample("with more than one picture", remedy)


def caption_of(data: bytes, extension: str) -> str:
    """The content of a caption file → its text. Raises BadCaption."""
    text = data.decode("utf-8-sig", "surrogateescape")
    if len(data) > MOST_READ or extension != "json":
        return checked(text)
    return caption_of_row(object_in(text))


def read(file: BinaryIO, piece: Piece) -> bytes:
    """The bytes of a piece. Of a caption, at most MOST_READ + 1 bytes are read.

    Raises ValueError if the file ends before.
    """
    most = MOST_READ + 1 if piece.extension in CAPTIONS else piece.size
    file.seek(piece.offset)
    data = file.read(min(piece.size, most))
    if len(data) < min(piece.size, most):
        raise ValueError(
            f"{file.name} is shorter than it was when its index was made; start the command again"
        )
    return data


def _pieces(path: Path, report: Report) -> Iterator[tuple[str, Piece]]:
    """Yields the key of the sample and the position for each file in a tar file."""
    for member in members(path, report):
        key, extension = split(member)
        if extension:
            yield key, Piece(extension, member.offset, member.size, member.link)


def split(member: Member) -> tuple[str, str]:
    """→ the key of the sample, and the extension in lower case or '' for a file to ignore."""
    folder, slash, base = member.name.rpartition("/")
    stem, _, extension = base.partition(".")
    return folder + slash + stem, extension.lower() if stem else ""
