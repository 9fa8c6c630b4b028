"""Output folders: the results of an earlier command are replaced as a whole, or not at all.

Only files that minidalle2 wrote are removed (storage/ours.py): the pictures that manifest.jsonl or
metadata.jsonl lists, and the grid. They stay until the first new result exists. A command stops if
it would remove or overwrite any other file.
"""

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from unicodedata import normalize

from tqdm import tqdm

from minidalle2.commands.options import make_folder
from minidalle2.storage.file_names import RESULT
from minidalle2.storage.locks import InUse, locked
from minidalle2.storage.ours import check_ours, is_ours

MANIFEST, METADATA, GRID = "manifest.jsonl", "metadata.jsonl", "grid.png"
EXPORTED = re.compile(r"\d{6,}\.(png|tar)")  # the name of a picture or tar file of `export`
LICENSES = "LICENSES"  # the folder of the licences and credits of the pictures
LOCK = ".minidalle2.lock"


def output_folder(path: Path, inputs: list[Path]) -> Path:
    """Creates the folder of a command that reads the files `inputs`.

    Raises ValueError if nothing can be written to it, if a file in it prevents the replacement of
    the earlier results, or if one of the inputs is among these results.
    """
    results = {os.path.realpath(file) for file in earlier_results(path)}
    for file in inputs:
        if os.path.realpath(file) in results:
            raise ValueError(
                f"{file} is a result of an earlier command in {path}, and the new results would "
                f"replace it; choose another folder, for example --out {path / 'next'}"
            )
    return make_folder(path)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Inside, no other command writes to the folder. Raises ValueError if another command does."""
    lock = folder / LOCK
    try:
        with locked(lock):
            try:
                yield
            finally:
                with suppress(OSError):  # Windows removes no open file
                    lock.unlink(missing_ok=True)
    except InUse as error:
        raise ValueError(
            f"another command is writing to {folder}; wait for its end, or choose another folder "
            "with --out"
        ) from error


def earlier_results(folder: Path) -> list[Path]:
    """The files of an earlier drawing command in the folder: pictures, grid and manifest.

    Raises ValueError if minidalle2 did not write one of them.
    """
    for path in (folder / METADATA, *exported_tars(folder)):
        check_kind(path, "a data set, such as `export` writes")
    names = listed(folder / MANIFEST, "file", RESULT)
    files = [folder / name for name in (*names, GRID)]
    check_ours(files)
    check_listed(folder, RESULT, set(names), MANIFEST)
    return existing([*files, folder / MANIFEST])


def earlier_export(folder: Path) -> list[Path]:
    """The files of an earlier `export` in the folder. Raises ValueError like `earlier_results`."""
    check_kind(folder / MANIFEST, "pictures of a drawing command")
    names = listed(folder / METADATA, "file_name", EXPORTED)
    files = [folder / name for name in names] + exported_tars(folder)
    check_ours(files)
    check_ours(path for path in folder.glob("*.png") if EXPORTED.fullmatch(path.name))
    check_listed(folder, EXPORTED, {path.name for path in files}, METADATA)
    return existing([*files, folder / METADATA])


def exported_tars(folder: Path) -> list[Path]:
    """The tar files with names that `export` gives."""
    return [path for path in sorted(folder.glob("*.tar")) if EXPORTED.fullmatch(path.name)]


def check_kind(other: Path, what: str) -> None:
    """Raises ValueError if `other` exists, which belongs to results of another kind."""
    if other.exists():
        raise ValueError(
            f"{other.parent} holds {what} ({other.name}), and the new results would lie among "
            "them; choose another folder with --out"
        )


def listed(path: Path, key: str, pattern: re.Pattern) -> list[str]:
    """The file names in a manifest, each once; [] if there is none or if it is empty.

    Raises ValueError if a line has no such name. Then minidalle2 did not write the manifest.
    """
    if not path.exists() or not path.stat().st_size:
        return []
    *lines, rest = path.read_text(encoding="utf-8", errors="replace").split("\n")
    try:
        names = [json.loads(line)[key] for line in lines]
        if names and not rest and all(pattern.fullmatch(name) for name in names):
            return list(dict.fromkeys(names))
    except (ValueError, KeyError, IndexError, TypeError, RecursionError):
        pass  # the same message
    raise ValueError(
        f"{path} is not a file that minidalle2 wrote, or it was changed later; move the file, or "
        "choose another folder with --out"
    )


def check_listed(folder: Path, pattern: re.Pattern, names: set[str], manifest: str) -> None:
    """Raises ValueError for a file of minidalle2 that is not one of the listed `names`."""
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        name = normalize("NFC", path.name)  # macOS may decompose accents
        if pattern.fullmatch(name) and name not in names and is_ours(path):
            raise ValueError(
                f"{path} is a result of minidalle2, but {manifest} does not list it; move it, or "
                "choose another folder with --out"
            )


def check_licences(source: Path | None, folder: Path) -> None:
    """Raises ValueError if a file in `source` would overwrite another one in folder/LICENSES."""
    for path in source.iterdir() if source else ():
        target = folder / LICENSES / path.name
        if target.exists() and target.read_bytes() != path.read_bytes():
            raise ValueError(
                f"{target} has the name of a licence of the pictures, but another content; move "
                "it, or choose another folder"
            )


def existing(files: list[Path]) -> list[Path]:
    return [path for path in files if path.exists()]


def remove(files: list[Path], folder: Path) -> None:
    """Removes earlier results and says so."""
    for path in files:
        path.unlink()
    if files:
        said = f"removed the results of an earlier command from {folder} ({len(files)} files)"
        tqdm.write(said)  # clears a progress bar of the same terminal first


def replace(earlier: list[Path], new: Path, folder: Path) -> None:
    """Removes the earlier results, and moves the files and folders in `new` to the folder."""
    remove(earlier, folder)
    for path in sorted(new.iterdir()):
        if path.is_dir():
            shutil.copytree(path, folder / path.name, dirs_exist_ok=True)
        else:
            os.replace(path, folder / path.name)
