"""metadata.jsonl or metadata.csv → the caption of each file, and the problems of the other files.

This is the convention of Hugging Face's `imagefolder`: a row has a `file_name`, relative to the
folder of the metadata, and a `text` (or a `caption`). Metadata may be in the root folder and in
each folder directly below it. If a folder has both files, the .jsonl is used. A bad row is noted
and skipped.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from minidalle2.worlds.captions import EXAMPLE, KEYS, BadCaption, as_text, caption_of_row, keys_of
from minidalle2.worlds.folder.csv_rows import BadRow
from minidalle2.worlds.folder.names import as_listed, by_folded, escapes, exact, folded, joined
from minidalle2.worlds.folder.search import Found, find
from minidalle2.worlds.folder.tables import BadTable, Line, lines_of
from minidalle2.worlds.report import Report

NAME = "file_name"


@dataclass
class _Row:
    place: str  # the folder of the metadata
    row: dict[str, object]
    name: str
    file: str | None  # of exactly this name


def read_metadata(root: Path, report: Report) -> dict[str, str]:
    """→ file → caption, in the order of the rows. A file is a path relative to root, with slashes.

    Notes all problems in `report`. Raises ValueError if there is no metadata that can be used.
    """
    found = find(root)
    for file, (problem, remedy) in found.unused.items():
        report.note(problem, file, remedy)
    if not found.used:
        others = f"; left out: {report}" if found.unused else ""
        raise ValueError(
            f"there is no metadata.jsonl or metadata.csv in {root} or in a folder directly below "
            f"it; a metadata.jsonl with a line such as {EXAMPLE} for each picture would work"
            f"{others}"
        )
    named: set[str] = set()
    rows = list(_rows(root, found, named, report))
    captions = _captions(rows, found.pictures, named, report)
    _note_unlisted(found, named, report)
    return captions


def _rows(root: Path, found: Found, named: set[str], report: Report) -> Iterator[_Row]:
    """The rows that name a file. Notes the others.

    Adds to `named` the files of exactly these names. Raises ValueError if no table can be used.
    """
    broken: list[BadTable] = []
    pictures, spellings = set(found.pictures), None
    for table in found.used:
        place = PurePosixPath(table).parent.as_posix()
        try:
            for line in lines_of(root / table):
                where = f"{table} line {line.line}"
                if isinstance(line, BadRow):
                    report.note(line.problem, where, line.remedy)
                    parts = (part.strip() for part in re.split('[",]', line.text))
                    named.update(filter(None, (exact(root, place, part) for part in parts)))
                elif name := _name(line, where, report):
                    file = exact(root, place, name)
                    if file and file not in pictures:
                        spellings = spellings or by_folded(pictures)
                        file = as_listed(root, file, spellings)
                    named.update([file] if file else [])
                    yield _Row(place, line.row, name, file)
        except BadTable as error:
            broken.append(error)
            report.note(f"not read because it {error.fault}", table, error.remedy)
    if len(broken) == len(found.used):
        raise broken[0]


def _name(line: Line, where: str, report: Report) -> str:
    """The file name in a row, or '' if there is none, which is noted."""
    if NAME not in line.row:
        report.note("without a file_name", where, f'expected "{NAME}", found {keys_of(line.row)}')
        return ""
    try:
        name = as_text(line.row[NAME], NAME)
    except BadCaption as error:
        report.note(error.problem, where, f'write a name in double quotes: "{NAME}": "a.png"')
        return ""
    if not name.strip():
        report.note("with an empty file_name", where, "write the name of the picture")
    return name if name.strip() else ""


def _captions(
    rows: list[_Row], pictures: list[str], named: set[str], report: Report
) -> dict[str, str]:
    """→ file → caption. Notes the rows that can't be used.

    `named` has the files that a row names exactly. A row with another spelling can't mean them. The
    files that such rows mean are added.
    """
    captions: dict[str, str] = {}
    spellings: dict[str, list[str]] = {}
    if any(row.file is None for row in rows):
        spellings = by_folded(file for file in pictures if file not in named)
    for row in rows:
        if escapes(row.name):
            remedy = (
                "move it into the folder, and write its path relative to the metadata, without .."
            )
            report.note("outside the folder", row.name, remedy)
            continue
        file = row.file or joined(row.place, row.name.strip())
        same = [] if row.file else spellings.get(folded(file), [])
        if len(same) == 1:
            file = same[0]
            named.add(file)
        try:
            caption = caption_of_row(row.row)
        except BadCaption as error:
            report.note(error.problem, file, error.remedy)
            continue
        if len(same) > 1:
            remedy = f"{' and '.join(same[:2])} differ only in spelling; write the exact name"
            report.note("that can mean several files", file, remedy)
        elif not row.file and not same:
            remedy = f"write {NAME} as it is spelled, relative to the folder of the metadata"
            report.note("missing", file, remedy)
        elif file in captions:
            report.note("listed twice", file, "keep one line; the first one is used")
        else:
            captions[file] = caption
            if len({repr(row.row[key]) for key in KEYS if row.row.get(key)}) > 1:
                remedy = f'"{KEYS[0]}" is used; remove one of the two'
                report.note("with a second caption that is not used", file, remedy)
    return captions


def _note_unlisted(found: Found, named: set[str], report: Report) -> None:
    """Notes the pictures that no row names, in the folders of the metadata and below them."""
    read = tuple(_prefix(file) for file in found.used)
    deep = tuple(_prefix(file) for file in found.unused if file.count("/") > 1)
    for file in found.pictures:
        if file in named or not file.startswith(read):
            continue
        if file.startswith(deep):
            remedy = "that metadata is more than one folder down; open its folder by itself"
            report.note("beside metadata that is not read", file, remedy)
        else:
            remedy = f"add a line such as {EXAMPLE}"
            report.note("without a line in the metadata", file, remedy)


def _prefix(file: str) -> str:
    """'a/metadata.csv' → 'a/', 'metadata.csv' → ''."""
    folder, slash, _ = file.rpartition("/")
    return folder + slash
