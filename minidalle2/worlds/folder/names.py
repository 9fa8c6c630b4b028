"""A file name in the metadata → the file. Names from another computer may be spelled otherwise.

macOS writes é as two characters where others write one (Unicode's normal forms NFD and NFC).
Windows and macOS do not distinguish between upper and lower case. Windows writes img\\a.png.
"""

import unicodedata
from collections.abc import Iterable
from pathlib import Path, PurePosixPath, PureWindowsPath


def escapes(name: str) -> bool:
    """Whether a name is absolute or has a drive or .. in it, as POSIX or Windows would read it."""
    paths = PurePosixPath(name.strip()), PureWindowsPath(name.strip())
    return any(path.anchor or ".." in map(str.strip, path.parts) for path in paths)


def exact(root: Path, place: str, name: str) -> str | None:
    """The file of that name in the folder `place`. If there is none, also tries the name with
    slashes for backslashes and without spaces around it.

    Returns a path relative to root, or None if there is no such file or if the name leads out of
    the folder.
    """
    if not name or escapes(name):
        return None
    slashes = name.replace("\\", "/")
    for spelling in dict.fromkeys((name, slashes, slashes.strip())):
        file = joined(place, spelling)
        if _is_file(root / file):
            return file
    return None


def as_listed(root: Path, file: str, spellings: dict[str, list[str]]) -> str:
    """A file that exists → the same file as the folder lists it.

    The two can differ where the file system does not distinguish between upper and lower case or
    between normal forms. `spellings` has the listed files (see `by_folded`).
    """
    alike = spellings.get(folded(file), [])
    return next((other for other in alike if (root / other).samefile(root / file)), file)


def joined(place: str, name: str) -> str:
    return (PurePosixPath(place) / name).as_posix()


def by_folded(files: Iterable[str]) -> dict[str, list[str]]:
    """Folded name → the files that have it."""
    found: dict[str, list[str]] = {}
    for file in files:
        found.setdefault(folded(file), []).append(file)
    return found


def folded(name: str) -> str:
    """The same for all names that differ only in normal form, upper/lower case or slashes."""
    path = PurePosixPath(name.strip().replace("\\", "/")).as_posix()  # without ./
    composed = unicodedata.normalize("NFC", path)
    return unicodedata.normalize("NFC", composed.casefold())


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # the name is too long or contains a zero byte
        return False
