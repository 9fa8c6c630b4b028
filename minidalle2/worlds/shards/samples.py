"""A tar file → the positions of its samples, in WebDataset's convention.

The files of a sample are adjacent, and their paths are equal up to the first dot of the file name:
`a/0001.jpg`, `a/0001.txt`. The rest of the name is the extension. Files whose name has no dot, or
begins with a dot, are ignored.
"""

from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path

from minidalle2.worlds.folder.names import folded
from minidalle2.worlds.report import Report
from minidalle2.worlds.shards.members import Member, members
from minidalle2.worlds.shards.sample import (
    NO_CAPTION,
    NO_PICTURE,
    BadSample,
    Piece,
    Sample,
    dotted_files,
    sample_of,
)

FIRST_DOT = (
    "the name of a sample ends at the first dot; name its files alike, with one dot each, such as "
    "22_05.jpg and 22_05.txt"
)
ALIKE = "write upper and lower case, accents and slashes alike in the names of both files"
APART = "a picture and its caption must be adjacent: tar --sort=name"


def samples(path: Path, report: Report) -> Iterator[Sample]:
    """Yields the complete samples and notes the others in `report`.

    Raises BrokenShard, a ValueError, for a broken tar file.
    """
    halves: dict[str, list[tuple[str, BadSample]]] = {}  # without a picture or without a caption
    with open(path, "rb") as file:
        for key, group in groupby(_pieces(path, report), lambda named: named[0]):
            pieces = [piece for _, piece in group]
            dotted, whole = dotted_files(pieces)
            for piece in dotted:
                name = f"{path.name}/{key}.{piece.extension}"
                report.note("with a second dot in its name", name, FIRST_DOT)
            if dotted and not whole:
                continue
            try:
                yield sample_of(file, key, pieces)
            except BadSample as bad:
                if bad.problem in (NO_PICTURE, NO_CAPTION):
                    halves.setdefault(folded(key), []).append((key, bad))
                else:
                    report.note(bad.problem, f"{path.name}/{key}{bad.end}", bad.remedy)
    _note_halves(halves.values(), path.name, report)


def _note_halves(halves: Iterable[list[tuple[str, BadSample]]], shard: str, report: Report) -> None:
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
