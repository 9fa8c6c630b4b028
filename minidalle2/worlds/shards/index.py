"""Where each sample of all shards is: made at first opening, kept on disk, mapped into memory.

With it a batch can be any samples, chosen by a seed like those of every other world, and read by
seeking: so a training resumes exactly, on any number of processes, with nothing to skip and no
shuffle buffer to restore. The price: tar files must lie on something that can seek, a disk or a
shared file system, and are read at random places.

A sample takes 48 bytes: six integers, ROW. The index is made anew when the name, size or date of a
shard changes.
"""

import hashlib
import json
import os
import struct
from contextlib import suppress
from pathlib import Path

import numpy as np
from tqdm import tqdm

from minidalle2.locks import locked
from minidalle2.worlds.folder.metadata import Report
from minidalle2.worlds.folder.world import HELD_OUT, SPLITS
from minidalle2.worlds.shards.samples import CAPTIONS, BrokenShard, Piece, Sample, samples

# number of the shard, picture's offset and size, caption's offset and size, place in CAPTIONS
ROW = struct.Struct("<6q")
VERSION = 1  # of what is kept; a change here makes every index anew


class Index:
    """Numbered samples of both splits; `report` says what was left out of them."""

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
    """As it was kept, or else made now. Raises ValueError for shards that are broken."""
    place = f"shards-{_hash(str(Path(name).resolve()).encode('utf-8', 'surrogateescape')):016x}"
    stem = f"{place}-{_fingerprint(paths):016x}"
    facts = cache / f"{stem}.json"
    kept = {split: cache / f"{stem}.{split}.i64" for split in SPLITS}
    if not facts.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with locked(cache / f"{place}.lock", wait=True):  # two may open them at once
            if not facts.exists():
                _make(paths, kept, facts)
                _forget_others(cache, place, (facts, *kept.values()))
    problems = json.loads(facts.read_text(encoding="utf-8"))
    return Index(paths, kept, Report(problems))


def _fingerprint(paths: list[Path]) -> int:
    facts: list = [VERSION]
    for path in paths:
        status = path.stat()
        facts.append([path.name, status.st_size, status.st_mtime_ns])
    return _hash(json.dumps(facts).encode())


def _make(paths: list[Path], kept: dict[str, Path], facts: Path) -> None:
    """Write the samples of each split as they are met, then, last, what was left out."""
    report, broken = Report(), []
    unfinished = {split: _unfinished(file) for split, file in kept.items()}
    files = {split: open(file, "wb") for split, file in unfinished.items()}  # noqa: SIM115
    try:
        for shard, path in enumerate(tqdm(paths, unit="shard", disable=None)):
            try:
                for sample in samples(path, report):
                    files[_split(path, sample)].write(_row(shard, sample))
            except BrokenShard as error:
                broken.append(str(error))
        if broken:
            more = f", and {len(broken) - 1} more are, too" if len(broken) > 1 else ""
            raise ValueError(f"{broken[0]}{more}; download or write it again, or take it away")
    except BaseException:
        for split, file in files.items():
            file.close()
            unfinished[split].unlink()
        raise
    for split, file in files.items():
        file.close()
        os.replace(unfinished[split], kept[split])
    _unfinished(facts).write_text(json.dumps(report.problems), encoding="utf-8")
    os.replace(_unfinished(facts), facts)


def _unfinished(file: Path) -> Path:
    return file.with_name(f"{file.name}.{os.getpid()}.tmp")


def _row(shard: int, sample: Sample) -> bytes:
    picture, caption = sample.picture, sample.caption
    kind = CAPTIONS.index(caption.extension)
    return ROW.pack(shard, picture.offset, picture.size, caption.offset, caption.size, kind)


def _split(path: Path, sample: Sample) -> str:
    """By a hash of its name, so that it stays where it is when other shards are added."""
    share = _hash(f"{path.name}/{sample.key}".encode("utf-8", "surrogateescape")) / 2**64
    return "held_out" if share < HELD_OUT else "train"


def _hash(data: bytes) -> int:
    """64 bits that are the same everywhere and always."""
    return int.from_bytes(hashlib.sha256(data).digest()[:8], "big")


def _forget_others(cache: Path, place: str, kept: tuple[Path, ...]) -> None:
    """Indices of an earlier state of these shards, and what a kill left half-written."""
    for path in cache.glob(f"{place}-*"):
        if path not in kept:
            with suppress(OSError):  # Windows keeps a file that is open
                path.unlink()


def _mapped(file: Path) -> np.ndarray:
    """(N, 6) integers; an empty file can't be mapped."""
    if not file.stat().st_size:
        return np.empty((0, 6), dtype="<i8")
    return np.memmap(file, dtype="<i8", mode="r").reshape(-1, 6)
