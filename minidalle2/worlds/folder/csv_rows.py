"""The rows of a CSV file. A malformed row is reported, and the rows after it are still used.

Python's csv module accepts rows that are not CSV: it cuts a row with too many fields, and a quote
that is never closed swallows all rows below. This file follows RFC 4180: a field with a comma, a
quote or a line break is in double quotes, and a quote inside of it is doubled. One thing more is
allowed, as in most programs: quotes inside of a field that does not begin with one (a 12" ruler).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from minidalle2.worlds.folder.formats import PICTURES

QUOTING = 'put a text with a comma or a quote in double quotes, such as a.png,"a cat, asleep"'
DOUBLED = 'write a quote inside of a text as two quotes, such as "a 5"" tall cat"'
CLOSING = f"close it, or {DOUBLED}"


@dataclass
class Row:
    line: int  # the line of the file in which the row begins, from 1
    fields: list[str]


@dataclass
class BadRow:
    line: int
    problem: str
    remedy: str
    text: str  # of that line


class _Malformed(ValueError):
    """A field that begins at position `at` is not CSV."""

    def __init__(self, at: int, problem: str, remedy: str):
        super().__init__(problem)
        self.at, self.problem, self.remedy = at, problem, remedy


def rows_of(text: str) -> Iterator[Row | BadRow]:
    r"""The rows of a text with line ends \n. The first row has the names of the columns.

    Every other row has as many fields as the first one, or is a BadRow.
    """
    columns, at, line = None, 0, 1
    while at < len(text):
        try:
            fields, end = _row(text, at)
            if columns:
                _check_swallowed(text, at, end, columns)
        except _Malformed as fault:
            line += text.count("\n", at, fault.at)
            at, end = fault.at, _end_of_line(text, fault.at) + 1
            start = text.rfind("\n", 0, at) + 1
            yield BadRow(line, fault.problem, fault.remedy, text[start : end - 1])
        else:
            if any(field.strip() for field in fields):
                yield _counted(line, fields, columns)
                columns = columns or fields
        line += text.count("\n", at, end)
        at = end


def _counted(line: int, fields: list[str], columns: list[str] | None) -> Row | BadRow:
    if columns is None or len(fields) == len(columns):
        return Row(line, fields)
    if len(fields) > len(columns):
        return BadRow(line, "with too many columns", QUOTING, ",".join(fields))
    expected = f"each row needs the {len(columns)} columns of the first line"
    return BadRow(line, "with too few columns", expected, ",".join(fields))


def _row(text: str, at: int) -> tuple[list[str], int]:
    """→ the fields of the row at position `at`, and the position after it. Raises _Malformed."""
    end = _end_of_line(text, at)
    if text.find('"', at, end) < 0:
        return text[at:end].split(","), end + 1
    fields, start = [], at
    while True:
        if text.startswith('"', start):
            end = _closing(text, start)
            if end + 1 < len(text) and text[end + 1] not in ",\n":
                if text.find("\n", start, end) >= 0:
                    raise _never_closed(start)
                raise _Malformed(start, "with a letter after a closing quote", DOUBLED)
            fields.append(text[start + 1 : end].replace('""', '"'))
            end += 1
        else:
            end = _end_of_line(text, start)
            comma = text.find(",", start, end)
            end = comma if comma >= 0 else end
            if text[start:end].lstrip().startswith('"'):
                remedy = "remove the spaces between the comma and the quote"
                raise _Malformed(start, "with a space before a quote", remedy)
            fields.append(text[start:end])
        if end >= len(text) or text[end] == "\n":
            return fields, end + 1
        start = end + 1


def _closing(text: str, start: int) -> int:
    """The position of the quote that closes the one at `start`. Two quotes are a letter."""
    end = text.find('"', start + 1)
    while end >= 0 and text.startswith('""', end):
        end = text.find('"', end + 2)
    if end < 0:
        raise _never_closed(start)
    return end


def _check_swallowed(text: str, at: int, end: int, columns: list[str]) -> None:
    """Raises _Malformed if a field with line breaks contains something that looks like a row.

    Such a field begins with a quote that was not meant to enclose the rows below it.
    """
    lines = text[at : end - 1].split("\n")
    if any(_looks_like_a_row(line, columns) for line in lines[1:]):
        raise _never_closed(at + max(0, lines[0].rfind('"')))


def _looks_like_a_row(line: str, columns: list[str]) -> bool:
    """Whether a line has all columns, and a picture's name that no quote comes before."""
    head, quote, _ = line.partition('"')
    fields = head.split(",")
    if "file_name" not in columns or (not quote and len(fields) != len(columns)):
        return False
    whole = fields[:-1] if quote else fields  # the last field goes on behind the quote
    name = "".join(whole[columns.index("file_name") :][:1])
    return PurePosixPath(name.lower()).suffix in PICTURES


def _end_of_line(text: str, at: int) -> int:
    end = text.find("\n", at)
    return end if end >= 0 else len(text)


def _never_closed(at: int) -> _Malformed:
    return _Malformed(at, "with a quote that is never closed", CLOSING)
