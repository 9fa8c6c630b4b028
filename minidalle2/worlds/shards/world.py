"""A world from WebDataset shards: tar files of captioned pictures, of any number and size.

Only the index (index.py) is stored. A picture is read at its position in the tar file when a batch
needs it. It is decoded, cropped and shrunk as the pictures of a folder are. Memory holds a batch,
not a shard. A sample that can't be decoded is replaced by the next one, which is the same sample in
every process. Letters: n samples of a batch.
"""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tarfile import BLOCKSIZE, TarError, TarInfo

import numpy as np
import torch
from torch import Tensor

from minidalle2.storage.decode import Unreadable, square
from minidalle2.tokenizer import clean
from minidalle2.training.world import ALL_ROWS, Sizes
from minidalle2.unclip import Sampling
from minidalle2.worlds.folder.world import GROUP, LETTERS, PASSES, SPLITS
from minidalle2.worlds.report import Report
from minidalle2.worlds.shards.index import open_index
from minidalle2.worlds.shards.names import label, shards_of, unread
from minidalle2.worlds.shards.sample import Piece, caption_of, read
from minidalle2.worlds.stored import (
    CHUNK,
    SIDE,
    cache_folder,
    distinct,
    kept_size,
    scaled,
    shrunk,
    windows,
)

PATIENCE = 100  # consecutive samples that can't be decoded, at which reading stops


