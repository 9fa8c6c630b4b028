"""What a stage was trained with: `trained_with.json` beside its weights.

{"inputs": {"tokenizer": hash, "clip": hash}, "data": [{"world", "files", "hash", "sample"}],
 "started_from": {"weights", "hash"}}

`inputs` are the earlier stages that the training read. `data` has one entry, and one more for each
time that files were added to the data before the training was resumed. `started_from` is only there
if the training started from pretrained weights. Weights of older versions and released weights have
no record. Nothing is checked for them.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from minidalle2.storage.checkpoints import CheckpointError, write_json

SAMPLED = 100  # hashes of files in a record


@dataclass(frozen=True)
class Data:
    """The training data of a world."""

    world: str  # its name, for messages
    files: int
    hash: str  # of all files and captions
    sample: str  # the smallest hashes of single files, to see later whether files were only added


@dataclass(frozen=True)
class Start:
    """The pretrained weights from which a stage started."""

    weights: str  # their name or folder, for messages
    hash: str  # of the file of the stage


@dataclass(frozen=True)
class Record:
    """What a stage was trained with."""

    inputs: Mapping[str, str]  # earlier stage → hash of its file
    data: tuple[Data, ...]  # in the order in which the data was used
    started_from: Start | None = None  # None for random weights


def data_of(world: str, contents: Iterable[str]) -> tuple[Data, set[str]]:
    """Descriptions of all files of a world → their summary, and a hash of each file."""
    hashes = sorted({hashed(text.encode("utf-8", "surrogateescape")) for text in contents})
    whole = hashed(" ".join(hashes).encode())
    return Data(world, len(hashes), whole, " ".join(hashes[:SAMPLED])), set(hashes)


def only_added(earlier: Data, present: set[str]) -> bool:
    """Whether all sampled files of `earlier` are still present. Exact for up to SAMPLED files."""
    return set(earlier.sample.split()) <= present


def hashed(data: bytes) -> str:
    """64 bits as text."""
    return hashlib.sha256(data).hexdigest()[:16]


def hash_of(file: Path) -> str:
    """The hash of a file of any size."""
    digest = hashlib.sha256()
    with open(file, "rb") as opened:
        while part := opened.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()[:16]


def file_of(stage: str, folder: Path) -> Path:
    """The file of a stage in the folder of a run that later stages read."""
    return folder / "tokenizer.json" if stage == "tokenizer" else weights_of(stage, folder)


def weights_of(stage: str, folder: Path) -> Path:
    return folder / stage / "model.safetensors"


def path_of(stage: str, folder: Path) -> Path:
    """Where the record of a stage is."""
    if stage == "tokenizer":  # it has no folder of its own
        return folder / "tokenizer_trained_with.json"
    return folder / stage / "trained_with.json"


def write_record(record: Record, stage: str, folder: Path) -> None:
    content = asdict(record)
    if record.started_from is None:
        del content["started_from"]
    write_json(path_of(stage, folder), content)


def read_record(stage: str, folder: Path) -> Record | None:
    """The record of a stage, or None if there is none. Raises CheckpointError for a broken one."""
    path = path_of(stage, folder)
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        data = tuple(Data(**entry) for entry in content["data"])
        start = Start(**content["started_from"]) if "started_from" in content else None
        return Record({str(k): str(v) for k, v in content["inputs"].items()}, data, start)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise CheckpointError(
            f"{path} is broken ({type(error).__name__}: {error}); restore it, or delete it to go "
            "on without knowing what the stage was trained with"
        ) from error


def changed_input(stage: str, folder: Path) -> str:
    """The earlier stage that is not the one that `stage` was trained with; '' if none changed.

    An earlier stage that is missing has changed, too.
    """
    record = read_record(stage, folder)
    for earlier, recorded in (record.inputs if record else {}).items():
        file = file_of(earlier, folder)
        if not file.is_file() or hash_of(file) != recorded:
            return earlier
    return ""


def check_inputs(stage: str, folder: Path) -> None:
    """Raises CheckpointError if an earlier stage is not the one that `stage` was trained with."""
    earlier = changed_input(stage, folder)
    if not earlier:
        return
    file = file_of(earlier, folder)
    happened = "has changed since" if file.is_file() else "is missing, but"
    raise CheckpointError(
        f"{file} {happened} {stage} in {folder / stage} was trained with it; restore that file, or "
        f"delete {folder / stage} and train {stage} again"
    )
