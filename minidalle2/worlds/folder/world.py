"""A world from a folder of pictures: any Hugging Face imagefolder, of any sizes and modes.

Each picture is read once, cut to its square centre and kept at 128 px on disk (see stored.py), in
a file that is made anew when a picture's name, size or date changes, or their order. Captions are
cleaned as prompts are: lower case, single spaces, no final full stop.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from minidalle2.dalle2 import clean
from minidalle2.locks import locked
from minidalle2.worlds.folder.decode import square
from minidalle2.worlds.folder.metadata import Report, read_metadata
from minidalle2.worlds.stored import (
    RECORD, SIDE, Stored, cache_folder, shuffled, write_pictures,
)  # fmt: skip
from minidalle2.worlds.variation import varied

SPLITS = ("train", "held_out")
HELD_OUT = 0.05  # of the pictures, about
HELD_OUT_FROM = 20  # with at least so many pictures, one at least is held out
LETTERS = 2_000  # of a caption that are kept; models read the first 64 tokens or so
MOST_BYTES = 1 << 29  # of a picture's file; what is larger counts as unreadable
FEW = 300  # with fewer pictures, the summary says what to expect
GROUP = 8  # neighbours among near misses, as in the shapes world
# As Hugging Face names them: pictures in a folder of such a name are held out, all of them.
OTHER_SPLITS = ("test", "testing", "eval", "evaluation", "validation", "valid", "val", "dev")
PASSES = 8  # over a folder after which at most e⁻⁸ of its pictures are still to come
VERSION = 1  # of what is kept on disk; a change here makes every folder be read anew


class Folder:
    """The captioned pictures of a folder; `summary` says how many, and what was left out.

    Of every 20 pictures about one is held out, by a hash of its file name, so that it stays out
    when others are added. Raises ValueError where there is no usable picture.
    """

    def __init__(self, path: Path, cache: Path | None = None):
        if not path.is_dir():
            raise ValueError(f"{path} is no folder; one with pictures and metadata.jsonl would be")
        self.path, self.name = path, path.resolve().name or "folder"
        self.files, self.captions, report, self._stored = _read(path, cache or cache_folder())
        held_out = torch.tensor(_held_out(self.files))
        self._rows = {"train": (~held_out).nonzero()[:, 0], "held_out": held_out.nonzero()[:, 0]}
        self.summary = self._summary(report)
        if not len(self._rows["train"]):
            raise ValueError(f"{path} has pictures of other splits only, and none to train on")
        self._by_caption = self._rows_by_caption()

    @property
    def enough(self) -> int:
        """Captioned pictures that show all there is: pictures and captions stay as they are."""
        return PASSES * len(self._rows["train"])

    def captioned(
        self, n: int, generator: torch.Generator, split: str = "train", size: int = 32
    ) -> tuple[Tensor, list[str]]:
        """→ (n, 3, size, size) pictures in [-1, 1], size at most 128, and their captions.

        No picture comes twice in a batch before each has come once.
        """
        return self._batch(shuffled(self.rows(split), n, generator), size)

    def near_misses(
        self, n: int, generator: torch.Generator, size: int = 32
    ) -> tuple[Tensor, list[str]]:
        """As `captioned`, in groups of eight with different captions.

        What a photo shows is known by its caption only, so these are no nearer to each other than
        chance has it. A folder with fewer than eight captions repeats them in a group.
        """
        groups, different = -(-n // GROUP), len(self._by_caption)
        scores = torch.rand(groups, different, generator=generator)
        chosen = scores.topk(min(GROUP, different)).indices  # distinct in each row
        chosen = chosen[:, torch.arange(GROUP) % different].flatten()[:n]
        picks = torch.rand(n, generator=generator)
        rows = [self._by_caption[c] for c in chosen.tolist()]
        picked = [row[int(p * len(row))] for row, p in zip(rows, picks.tolist(), strict=True)]
        return self._batch(torch.tensor(picked, dtype=torch.long), size)

    def contrasting(self, n: int, generator: torch.Generator) -> tuple[Tensor, list[str]]:
        """A batch for CLIP: pictures by chance, a little varied, because they are few."""
        images, captions = self.captioned(n, generator)
        return varied(images, generator), captions

    def crops(self, n: int, generator: torch.Generator, size: int) -> Tensor:
        """→ (n, 3, size/4, size/4): random windows of training pictures of `size` px."""
        rows = shuffled(self._rows["train"], n, generator)
        return self._stored.crops(rows, generator, size)

    def rows(self, split: str) -> Tensor:
        """Numbers of a split's pictures: the places of their names in `files`."""
        if split not in SPLITS:
            raise ValueError(f"unknown split {split!r}; a folder has {', '.join(SPLITS)}")
        if not len(self._rows[split]):
            raise ValueError(
                f"{self.path} has {len(self.files)} pictures, too few to hold one out; from "
                f"{HELD_OUT_FROM} on about one in 20 is"
            )
        return self._rows[split]

    def _batch(self, rows: Tensor, size: int) -> tuple[Tensor, list[str]]:
        return self._stored.pictures(rows, size), [self.captions[row] for row in rows.tolist()]

    def _rows_by_caption(self) -> list[list[int]]:
        rows: dict[str, list[int]] = {}
        for row in self._rows["train"].tolist():
            rows.setdefault(self.captions[row], []).append(row)
        return list(rows.values())

    def _summary(self, report: Report) -> str:
        train, held_out = (len(self._rows[split]) for split in SPLITS)
        plural = "s" if train != 1 else ""
        text = f"{self.path}: {train} picture{plural} to train on, {held_out} held out"
        text += f"; left out: {report}" if report.problems else ""
        if train < FEW:
            text += (
                f"\nfewer than {FEW} pictures: expect the training pictures to be learned by heart "
                "and new prompts to give mixtures of them; some thousands work better"
            )
        return text


