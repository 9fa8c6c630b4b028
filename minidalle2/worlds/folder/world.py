"""A world from a folder of captioned pictures: any Hugging Face imagefolder.

The pictures may have any sizes and modes. Each picture is read once, cropped to its square centre,
and stored at 128 px in one file (see stored.py). This file is made again if the name, size or date
of a picture changes, or the order of the pictures. Captions are cleaned like prompts: lower case,
single spaces, no final full stop. Letters: n pictures of a batch.
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

from minidalle2.storage.decode import Unreadable, square
from minidalle2.storage.locks import locked
from minidalle2.storage.progress import each
from minidalle2.tokenizer import clean
from minidalle2.training.augmentation import varied
from minidalle2.training.world import ALL_ROWS, Sizes
from minidalle2.unclip import Sampling
from minidalle2.worlds.folder.metadata import read_metadata
from minidalle2.worlds.report import Report, from_json
from minidalle2.worlds.stored import (
    RECORD,
    SIDE,
    Stored,
    cache_folder,
    shuffled,
    stable_hash,
    write_pictures,
)

SPLITS = ("train", "held_out")
HELD_OUT = 0.05  # about this share of the pictures is held out
HELD_OUT_FROM = 20  # with this number of pictures or more, at least one is held out
LETTERS = 2_000  # characters of a caption that are used; the models read about 64 tokens of them
MOST_BYTES = 1 << 29  # of a picture's file; a larger file is left out
TOO_LARGE = f"with a file of more than {MOST_BYTES >> 20} MB", "save it with fewer pixels"
FEW = 300  # with fewer pictures, the summary warns
GROUP = 8  # pictures in a group of near misses, as in the shapes world
# Hugging Face's names of splits. All pictures in a folder of such a name are held out.
OTHER_SPLITS = ("test", "testing", "eval", "evaluation", "validation", "valid", "val", "dev")
PASSES = 8  # over a folder; after them, at most a share of e⁻⁸ of its pictures has not been drawn
VERSION = 2  # of the format on disk; if it changes, every folder is read again


class Folder:
    """The captioned pictures of a folder.

    `summary` says how many pictures there are and which were left out. About 1 in 20 pictures is
    held out, by a hash of its file name, so that it stays held out when pictures are added. Raises
    ValueError if there is no usable picture.
    """

    def __init__(self, path: Path, cache: Path | None = None):
        if not path.is_dir():
            raise ValueError(
                f"{path} is not a folder; a folder with pictures and metadata.jsonl would work"
            )
        self.path, self.name = path, path.resolve().name or "folder"
        self.files, self.captions, report, self._stored = _read(path, cache or cache_folder())
        held_out = torch.tensor(_held_out(self.files))
        self._rows = {"train": (~held_out).nonzero()[:, 0], "held_out": held_out.nonzero()[:, 0]}
        self.summary = self._summary(report)
        if not len(self._rows["train"]):
            raise ValueError(
                f"{path} has pictures of test and validation splits only, and none to train on"
            )
        self._by_caption = self._rows_by_caption()

    forkable = True
    sizes = Sizes()
    recipes: dict = {}
    sampling = Sampling()
    judge = None  # what a picture shows is known from its caption only

    @property
    def enough(self) -> int:
        """Number of drawn pictures after which nearly all pictures of the folder have been drawn.

        A folder has a limited number of pictures and captions, unlike a world that draws new ones.
        """
        return PASSES * len(self._rows["train"])

    def captioned(
        self,
        n: int,
        generator: torch.Generator,
        split: str = "train",
        size: int = 32,
        rows: slice = ALL_ROWS,
    ) -> tuple[Tensor, list[str]]:
        """→ (n, 3, size, size) pictures in [-1, 1], size at most 128, and their captions.

        No picture comes twice in a batch before each has come once.
        """
        return self._batch(shuffled(self.rows(split), n, generator)[rows], size)

    def near_misses(
        self, n: int, generator: torch.Generator, size: int = 32
    ) -> tuple[Tensor, list[str]]:
        """Like `captioned`, in groups of eight pictures with different captions.

        What a photo shows is known from its caption only. So the pictures of a group are random,
        and not more similar than others. If the folder has fewer than eight captions, a group
        repeats some.
        """
        groups, different = -(-n // GROUP), len(self._by_caption)
        scores = torch.rand(groups, different, generator=generator)
        chosen = scores.topk(min(GROUP, different)).indices  # distinct in each row
        chosen = chosen[:, torch.arange(GROUP) % different].flatten()[:n]
        picks = torch.rand(n, generator=generator)
        rows = [self._by_caption[c] for c in chosen.tolist()]
        picked = [row[int(p * len(row))] for row, p in zip(rows, picks.tolist(), strict=True)]
        return self._batch(torch.tensor(picked, dtype=torch.long), size)

    def contrasting(
        self, n: int, generator: torch.Generator, rows: slice = ALL_ROWS
    ) -> tuple[Tensor, list[str]]:
        """A batch for CLIP: random pictures, augmented because there are few of them."""
        images, captions = self.captioned(n, generator)
        return varied(images, generator)[rows], captions[rows]

    def crops(self, n: int, generator: torch.Generator, size: int) -> Tensor:
        """→ (n, 3, size/4, size/4): random windows of training pictures of `size` px."""
        rows = shuffled(self._rows["train"], n, generator)
        return self._stored.crops(rows, generator, size)

    def training_captions(self, n: int, generator: torch.Generator) -> list[str]:
        return self.captioned(n, generator, size=1)[1]

    def unreadable(self) -> str:
        return ""  # all pictures were read when the folder was opened

    def contents(self) -> list[str]:
        """Name, size and caption of each picture."""
        sizes = ((self.path / file).stat().st_size for file in self.files)
        facts = zip(self.files, sizes, self.captions, strict=True)
        return [f"{file} {size} {caption}" for file, size, caption in facts]

    def rows(self, split: str) -> Tensor:
        """Numbers of the pictures of a split: the positions of their names in `files`.

        Raises ValueError for an unknown or an empty split.
        """
        if split not in SPLITS:
            raise ValueError(f"unknown split {split!r}; a folder has {', '.join(SPLITS)}")
        if not len(self._rows[split]):
            raise ValueError(
                f"{self.path} has {len(self.files)} pictures, too few to hold one out; of "
                f"{HELD_OUT_FROM} pictures or more, about 1 in 20 is held out"
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
                f"\nfewer than {FEW} pictures: the networks will probably memorise the training "
                "pictures, and new prompts will give mixtures of them; a few thousand pictures "
                "work better, or start from pretrained weights with `train all --from emoji`"
            )
        return text


def _held_out(files: list[str]) -> list[bool]:
    """→ for each file, whether it is held out.

    All files in folders of other splits are held out. For the other files, a hash decides. From
    HELD_OUT_FROM files on, at least one is held out. The hash is ignored if it would hold out every
    file.
    """
    share = [stable_hash(file.encode("utf-8", "surrogatepass")) / 2**64 for file in files]
    other = [file.split("/")[0].lower() in OTHER_SPLITS for file in files]
    held_out = [o or s < HELD_OUT for o, s in zip(other, share, strict=True)]
    if len(files) >= HELD_OUT_FROM and not any(held_out):
        held_out[share.index(min(share))] = True
    if all(held_out) and not all(other):  # possible with very few files
        held_out = other
    return held_out


def _read(root: Path, cache: Path) -> tuple[list[str], list[str], Report, Stored]:
    """→ files, captions, report and pictures.

    They are loaded from the cache, or else read from the folder and stored in the cache.
    """
    report = Report()
    listed = read_metadata(root, report)
    place = hashlib.sha256(str(root.resolve()).encode("utf-8", "surrogateescape")).hexdigest()[:12]
    kept = f"folder-{place}-{_fingerprint(root, listed):016x}"
    index, pixels = cache / f"{kept}.json", cache / f"{kept}.u8"
    found = _index_of(index, pixels)
    if found is None:
        cache.mkdir(parents=True, exist_ok=True)
        with locked(cache / f"folder-{place}.lock", wait=True):  # another process may open it
            found = _index_of(index, pixels)
            if found is None:
                _keep(root, listed, pixels, index)
                _forget_older(cache, f"folder-{place}-", (index, pixels))
                found = _index_of(index, pixels)
    report.add(from_json(found["problems"]))
    files = found["files"]
    if not files:
        detail = f": {report}" if report.problems else "; its metadata is empty"
        raise ValueError(f"there is no usable picture in {root}{detail}")
    captions = [clean(listed[file])[:LETTERS] for file in files]
    return files, captions, report, Stored(pixels, len(files))


def _fingerprint(root: Path, listed: dict[str, str]) -> int:
    """A hash of everything that determines the stored pictures.

    It contains names, sizes and dates. Reading all pictures would take too long.
    """
    facts = [VERSION, SIDE]
    for file in each(listed, "looking for changed pictures"):
        status = (root / file).stat()
        facts.append([file, status.st_size, status.st_mtime_ns])
    return stable_hash(json.dumps(facts).encode())


def _index_of(index: Path, pixels: Path) -> dict | None:
    """{files, problems}, or None if the stored files are incomplete."""
    try:
        found = json.loads(index.read_text(encoding="utf-8"))
        whole = pixels.stat().st_size == len(found["files"]) * RECORD
    except FileNotFoundError:
        return None
    return found if whole else None


def _keep(root: Path, listed: dict[str, str], pixels: Path, index: Path) -> None:
    """Writes the readable pictures to `pixels`, then their names and all problems to `index`."""
    report, files = Report(), []
    write_pictures(pixels, _decoded(root, listed, files, report))
    unfinished = index.with_name(f"{index.name}.{os.getpid()}.tmp")
    text = json.dumps({"files": files, "problems": report.as_json()})
    unfinished.write_text(text, encoding="utf-8")
    os.replace(unfinished, index)


def _decoded(
    root: Path, listed: dict[str, str], files: list[str], report: Report
) -> Iterator[Image.Image]:
    """Yields each readable picture once, and adds to `files` and `report`."""
    seen: set[bytes] = set()
    for file in each(listed, f"reading the pictures in {root.name}"):
        try:
            if (root / file).stat().st_size > MOST_BYTES:
                report.note(TOO_LARGE[0], file, TOO_LARGE[1])
                continue
            data = (root / file).read_bytes()
            digest = hashlib.sha256(data).digest()
            if digest in seen:
                report.note("the same picture as another", file, "keep one of them")
                continue
            picture = square(data, SIDE)
        except OSError as error:
            remedy = f"{error.strerror}; check that you may read the file"
            report.note("that can't be opened", file, remedy)
            continue
        except Unreadable as error:
            report.note(error.kind, file, f"{error.reason}; {error.remedy}")
            continue
        seen.add(digest)
        files.append(file)
        yield picture


def _forget_older(cache: Path, prefix: str, kept: tuple[Path, Path]) -> None:
    """Removes files of an earlier state of this folder, and files left by a killed process."""
    for path in cache.glob(f"{prefix}*"):
        if path not in kept:
            with suppress(OSError):  # Windows does not remove a file that is open
                path.unlink()
