"""The name of a world of shards → its tar files: a folder's, or those of a pattern.

`data/laion` is all of data/laion/*.tar; `data/{000..009}.tar` is ten files, all of which must be
there. Nothing here imports torch (see world.py one folder up).
"""

import re
from pathlib import Path

SUFFIX = ".tar"
MOST = 1_000_000  # shards of one pattern; a slip of the finger may ask for more
RANGE = re.compile(r"\{([0-9]+)\.\.([0-9]+)\}")
METADATA = ("metadata.jsonl", "metadata.csv")  # make it a folder of pictures


def names_shards(name: str) -> bool:
    """Whether it is a path or pattern of tar files, or a folder that has some and no metadata."""
    path = Path(name)
    if not path.is_dir():
        return name.endswith(SUFFIX)
    return any(path.glob(f"*{SUFFIX}")) and not any((path / file).exists() for file in METADATA)


def label(name: str) -> str:
    """Of the folder, or of the folder that the files of a pattern are in."""
    path = Path(name).resolve()
    return (path if path.is_dir() else path.parent).name or "shards"


def shards_of(name: str) -> list[Path]:
    """→ the files, sorted by name. Raises ValueError where one of a pattern is missing."""
    if Path(name).is_dir():
        return sorted(path for path in Path(name).glob(f"*{SUFFIX}") if path.is_file())
    paths = [Path(expanded) for expanded in expand(name)]
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise ValueError(
            f"{len(missing)} of {len(paths)} shards of {name} are not there, {missing[0]} first; "
            "a pattern of files that exist, such as 'data/{000..009}.tar', would work"
        )
    return sorted(paths)


def expand(pattern: str) -> list[str]:
    """'a-{08..11}.tar' → a-08.tar, a-09.tar, a-10.tar, a-11.tar. Raises ValueError for a range that
    is empty or far too long."""
    found = RANGE.search(pattern)
    if not found:
        return [pattern]
    first, last = found.groups()
    rest = expand(pattern[found.end() :])
    if not 0 < (int(last) - int(first) + 1) * len(rest) <= MOST:
        raise ValueError(
            f"{pattern} stands for no shard or for more than {MOST:,}; a range from the smaller to "
            "the larger number, such as {000..009}, would work"
        )
    numbers = [str(i).zfill(len(first)) for i in range(int(first), int(last) + 1)]
    return [pattern[: found.start()] + number + end for number in numbers for end in rest]
