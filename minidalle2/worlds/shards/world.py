"""A world from WebDataset shards: tar files of pictures with captions, of any number and size.

Nothing is unpacked or kept but an index (index.py): when its turn comes, a picture is read where it
is in its tar file, decoded, cut and shrunk as those of a folder are. Memory holds a batch, never a
shard. What can't be decoded gives its turn to the next sample, the same one in every process.
"""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tarfile import BLOCKSIZE, TarError, TarInfo

import numpy as np
import torch
from torch import Tensor

from minidalle2.dalle2 import clean
from minidalle2.worlds.folder.decode import square
from minidalle2.worlds.folder.metadata import Report
from minidalle2.worlds.folder.world import GROUP, LETTERS, MOST_BYTES, PASSES, SPLITS
from minidalle2.worlds.shards.index import open_index
from minidalle2.worlds.shards.names import label, shards_of
from minidalle2.worlds.shards.samples import Piece, caption_of, read
from minidalle2.worlds.stored import (
    CHUNK, SIDE, cache_folder, distinct, kept_size, scaled, shrunk, windows,
)  # fmt: skip

PATIENCE = 100  # samples one after another that can't be decoded


class Shards:
    """The captioned pictures of a folder of tar files, or of a pattern such as 'a-{000..009}.tar'.

    Of every 20 samples about one is held out, by a hash of its name. `summary` says how many there
    are and what was left out. Raises ValueError where there is nothing to train on.
    """

    def __init__(self, name: str, cache: Path | None = None):
        self.path, self.name = name, label(name)
        paths = shards_of(name)
        self._index = open_index(name, paths, cache or cache_folder())
        train, held_out = (self._index.count(split) for split in SPLITS)
        left_out = f"; left out: {self._index.report}" if self._index.report.problems else ""
        if not train:
            raise ValueError(
                f"there is nothing to train on in the {len(paths)} shards of {name}, and "
                f"{held_out} held out{left_out}"
            )
        self.summary = (
            f"{name}: {train:,} samples to train on and {held_out:,} held out, in {len(paths):,} "
            f"shards{left_out}"
        )
        self._unreadable: set[str] = set()  # names; threads add to it

    @property
    def unreadable(self) -> Report:
        """What could not be decoded so far, in this process."""
        names = sorted(self._unreadable)
        return Report({"unreadable": names} if names else {})

    @property
    def enough(self) -> int:
        return PASSES * self._index.count("train")

    def captioned(
        self, n: int, generator: torch.Generator, split: str = "train", size: int = 32
    ) -> tuple[Tensor, list[str]]:
        """→ (n, 3, size, size) pictures in [-1, 1], size at most 128, and their captions.

        None comes twice in a batch before each has come once.
        """
        return self.read(self.choose(n, generator, split), split, size)

    def near_misses(
        self, n: int, generator: torch.Generator, size: int = 32
    ) -> tuple[Tensor, list[str]]:
        """As `captioned`, in groups of eight with different captions, by chance as in a folder.
        Where sixteen samples have fewer captions, a group repeats them."""
        groups = [self._group(generator) for _ in range(-(-n // GROUP))]
        rows = [row for group in groups for row in group]
        return self.read(torch.tensor(rows[:n], dtype=torch.long), "train", size)

    def contrasting(self, n: int, generator: torch.Generator) -> tuple[Tensor, list[str]]:
        """A batch for CLIP: pictures by chance. They are many, so none is varied."""
        return self.captioned(n, generator)

    def crops(self, n: int, generator: torch.Generator, size: int) -> Tensor:
        """→ (n, 3, size/4, size/4): random windows of training pictures of `size` px."""
        rows = self.choose(n, generator, "train")
        y, x = windows(n, generator, size)
        pixels, _ = self._decoded(rows, "train", size)
        return scaled(pixels[torch.arange(n)[:, None, None], y, x])

    def choose(self, n: int, generator: torch.Generator, split: str) -> Tensor:
        """→ (n,) numbers of samples of a split: cheap, nothing is read."""
        if split not in SPLITS:
            raise ValueError(f"unknown split {split!r}; shards have {', '.join(SPLITS)}")
        total = self._index.count(split)
        if not total:
            raise ValueError(f"{self.path} has too few samples to hold one out")
        return distinct(total, n, generator)

    def read(self, rows: Tensor, split: str, size: int) -> tuple[Tensor, list[str]]:
        """(n,) numbers of samples → what `captioned` gives of them."""
        kept, pictures, captions = kept_size(size), [rows.new_empty(0, 3, size, size).float()], []
        for part in rows.split(CHUNK):
            pixels, texts = self._decoded(part, split, kept)
            pictures.append(shrunk(scaled(pixels), size))
            captions += texts
        return torch.cat(pictures), captions

    def caption(self, row: int, split: str = "train") -> str:
        """Of a sample; its picture is not read."""
        shard, _, piece = self._index.find(split, row)
        return _cleaned(_bytes(shard, piece), piece)

    def _group(self, generator: torch.Generator) -> list[int]:
        candidates = distinct(self._index.count("train"), 2 * GROUP, generator).tolist()
        different = list({self.caption(row): row for row in candidates}.values())
        return [different[i % len(different)] for i in range(GROUP)]

    def _decoded(self, rows: Tensor, split: str, size: int) -> tuple[Tensor, list[str]]:
        """→ (n, size, size, 3) uint8 and captions; a thread for each core that torch uses, as
        decoding lets go of Python's lock."""
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            samples = list(pool.map(lambda row: self._sample(row, split, size), rows.tolist()))
        pixels = np.empty((len(samples), size, size, 3), np.uint8)
        for place, (picture, _) in zip(pixels, samples, strict=True):
            place[:] = picture
        return torch.from_numpy(pixels), [caption for _, caption in samples]

    def _sample(self, row: int, split: str, size: int) -> tuple[np.ndarray, str]:
        """The sample, or the next that can be decoded."""
        total = self._index.count(split)
        for i in range(row, row + PATIENCE):
            shard, picture, caption = self._index.find(split, i % total)
            data = b"" if picture.size > MOST_BYTES else _bytes(shard, picture)
            try:
                found = np.asarray(square(data, SIDE).reduce(SIDE // size))
            except ValueError:
                self._unreadable.add(_name(shard, picture))
                continue
            return found, _cleaned(_bytes(shard, caption), caption)
        raise ValueError(
            f"{PATIENCE} pictures of {self.path} one after another can't be decoded, the last is "
            f"{_name(shard, picture)}; they may be no pictures at all"
        )


def _bytes(shard: Path, piece: Piece) -> bytes:
    """Read anew each time: of very many shards not all could stay open."""
    with open(shard, "rb") as file:
        return read(file, piece)


def _cleaned(data: bytes, piece: Piece) -> str:
    return clean(caption_of(data, piece.extension))[:LETTERS]


def _name(shard: Path, piece: Piece) -> str:
    """As its tar file calls it, in the header before the piece."""
    header = Piece("", piece.offset - BLOCKSIZE, BLOCKSIZE)
    try:
        name = TarInfo.frombuf(_bytes(shard, header), "utf-8", "surrogateescape").name
    except TarError:  # not what was here when the index was made
        name = f"byte {piece.offset}"
    return f"{shard.name}/{name}"
