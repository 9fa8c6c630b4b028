"""metadata.jsonl or metadata.csv → the caption of each file, and the problems of the other files.

This is the convention of Hugging Face's `imagefolder`: a line has a `file_name`, relative to the
folder of the metadata, and a `text`. Metadata may be in the root folder and in each folder directly
below it. If a folder has both files, the .jsonl is used. A broken line is noted and skipped.
"""

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath

from PIL import Image

SHOWN = 3  # names that a summary contains for each kind of problem


@dataclass
class Report:
    """Files that were left out: kind of problem → the files (or lines) that have it."""

    problems: dict[str, list[str]] = field(default_factory=dict)

    def note(self, problem: str, name: str) -> None:
        self.problems.setdefault(problem, []).append(name)

    def __str__(self) -> str:
        """'2 unreadable (a.png, b.png); 1 with an empty caption (c.png)'."""
        parts = []
        for problem, names in self.problems.items():
            more = ", …" if len(names) > SHOWN else ""
            first = ", ".join(_shown(name) for name in names[:SHOWN])
            parts.append(f"{len(names)} {problem} ({first}{more})")
        return "; ".join(parts)


def read_metadata(root: Path, report: Report) -> dict[str, str]:
    """→ file → caption, in the order of the lines. A file is a path relative to root, with slashes.

    Notes all problems in `report`. Raises ValueError if there is no metadata, or if it is not text.
    """
    found = [path for folder in _folders(root) if (path := _metadata_in(folder))]
    if not found:
        raise ValueError(
            f"there is no metadata.jsonl or metadata.csv in {root} or in a folder directly below "
            'it; a metadata.jsonl with a line such as {"file_name": "a.png", "text": "a cat"} for '
            "each picture would work"
        )
    captions: dict[str, str] = {}
    named: set[str] = set()
    for path in found:
        place = path.parent.relative_to(root).as_posix()
        for where, line in _lines(path):
            file, problem = _checked(line, root, place)
            if file in captions and not problem:
                problem = "listed twice"
            if problem:
                report.note(problem, file or (PurePosixPath(place) / where).as_posix())
            else:
                captions[file] = line["text"]
            named.add(file)
    for file in _pictures_below([path.parent for path in found], root):
        if file not in named:
            report.note("without a line in the metadata", file)
    return captions


def _folders(root: Path) -> list[Path]:
    return [root, *sorted(path for path in root.iterdir() if path.is_dir())]


def _metadata_in(folder: Path) -> Path | None:
    paths = (folder / "metadata.jsonl", folder / "metadata.csv")
    return next((path for path in paths if path.is_file()), None)


def _checked(line: object, root: Path, place: str) -> tuple[str, str]:
    """A line of the metadata in the folder `place` → its file, and its problem or ''."""
    name = line.get("file_name") if isinstance(line, dict) else None
    if not isinstance(name, str) or not name.strip():
        return "", "broken"
    if _escapes(name):
        return name, "outside the folder"
    file, text = (PurePosixPath(place) / name).as_posix(), line.get("text")
    if not _is_file(root / file):
        return file, "missing"
    if not isinstance(text, str):
        return file, "without a caption"
    if not " ".join(text.split()).rstrip(". "):
        return file, "with an empty caption"
    if text.encode("utf-8", "replace").decode() != text:
        return file, "with a caption that is not Unicode text"
    return file, ""


def _escapes(name: str) -> bool:
    """Whether a name is absolute or has a drive or .. in it, as POSIX or Windows would read it."""
    paths = PurePosixPath(name), PureWindowsPath(name)
    return any(path.anchor or ".." in path.parts for path in paths)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # the name is too long or contains a zero byte
        return False


def _shown(name: str) -> str:
    """A name that can be printed: at most 60 characters and no control characters."""
    shown = "".join(c if c.isprintable() else "?" for c in name[:60])
    return shown + "…" * (len(name) > 60)


def _lines(path: Path) -> Iterator[tuple[str, object]]:
    """Yields a name of each line, such as 'metadata.jsonl line 3', and its content.

    The content of a valid line is a dict.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text; save it as UTF-8") from error
    if path.suffix == ".csv":
        yield from _csv_lines(text, path)
        return
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield f"{path.name} line {number}", _json(line)


def _json(line: str) -> object:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _csv_lines(text: str, path: Path) -> Iterator[tuple[str, object]]:
    reader = csv.DictReader(io.StringIO(text, newline=""))
    try:
        columns = reader.fieldnames or []
        if not {"file_name", "text"} <= set(columns):
            raise ValueError(
                f"{path} has the columns {', '.join(map(_shown, columns[:9])) or '(none)'}; "
                "file_name,text in its first line, separated by commas, would work"
            )
        for line in reader:
            yield f"{path.name} line {reader.line_num}", line
    except csv.Error as error:
        raise ValueError(f"{path} is broken at line {reader.line_num} ({error})") from error


def _pictures_below(folders: list[Path], root: Path) -> list[str]:
    """Files in the folders and below them that have the extension of a picture format."""
    suffixes = Image.registered_extensions().keys()
    files = {path for folder in folders for path in folder.rglob("*")}
    pictures = [path for path in files if path.suffix.lower() in suffixes and path.is_file()]
    return sorted(path.relative_to(root).as_posix() for path in pictures)
