"""The name of a world of shards → its tar files.

`data/laion` stands for all files data/laion/*.tar. `data/{000..009}.tar` stands for ten files, and
all of them must exist. This module does not import torch (see worlds/catalogue.py).
"""

import re
from collections.abc import Iterator
from pathlib import Path

from minidalle2.worlds.archives import METADATA, PACKED

SUFFIX = ".tar"
MOST = 1_000_000  # shards of one pattern; more would be a typing error
RANGE = re.compile(r"\{([0-9]+)\.\.([0-9]+)\}")


def names_shards(name: str) -> bool:
    """Whether the name stands for tar files.

    That is the case for a path or pattern that ends in .tar, and for a folder with tar files and
    without metadata.
    """
    path = Path(name)
    if not path.is_dir():
        return name.endswith(SUFFIX)
    return any(path.glob(f"*{SUFFIX}")) and not any((path / file).exists() for file in METADATA)


def label(name: str) -> str:
    """The name of the folder, or of the folder that contains the files of a pattern."""
    path = Path(name).resolve()
    return (path if path.is_dir() else path.parent).name or "shards"


def shards_of(name: str) -> list[Path]:
    """→ the tar files, sorted by name. Raises ValueError if a file of a pattern is missing."""
    if Path(name).is_dir():
        return sorted(path for path in Path(name).glob(f"*{SUFFIX}") if path.is_file())
    paths = [Path(expanded) for expanded in expand(name)]
    missing = [path for path in paths if not path.is_file()]
    if missing and "*" in name:
        raise ValueError(
            f"{name} contains a *, which is not understood; give the folder of the tar files, or a "
            "range such as 'data/{000..009}.tar'"
        )
    if missing:
        raise ValueError(
            f"{len(missing)} of {len(paths)} shards of {name} do not exist, the first of them is "
            f"{missing[0]}; a pattern of files that exist, such as 'data/{{000..009}}.tar', would "
            "work"
        )
    return sorted(paths)


def unread(name: str) -> Iterator[tuple[str, str, str]]:
    """Yields problem, file and remedy for archives in a folder that are not among its shards."""
    folder = Path(name)
    if not folder.is_dir():
        return
    for path in sorted(folder.rglob("*")):
        file, suffix = path.relative_to(folder), path.suffix.lower()
        if suffix in PACKED:
            yield "not read because it is packed", file.as_posix(), "unpack it"
        elif suffix == SUFFIX and len(file.parts) > 1:
            yield "not read because it is in a subfolder", file.as_posix(), f"open {path.parent}"


def expand(pattern: str) -> list[str]:
    """'a-{08..11}.tar' → a-08.tar, a-09.tar, a-10.tar, a-11.tar.

    Raises ValueError for an empty range, and for more than MOST names.
    """
    found = RANGE.search(pattern)
    if not found:
        return [pattern]
    first, last = found.groups()
    rest = expand(pattern[found.end() :])
    if not 0 < (int(last) - int(first) + 1) * len(rest) <= MOST:
        raise ValueError(
            f"{pattern} stands for no shard or for more than {MOST:,} shards; a range from the "
            "smaller to the larger number, such as {000..009}, would work"
        )
    numbers = [str(i).zfill(len(first)) for i in range(int(first), int(last) + 1)]
    return [pattern[: found.start()] + number + end for number in numbers for end in rest]
