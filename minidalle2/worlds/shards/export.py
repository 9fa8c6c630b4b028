"""A folder of pictures with metadata.jsonl → shards in WebDataset's layout.

Sample 42 consists of three files: 000042.png, 000042.txt (the caption) and 000042.json (the whole
line of the metadata). The shards contain no dates, owners or permissions. Therefore the same
pictures give the same bytes.
"""

import io
import json
import os
import tarfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

SHARD = "{:06d}.tar"


def pack(folder: Path, into: Path, per_shard: int) -> Iterator[int]:
    """Moves the pictures in `folder` into shards; yields the number of pictures packed so far.

    `export` of a world has written the folder. Every shard but the last has `per_shard` samples. A
    picture is removed as soon as it is packed. A shard appears only when it is complete.
    """
    shard = packed = 0
    with open(folder / "metadata.jsonl", encoding="utf-8") as lines:
        while some := list(islice(lines, per_shard)):
            samples = [json.loads(line) for line in some]
            for _ in _written(folder, samples, into / SHARD.format(shard)):
                packed += 1
                yield packed
            shard += 1


def _written(folder: Path, samples: list[dict], path: Path) -> Iterator[dict]:
    """Yields each sample after it is written. At the end, the shard is complete."""
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with tarfile.open(unfinished, "w", format=tarfile.USTAR_FORMAT) as tar:
            for facts in samples:
                picture = folder / facts["file_name"]
                _add(tar, picture.name, picture.read_bytes())
                _add(tar, f"{picture.stem}.txt", facts["text"].encode())
                _add(tar, f"{picture.stem}.json", json.dumps(facts, ensure_ascii=False).encode())
                picture.unlink()
                yield facts
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)  # by default, date, owner and group are 0
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))
