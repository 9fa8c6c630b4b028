"""Which stages and which data a stage is trained with, and what follows if they have changed.

No stage is replaced while later stages depend on it. A training is not continued, and nothing is
built on it, after its tokenizer, its CLIP or its data has changed. It is not continued with other
pretrained weights than it started from (starts.py). The exception is data to which
files were only added: then the training continues with all files, and its record says so.
"""

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from minidalle2.priors.kinds import PRIORS
from minidalle2.storage.checkpoints import CheckpointError, reading
from minidalle2.storage.records import (
    Data,
    Record,
    check_inputs,
    data_of,
    file_of,
    hash_of,
    only_added,
    path_of,
    read_record,
    weights_of,
    write_record,
)
from minidalle2.training.run import Step, progress_of, state_of
from minidalle2.training.starts import check_start, is_copy, start_of
from minidalle2.training.world import World

Summary = tuple[Data, set[str]]  # of all files of a world, and a hash of each file


def needs() -> dict[str, tuple[str, ...]]:
    """Stage → the earlier stages that its training reads, if there are any."""
    after_clip = ("tokenizer", "clip")
    return {
        "clip": ("tokenizer",),
        **{kind.stage: after_clip for kind in PRIORS.values()},
        "decoder": after_clip,
        "glide": (*after_clip, "decoder"),
        "image_tower": after_clip,
    }


def dependents(stage: str, folder: Path) -> list[str]:
    """The trained stages in the folder of a run that were trained with `stage`."""
    later = [name for name, earlier in needs().items() if stage in earlier]
    return [name for name in later if weights_of(name, folder).is_file()]


def is_finished(stage: str, folder: Path) -> bool:
    """Whether a stage has weights that no resumed training would change."""
    if not file_of(stage, folder).is_file():
        return False
    if stage == "tokenizer":
        return True
    if state_of(folder / stage).is_file():
        progress = progress_of(folder / stage)
        return progress["step"] >= progress["total"]
    log = folder / stage / "log.jsonl"
    if log.is_file():  # somebody deleted the state, or the training was killed at its first save
        with reading(log):
            last = json.loads(log.read_text(encoding="utf-8").splitlines()[-1])
        return last["step"] >= last["total"]
    # Released weights have neither log nor record, and copied weights have no log.
    return not path_of(stage, folder).is_file() or is_copy(stage, folder)


def is_kept(stage: str, folder: Path) -> bool:
    """Whether a stage has finished weights, but no state from which it could be resumed."""
    resumable = stage == "tokenizer" or state_of(folder / stage).is_file()
    return not resumable and is_finished(stage, folder)


def listed(names: list[str]) -> str:
    """'clip', 'clip and prior', 'clip, prior and decoder'."""
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def check_replaceable(stage: str, folder: Path) -> None:
    """Raises CheckpointError if later stages were trained with the present weights of a stage."""
    later = dependents(stage, folder)
    if not later:
        return
    file, names = file_of(stage, folder), listed(later)
    fault = "training would change" if file.is_file() else "training would make another"
    remedy = "choose" if file.is_file() else "restore that file, or choose"
    raise CheckpointError(
        f"{fault} {file}, with which {names} in {folder} {'was' if len(later) == 1 else 'were'} "
        f"trained; {remedy} another folder with --out, or delete "
        f"{listed([str(folder / name) for name in later])}"
    )


def check(stage: str, world: World, folder: Path, weights: Path | None = None) -> str:
    """Whether a stage may be trained or resumed in the folder of a run.

    `weights` is the folder of pretrained weights from which the training starts, if it does.
    Returns a sentence if files were added to the data since the training began, else ''. Raises
    CheckpointError if something else has changed, or if later stages depend on the stage.
    """
    return check_with(stage, contents_of(world), folder, weights)


def check_with(
    stage: str, summary: Summary | None, folder: Path, weights: Path | None = None
) -> str:
    """Like `check`, with the data's summary, which takes time for a world with many files."""
    check_start(stage, folder, weights)
    if not is_finished(stage, folder):
        check_replaceable(stage, folder)
    resumed = stage != "tokenizer" and state_of(folder / stage).is_file()
    known = [name for name in needs().get(stage, ()) if file_of(name, folder).is_file()]
    said = ""
    for name in [*known, stage] if resumed else known:
        check_inputs(name, folder)
        said = check_data(name, summary, folder) or said
    return said


def check_data(stage: str, summary: Summary | None, folder: Path) -> str:
    """Like `check`, for the data of a trained stage alone. `summary` is that of `contents_of`."""
    record = read_record(stage, folder)
    if not record or not record.data or not summary:
        return ""
    earlier, (now, present) = record.data[-1], summary
    if now.hash == earlier.hash:
        return ""
    files = f"{earlier.files:,} files then, {now.files:,} files now"
    if only_added(earlier, present):
        return (
            f"{now.world} has more files than when {stage} was trained ({files}): what is trained "
            "stays, and unfinished stages continue with all files"
        )
    happened = (
        f"the data of {now.world} has changed: files or captions were changed or removed ({files})"
        if earlier.world == now.world
        else f"its world was {earlier.world}, not {now.world}"
    )
    raise CheckpointError(
        f"{stage} in {folder} was trained with other data; {happened}. Train with the earlier "
        "data, or choose another folder with --out. To continue nevertheless, delete the records: "
        f"{' and '.join(map(str, records_in(folder)))}"
    )


def records_in(folder: Path) -> list[Path]:
    """The records of all stages in the folder of a run."""
    return [*folder.glob("*trained_with.json"), *sorted(folder.glob("*/trained_with.json"))]


def contents_of(world: World) -> Summary | None:
    """A summary of a world's data and a hash of each file; None for a world without `contents`."""
    contents = getattr(world, "contents", None)
    return data_of(world.name, contents()) if contents else None


def begin(stage: str, world: World, folder: Path, weights: Path | None = None) -> Record | None:
    """Checks a stage before its training begins or resumes.

    Returns what it is trained with; None for a training that an older version began, which has no
    record. Raises CheckpointError like `check`, or if an earlier stage is missing.
    """
    summary = contents_of(world)
    check_with(stage, summary, folder, weights)
    files = {name: file_of(name, folder) for name in needs().get(stage, ())}
    missing = [name for name, file in files.items() if not file.is_file()]
    if missing:
        if "tokenizer" in missing:
            check_replaceable("tokenizer", folder)
        raise CheckpointError(
            f"{stage} needs {missing[-1]}, which is not in {folder}; `minidalle2 train "
            f"{missing[-1]} --out {folder}` comes first"
        )
    resumed = state_of(folder / stage).is_file()
    earlier = read_record(stage, folder) if resumed else Record({}, (), start_of(stage, weights))
    if earlier is None:
        return None
    inputs = {name: hash_of(file) for name, file in files.items()}
    now = (summary[0],) if summary and earlier.data[-1:] != (summary[0],) else ()
    return Record(inputs, (*earlier.data, *now), earlier.started_from)


def recorded(
    steps: Iterator[Step], record: Record | None, stage: str, folder: Path
) -> Iterator[Step]:
    """The same steps. The record is written after the first step, before any weights are saved."""
    with closing(steps):
        for step in steps:
            if record:
                write_record(record, stage, folder)
                record = None
            yield step
