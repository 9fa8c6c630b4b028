"""The index: where each sample of all shards is. It is made at first opening and kept on disk.

With the index, a seed can select any samples for a batch, as in every other world, and the samples
are read by seeking. Therefore a resumed training is exact, on any number of processes: there are no
samples to skip, and there is no shuffle buffer to restore. The cost is random access: the tar files
must be on a disk or a shared file system that can seek.

A sample takes 48 bytes: six integers, ROW. The index is made again when the name, size or date of a
shard changes. It is mapped into memory.
"""

import json
import os
import struct
from contextlib import suppress
from pathlib import Path

import numpy as np

from minidalle2.storage.locks import locked
from minidalle2.storage.progress import bar
from minidalle2.worlds.folder.world import HELD_OUT, SPLITS
from minidalle2.worlds.report import Report, from_json
from minidalle2.worlds.shards.members import BrokenShard
from minidalle2.worlds.shards.sample import CAPTIONS, Piece, Sample
from minidalle2.worlds.shards.samples import samples
from minidalle2.worlds.stored import stable_hash

AGAIN = "download or write it again"
# Number of the shard, offset and size of the picture, offset and size of the caption, and the
# index of the caption's extension in CAPTIONS.
ROW = struct.Struct("<6q")
VERSION = 2  # of the format; if it changes, every index is made again


class Index:
    """Numbered samples of both splits. `report` lists the samples that were left out."""

    def __init__(self, paths: list[Path], kept: dict[str, Path], report: Report):
        self.paths, self.report = paths, report
        self._rows = {split: _mapped(file) for split, file in kept.items()}

    def count(self, split: str) -> int:
        return len(self._rows[split])

    def find(self, split: str, row: int) -> tuple[Path, Piece, Piece]:
        """→ the shard of a sample, its picture and its caption."""
        shard, start, size, caption_start, caption_size, kind = self._rows[split][row].tolist()
        picture = Piece("", start, size)
        return self.paths[shard], picture, Piece(CAPTIONS[kind], caption_start, caption_size)


def open_index(name: str, paths: list[Path], cache: Path) -> Index:
    """Returns the index on disk, or makes it. Raises ValueError if a shard is broken."""
    place = (
        f"shards-{stable_hash(str(Path(name).resolve()).encode('utf-8', 'surrogateescape')):016x}"
    )
    stem = f"{place}-{_fingerprint(paths):016x}"
    facts = cache / f"{stem}.json"
    kept = {split: cache / f"{stem}.{split}.i64" for split in SPLITS}
    if not facts.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with locked(cache / f"{place}.lock", wait=True):  # another process may be making it
            if not facts.exists():
                _make(paths, kept, facts)
                _forget_others(cache, place, (facts, *kept.values()))
    problems = json.loads(facts.read_text(encoding="utf-8"))
    return Index(paths, kept, from_json(problems))


def _fingerprint(paths: list[Path]) -> int:
    """A hash of the name, size and date of every shard."""
    facts: list = [VERSION]
    for path in paths:
        status = path.stat()
        facts.append([path.name, status.st_size, status.st_mtime_ns])
    return stable_hash(json.dumps(facts).encode())


def _make(paths: list[Path], kept: dict[str, Path], facts: Path) -> None:
    """Writes the samples of each split in the order of the shards.

    The report is written last, so an index with a report is complete.
    """
    report = Report()
    unfinished = {split: _unfinished(file) for split, file in kept.items()}
    files = {split: open(file, "wb") for split, file in unfinished.items()}  # noqa: SIM115
    try:
        sizes = [path.stat().st_size for path in paths]
        with bar("indexing the tar files", sum(sizes)) as shown:  # counts bytes
            for shard, path in enumerate(paths):
                start = shown.n
                try:
                    for sample in samples(path, report):
                        files[_split(path, sample)].write(_row(shard, sample))
                        shown.update(start + sample.picture.offset - shown.n)
                except BrokenShard as error:
                    report.note("tar file with a fault", path.name, f"{error}; {AGAIN}")
                shown.update(start + sizes[shard] - shown.n)
    except BaseException:
        for split, file in files.items():
            file.close()
            unfinished[split].unlink()
        raise
    for split, file in files.items():
        file.close()
        os.replace(unfinished[split], kept[split])
    _unfinished(facts).write_text(json.dumps(report.as_json()), encoding="utf-8")
    os.replace(_unfinished(facts), facts)


def _unfinished(file: Path) -> Path:
    return file.with_name(f"{file.name}.{os.getpid()}.tmp")


def _row(shard: int, sample: Sample) -> bytes:
    picture, caption = sample.picture, sample.caption
    kind = CAPTIONS.index(caption.extension)
    return ROW.pack(shard, picture.offset, picture.size, caption.offset, caption.size, kind)


def _split(path: Path, sample: Sample) -> str:
    """The split of a sample, by a hash of its name.

    A sample stays in its split when other shards are added.
    """
    share = stable_hash(f"{path.name}/{sample.key}".encode("utf-8", "surrogateescape")) / 2**64
    return "held_out" if share < HELD_OUT else "train"


def _forget_others(cache: Path, place: str, kept: tuple[Path, ...]) -> None:
    """Removes indices of an earlier state of these shards, and files left by a killed process."""
    for path in cache.glob(f"{place}-*"):
        if path not in kept:
            with suppress(OSError):  # Windows does not remove a file that is open
                path.unlink()


def _mapped(file: Path) -> np.ndarray:
    """(N, 6) integers, mapped into memory. An empty file can't be mapped."""
    if not file.stat().st_size:
        return np.empty((0, 6), dtype="<i8")
    return np.memmap(file, dtype="<i8", mode="r").reshape(-1, 6)