def _held_out(files: list[str]) -> list[bool]:
    """One bool a file. Other splits' folders are held out whole; a hash decides on the rest."""
    share = [_hash(file.encode()) / 2**64 for file in files]
    other = [file.split("/")[0].lower() in OTHER_SPLITS for file in files]
    held_out = [o or s < HELD_OUT for o, s in zip(other, share, strict=True)]
    if len(files) >= HELD_OUT_FROM and not any(held_out):
        held_out[share.index(min(share))] = True
    if all(held_out) and not all(other):  # a handful, all of them unlucky
        held_out = other
    return held_out


def _hash(data: bytes) -> int:
    """64 bits that are the same everywhere and always, unlike Python's own hash."""
    return int.from_bytes(hashlib.sha256(data).digest()[:8], "big")


def _read(root: Path, cache: Path) -> tuple[list[str], list[str], Report, Stored]:
    """→ files, captions, report and pictures: as they were kept, or else read now and kept."""
    report = Report()
    listed = read_metadata(root, report)
    place = hashlib.sha256(str(root.resolve()).encode("utf-8", "surrogateescape")).hexdigest()[:12]
    kept = f"folder-{place}-{_fingerprint(root, listed):016x}"
    index, pixels = cache / f"{kept}.json", cache / f"{kept}.u8"
    found = _index_of(index, pixels)
    if found is None:
        cache.mkdir(parents=True, exist_ok=True)
        with locked(cache / f"folder-{place}.lock", wait=True):  # two may open a folder at once
            found = _index_of(index, pixels)
            if found is None:
                _keep(root, listed, pixels, index)
                _forget_older(cache, f"folder-{place}-", (index, pixels))
                found = _index_of(index, pixels)
    for problem, names in found["problems"].items():
        report.problems.setdefault(problem, []).extend(names)
    files = found["files"]
    if not files:
        detail = f": {report}" if report.problems else ", its metadata is empty"
        raise ValueError(f"there is no usable picture in {root}{detail}")
    captions = [clean(listed[file])[:LETTERS] for file in files]
    return files, captions, report, Stored(pixels, len(files))


def _fingerprint(root: Path, listed: dict[str, str]) -> int:
    """Of all that decides what is kept; the pictures themselves are too many to read for that."""
    facts = [VERSION, SIDE]
    for file in listed:
        status = (root / file).stat()
        facts.append([file, status.st_size, status.st_mtime_ns])
    return _hash(json.dumps(facts).encode())


def _index_of(index: Path, pixels: Path) -> dict | None:
    """{files, problems}, or None where not all of it was kept."""
    try:
        found = json.loads(index.read_text(encoding="utf-8"))
        whole = pixels.stat().st_size == len(found["files"]) * RECORD
    except FileNotFoundError:
        return None
    return found if whole else None


def _keep(root: Path, listed: dict[str, str], pixels: Path, index: Path) -> None:
    """Decode what can be decoded into `pixels`; the index, written last, says what that was."""
    report, files = Report(), []
    write_pictures(pixels, _decoded(root, listed, files, report))
    unfinished = index.with_name(f"{index.name}.{os.getpid()}.tmp")
    text = json.dumps({"files": files, "problems": report.problems})
    unfinished.write_text(text, encoding="utf-8")
    os.replace(unfinished, index)


def _decoded(
    root: Path, listed: dict[str, str], files: list[str], report: Report
) -> Iterator[Image.Image]:
    """Pictures, each once; appends to `files` and to the report as it goes."""
    seen: set[bytes] = set()
    for file in tqdm(listed, desc=root.name, unit="picture", disable=None):
        try:
            if (root / file).stat().st_size > MOST_BYTES:
                raise ValueError("too large")
            data = (root / file).read_bytes()
            digest = hashlib.sha256(data).digest()
            if digest in seen:
                report.note("the same picture as another", file)
                continue
            picture = square(data, SIDE)
        except (OSError, ValueError):
            report.note("unreadable", file)
            continue
        seen.add(digest)
        files.append(file)
        yield picture


def _forget_older(cache: Path, prefix: str, kept: tuple[Path, Path]) -> None:
    """What was kept of an earlier state of this folder, and what a kill left half-written."""
    for path in cache.glob(f"{prefix}*"):
        if path not in kept:
            with suppress(OSError):  # Windows keeps a file that is open
                path.unlink()
