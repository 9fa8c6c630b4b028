"""A metadata.jsonl or metadata.csv → its rows. A row that can't be read is a BadRow."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from minidalle2.worlds.captions import EXPECTED, KEYS, BadCaption, keys_of, object_in
from minidalle2.worlds.folder.csv_rows import BadRow, rows_of


@dataclass
class Line:
    """The keys and values of one picture."""

    line: int  # of the file, from 1
    row: dict[str, object]


class BadTable(ValueError):
    """A file that can't be used at all. `fault` follows the name of the file."""

    def __init__(self, path: Path, fault: str, remedy: str):
        super().__init__(f"{path} {fault}; {remedy}")
        self.fault, self.remedy = fault, remedy


def lines_of(path: Path) -> Iterator[Line | BadRow]:
    """The rows of a file. Raises BadTable, a ValueError, if none of it can be used.

    A byte that is not UTF-8 becomes half of a surrogate pair, so that only its row is affected.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig", "surrogateescape")
    except OSError as error:
        fault = f"can't be read ({error.strerror})"
        raise BadTable(path, fault, "check that you may read it") from error
    if "\0" in text[:4]:
        raise BadTable(path, "is not UTF-8 text", "save it as UTF-8")
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    yield from (_csv if path.suffix.lower() == ".csv" else _jsonl)(text, path)


def _jsonl(text: str, path: Path) -> Iterator[Line | BadRow]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                yield Line(number, object_in(line))
            except BadCaption as error:
                yield BadRow(number, error.problem, error.remedy, line)


def _csv(text: str, path: Path) -> Iterator[Line | BadRow]:
    rows = rows_of(text)
    header = next(rows, None)
    if isinstance(header, BadRow):
        raise BadTable(path, f"begins with a line {header.problem}", header.remedy)
    columns = header.fields if header else []
    known = [column for column in columns if column in ("file_name", *KEYS)]
    if len(known) > len(set(known)):
        fault = f"has a column twice ({keys_of(dict.fromkeys(known))})"
        raise BadTable(path, fault, "remove or rename one of the columns")
    if "file_name" not in known or len(known) < 2:
        names = keys_of(dict.fromkeys(columns)) if columns else "(none)"
        fault = f"has the columns {names}"
        remedy = (
            "file_name,text in its first line, separated by commas, would work "
            f"(expected: file_name and {EXPECTED})"
        )
        raise BadTable(path, fault, remedy)
    for row in rows:
        yield row if isinstance(row, BadRow) else Line(row.line, dict(zip(columns, row.fields)))  # noqa: B905