class Shards:
    """The captioned pictures of a folder of tar files, or of a pattern such as 'a-{000..009}.tar'.

    About 1 in 20 samples is held out, by a hash of its name. `summary` says how many samples there
    are and which were left out. Raises ValueError if no sample is left for training.
    """

    def __init__(self, name: str, cache: Path | None = None):
        self.path, self.name = name, label(name)
        paths = shards_of(name)
        self._index = open_index(name, paths, cache or cache_folder())
        train, held_out = (self._index.count(split) for split in SPLITS)
        report = self._index.report
        for problem, file, remedy in unread(name):
            report.note(problem, file, remedy)
        left_out = f"; left out: {report}" if report.problems else ""
        if not train:
            raise ValueError(
                f"the shards of {name} (tar files: {len(paths)}) have no sample to train on and "
                f"{held_out} held out{left_out}"
            )
        self.summary = (
            f"{name}: {train:,} samples to train on and {held_out:,} held out, in {len(paths):,} "
            f"shards{left_out}"
        )
        self._unreadable: dict[str, Unreadable] = {}  # by name; several threads add to it

    forkable = False  # undecodable pictures are counted in this process
    sizes = Sizes()
    recipes: dict = {}
    sampling = Sampling()
    judge = None  # what a picture shows is known from its caption only

    def unreadable(self) -> str:
        report = Report()
        for name, error in sorted(self._unreadable.items()):
            report.note(error.kind, name, f"{error.reason}; {error.remedy}")
        return str(report)

    def contents(self) -> list[str]:
        """Name and size of each shard."""
        return [f"{path.name} {path.stat().st_size}" for path in self._index.paths]

    @property
    def enough(self) -> int:
        return PASSES * self._index.count("train")

    def captioned(
        self,
        n: int,
        generator: torch.Generator,
        split: str = "train",
        size: int = 32,
        rows: slice = ALL_ROWS,
    ) -> tuple[Tensor, list[str]]:
        """→ (n, 3, size, size) pictures in [-1, 1], size at most 128, and their captions.

        No sample comes twice in a batch before each has come once.
        """
        return self.read(self.choose(n, generator, split)[rows], split, size)

    def near_misses(
        self, n: int, generator: torch.Generator, size: int = 32
    ) -> tuple[Tensor, list[str]]:
        """Like `captioned`, in groups of eight samples with different captions.

        The samples of a group are random, as in a folder. If 16 random samples have fewer than
        eight captions, the group repeats some of them.
        """
        groups = [self._group(generator) for _ in range(-(-n // GROUP))]
        rows = [row for group in groups for row in group]
        return self.read(torch.tensor(rows[:n], dtype=torch.long), "train", size)

    def contrasting(
        self, n: int, generator: torch.Generator, rows: slice = ALL_ROWS
    ) -> tuple[Tensor, list[str]]:
        """A batch for CLIP: random pictures. There are many of them, so they are not augmented."""
        return self.captioned(n, generator, rows=rows)

    def training_captions(self, n: int, generator: torch.Generator) -> list[str]:
        """Captions of n random training samples.

        No picture is read, so a caption may belong to a picture that can't be decoded.
        """
        return [self.caption(row) for row in self.choose(n, generator, "train").tolist()]

    def crops(self, n: int, generator: torch.Generator, size: int) -> Tensor:
        """→ (n, 3, size/4, size/4): random windows of training pictures of `size` px."""
        rows = self.choose(n, generator, "train")
        y, x = windows(n, generator, size)
        pixels, _ = self._decoded(rows, "train", size)
        return scaled(pixels[torch.arange(n)[:, None, None], y, x])

    def choose(self, n: int, generator: torch.Generator, split: str) -> Tensor:
        """→ (n,) numbers of random samples of a split. No sample is read.

        Raises ValueError for an unknown or an empty split.
        """
        if split not in SPLITS:
            raise ValueError(f"unknown split {split!r}; shards have {', '.join(SPLITS)}")
        total = self._index.count(split)
        if not total:
            raise ValueError(f"{self.path} has too few samples to hold one out")
        return distinct(total, n, generator)

    def read(self, rows: Tensor, split: str, size: int) -> tuple[Tensor, list[str]]:
        """Numbers of samples (n,) → their pictures (n, 3, size, size) and captions."""
        kept, pictures, captions = kept_size(size), [rows.new_empty(0, 3, size, size).float()], []
        for part in rows.split(CHUNK):
            pixels, texts = self._decoded(part, split, kept)
            pictures.append(shrunk(scaled(pixels), size))
            captions += texts
        return torch.cat(pictures), captions

    def caption(self, row: int, split: str = "train") -> str:
        """The caption of a sample. Its picture is not read."""
        shard, _, piece = self._index.find(split, row)
        return _cleaned(_bytes(shard, piece), piece)

    def _group(self, generator: torch.Generator) -> list[int]:
        candidates = distinct(self._index.count("train"), 2 * GROUP, generator).tolist()
        different = list({self.caption(row): row for row in candidates}.values())
        return [different[i % len(different)] for i in range(GROUP)]

    def _decoded(self, rows: Tensor, split: str, size: int) -> tuple[Tensor, list[str]]:
        """→ (n, size, size, 3) uint8 and captions.

        Each core that torch uses has a thread, because Pillow decodes outside Python's global lock.
        """
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            samples = list(pool.map(lambda row: self._sample(row, split, size), rows.tolist()))
        pixels = np.empty((len(samples), size, size, 3), np.uint8)
        for place, (picture, _) in zip(pixels, samples, strict=True):
            place[:] = picture
        return torch.from_numpy(pixels), [caption for _, caption in samples]

    def _sample(self, row: int, split: str, size: int) -> tuple[np.ndarray, str]:
        """The sample, or the next one that can be decoded."""
        total = self._index.count(split)
        for i in range(row, row + PATIENCE):
            shard, picture, caption = self._index.find(split, i % total)
            try:
                found = np.asarray(square(_bytes(shard, picture), SIDE).reduce(SIDE // size))
            except Unreadable as error:
                name = _name(shard, picture)
                self._unreadable[name] = error
                continue
            return found, _cleaned(_bytes(shard, caption), caption)
        raise ValueError(
            f"{PATIENCE} pictures of {self.path} one after another can't be decoded, the last of "
            f"them is {name}: {self._unreadable[name].reason}; check that the shards contain "
            "pictures"
        )


def _bytes(shard: Path, piece: Piece) -> bytes:
    """The bytes of a piece.

    The shard is opened each time, because not all of very many shards could stay open.
    """
    with open(shard, "rb") as file:
        return read(file, piece)


def _cleaned(data: bytes, piece: Piece) -> str:
    return clean(caption_of(data, piece.extension))[:LETTERS]


def _name(shard: Path, piece: Piece) -> str:
    """The name of a piece, from the header before it."""
    header = Piece("", piece.offset - BLOCKSIZE, BLOCKSIZE)
    try:
        name = TarInfo.frombuf(_bytes(shard, header), "utf-8", "surrogateescape").name
    except TarError:  # the shard has changed since the index was made
        name = f"byte {piece.offset}"
    return f"{shard.name}/{name}"
