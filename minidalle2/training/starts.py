"""What a stage started from: pretrained weights or random weights.

A training is resumed only with the same pretrained weights.
"""

from pathlib import Path

from minidalle2.dalle2 import WEIGHTS
from minidalle2.storage.checkpoints import CheckpointError
from minidalle2.storage.records import Start, file_of, hash_of, read_record


def name_of(weights: Path) -> str:
    """What --from takes: 'emoji' for weights that come with minidalle2, else the path."""
    return weights.name if weights.parent == WEIGHTS else str(weights)


def start_of(stage: str, weights: Path | None) -> Start | None:
    """What a stage starts from. None for random weights, and for a stage that `weights` lacks."""
    if weights is None or not file_of(stage, weights).is_file():
        return None
    return Start(name_of(weights), hash_of(file_of(stage, weights)))


def check_start(stage: str, folder: Path, weights: Path | None) -> None:
    """Raises CheckpointError if a stage in `folder` started from other weights than `weights`.

    A stage without weights or without a record is not checked.
    """
    record = read_record(stage, folder)
    if record is None or not file_of(stage, folder).is_file():
        return
    earlier, now = record.started_from, start_of(stage, weights)
    if (earlier and earlier.hash) == (now and now.hash):
        return
    began = f"the weights {earlier.weights}" if earlier else "random weights"
    if earlier and now and earlier.weights == now.weights:
        fault, remedy = "which have changed since", "restore those weights"
    else:
        fault = f"not from {f'the weights {now.weights}' if now else 'random weights'}"
        remedy = f"resume it {f'with --from {earlier.weights}' if earlier else 'without --from'}"
    raise CheckpointError(
        f"{stage} in {folder} started from {began}, {fault}; {remedy}, or choose another folder "
        "with --out"
    )


def is_copy(stage: str, folder: Path) -> bool:
    """Whether a stage still has exactly the pretrained weights that it started from."""
    record = read_record(stage, folder)
    if record is None or record.started_from is None or not file_of(stage, folder).is_file():
        return False
    return hash_of(file_of(stage, folder)) == record.started_from.hash
