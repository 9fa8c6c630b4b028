"""A folder → its metadata and its pictures, and the metadata that is not read."""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from minidalle2.worlds.archives import METADATA, PACKED
from minidalle2.worlds.folder.formats import PICTURES

TABLES = ("csv", "tsv", "json", "jsonl", "parquet", "arrow", "xlsx")


@dataclass
class Found:
    """The files below a folder, as paths relative to it with slashes."""

    used: list[str]  # metadata, in the order in which it is read
    unused: dict[str, tuple[str, str]]  # other metadata → why it is not read, and the remedy
    pictures: list[str]


def find(root: Path) -> Found:
    """Searches all folders below root once."""
    found = (path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
    files = sorted(found, key=lambda file: (file.count("/") > 0, file.split("/")))
    used, unused, pictures = [], {}, []
    for file in files:
        path, base = PurePosixPath(file), file.rpartition("/")[2]
        if path.suffix.lower() in PICTURES:
            pictures.append(file)
        elif file.count("/") > 1 and base in METADATA:
            remedy = f"open {root / path.parent} by itself, or move its lines to {root}"
            unused[file] = "not read because it is more than one folder down", remedy
        elif file.count("/") <= 1 and base in METADATA:
            used.append(file)
        elif path.suffix.lower() == ".tar" and file == base:
            unused[file] = "not read because it is a tar file", f"open {root / file} by itself"
        elif path.suffix.lower() in PACKED and file.count("/") <= 1:
            unused[file] = "not read because it is packed", "unpack it"
        elif path.stem.lower() == "metadata":
            remedy = "save it as metadata.jsonl or metadata.csv"
            unused[file] = "not read because of its name", remedy
    for file in [file for file in used if file.endswith(".csv")]:
        better = file[: -len("csv")] + "jsonl"
        if better in used:
            used.remove(file)
            remedy = "put all lines into one of the two files"
            unused[file] = "not read because metadata.jsonl is beside it", remedy
    if not used:
        _add_others(files, set(pictures), root, unused)
    return Found(used, unused, sorted(pictures))


def _add_others(
    files: list[str], pictures: set[str], root: Path, unused: dict[str, tuple[str, str]]
) -> None:
    """Adds to `unused` what may be meant as captions in a folder without metadata."""
    stems = {file.rpartition(".")[0] for file in pictures}
    for file in files:
        stem, _, extension = file.rpartition(".")
        if extension.lower() == "txt" and stem in stems:
            remedy = (
                f"pack the folder, and open the tar file: tar --sort=name -cf pictures.tar {root}"
            )
            unused[file] = "not read because it is a text beside a picture", remedy
        elif extension.lower() in TABLES and file.count("/") <= 1 and file not in unused:
            remedy = "save it as metadata.jsonl or metadata.csv with file_name and text"
            unused[file] = "not read because of its name", remedy
