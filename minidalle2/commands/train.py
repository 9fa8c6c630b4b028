"""`minidalle2 train`: trains one stage, or all stages in order, with a progress bar."""

import time
from argparse import Namespace
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import torch
from tqdm import tqdm

from minidalle2.commands.options import make_folder
from minidalle2.dalle2 import weights_folder
from minidalle2.scale.distributed import (
    any_process,
    first_goes_ahead,
    is_first,
    own_device,
    processes,
    together,
)
from minidalle2.scale.loop import ONE_PASS, Execution
from minidalle2.scale.loop import train_stage as train_stage_at_scale
from minidalle2.storage.checkpoints import remove_unfinished
from minidalle2.storage.devices import pick_device
from minidalle2.storage.locks import InUse, locked
from minidalle2.storage.memory import keep_freed_memory
from minidalle2.storage.progress import doing, hidden, ticking
from minidalle2.training.lineage import check_replaceable, check_with, contents_of, is_kept
from minidalle2.training.pretrained import COPIED, check_weights, copy_stage, take_licences
from minidalle2.training.recipes import FINETUNE_MINUTES, LAPTOP_MINUTES, split_minutes
from minidalle2.training.run import Step, state_of
from minidalle2.training.stages import ALL, STAGES, train_stage
from minidalle2.training.world import World
from minidalle2.worlds.catalogue import label_of, open_world


def run(args: Namespace) -> None:
    keep_freed_memory()
    with together(lambda: own_device(pick_device(args.device))) as device:
        train_stages(args, device)


def train_stages(args: Namespace, device: torch.device) -> None:
    stages = chosen_stages(args.stage)
    folder = args.out or Path("runs") / label_of(args.world)
    weights = weights_folder(args.start) if args.start else None
    profile = chosen_profile(args.profile, weights)
    copied = COPIED if weights and args.stage == "all" else ()
    if args.stage == "tokenizer" and args.minutes:
        raise ValueError("--minutes has no effect on the tokenizer; leave it out")
    minutes = {args.stage: args.minutes}
    if args.minutes and args.stage == "all":
        shares = FINETUNE_MINUTES if weights else LAPTOP_MINUTES
        minutes = split_minutes(list(stages), args.minutes, shares)
    with first_goes_ahead():
        if is_first() and not args.resume:
            refuse_to_start_over(folder, stages)
        world = open_and_tell(args.world)
        make_folder(folder)
    if first := any_process(lacks_tokenizer(stages, folder)):
        stages = ("tokenizer", *stages)
    execution, spent = Execution(args.parts, args.recompute), {}
    with alone(folder, stages), telling_unreadable(world):
        kept = [stage for stage in stages if is_kept(stage, folder)]
        if is_first():
            prepare(stages, world, folder, args.resume, weights)
            if first:
                print(f"there is no tokenizer in {folder} yet, so it is trained first")
            for stage in kept:
                print(f"{stage:12}  is kept; delete {folder / stage} to train it again")
        for stage in stages:
            if stage in kept:
                continue
            if stage in copied and not state_of(folder / stage).is_file():
                if is_first():  # the others need no upsampler
                    copy_stage(stage, weights, folder)
                    print(f"{stage:12}  is copied from {weights / stage}")
                continue
            try:
                spent[stage] = train(
                    stage, world, folder, profile, device, minutes.get(stage), execution, weights
                )
            except KeyboardInterrupt as stop:
                raise KeyboardInterrupt(where_it_stopped(folder, stage)) from stop
    if len(spent) > 1 and is_first():
        print(f"{'all':12}  {sum(spent.values()):6.1f} min, in {folder}")


def prepare(
    stages: tuple[str, ...], world: World, folder: Path, resume: bool, weights: Path | None
) -> None:
    """Checks that all stages can be trained in the folder, before the first one begins.

    Prints whether files were added to the data since. Raises CheckpointError if something else has
    changed, or if a stage would be replaced under a later one. Raises ValueError if a stage can't
    start from the pretrained `weights`.
    """
    if "tokenizer" in stages and not resume:
        discard_tokenizer(folder)
    if weights:
        check_weights(stages, weights, folder)
    summary = contents_of(world)
    grown = [said for stage in stages if (said := check_with(stage, summary, folder, weights))]
    for said in grown[:1]:
        print(said)
    if weights:
        take_licences(weights, folder)


def discard_tokenizer(folder: Path) -> None:
    """Removes the tokenizer, so that a new one is trained.

    Raises CheckpointError if a stage was trained with the tokenizer.
    """
    check_replaceable("tokenizer", folder)
    (folder / "tokenizer.json").unlink(missing_ok=True)


def lacks_tokenizer(stages: tuple[str, ...], folder: Path) -> bool:
    """Whether CLIP is trained first of all, and there is no tokenizer for it."""
    return stages[0] == "clip" and not (folder / "tokenizer.json").is_file()


def chosen_profile(name: str | None, weights: Path | None) -> str:
    """Raises ValueError for `finetune` without pretrained weights."""
    if name == "finetune" and weights is None:
        raise ValueError(
            "--profile finetune is too short for random weights; add --from emoji, or use "
            "--profile laptop"
        )
    return name or ("finetune" if weights else "laptop")


def chosen_stages(name: str) -> tuple[str, ...]:
    if name == "all":
        return tuple(ALL)
    if name not in STAGES:
        raise ValueError(f"unknown stage {name!r}; train all, or one of {', '.join(STAGES)}")
    return (name,)


def open_and_tell(name: str) -> World:
    """Opens the world, and prints what was found in the user's files."""
    with doing(f"opening {label_of(name)}"):
        world = open_world(name)
    if world.summary and is_first():
        print(world.summary)
    return world


@contextmanager
def telling_unreadable(world: World) -> Iterator[None]:
    """After the block, also after an error, prints which pictures could not be decoded."""
    try:
        yield
    finally:
        if world.unreadable():
            print(f"left out in training and replaced by other pictures: {world.unreadable()}")


def refuse_to_start_over(folder: Path, stages: tuple[str, ...]) -> None:
    """Raises ValueError if one of the stages has a training or weights in `folder` already.

    Without --resume they would be continued or overwritten unintentionally.
    """
    for stage in stages:
        if state_of(folder / stage).exists():
            raise ValueError(
                f"{folder / stage} already holds a training of {stage}; continue it with --resume, "
                "or choose another folder with --out"
            )
        if is_kept(stage, folder):
            raise ValueError(
                f"{folder / stage} already holds weights of {stage}; delete that folder to train "
                f"{stage} again, or choose another folder with --out"
            )


@contextmanager
def alone(folder: Path, stages: tuple[str, ...]) -> Iterator[None]:
    """Inside, no other process can train the same stages in the same folder.

    Removes unfinished files of killed processes. Raises ValueError if nothing can be written, or
    if another process trains one of the stages.
    """
    if not is_first():  # the first process holds the locks for all processes of this training
        yield
        return
    with ExitStack() as locks:
        for stage in stages:
            try:
                locks.enter_context(locked(folder / f".{stage}.lock"))
            except InUse as error:
                raise ValueError(
                    f"another process is training {stage} in {folder}; wait until that process "
                    "ends, stop it, or choose another folder with --out"
                ) from error
            written = folder if stage == "tokenizer" else folder / stage
            if written.is_dir():
                remove_unfinished(make_folder(written))
        yield


def where_it_stopped(folder: Path, stage: str) -> str:
    if state_of(folder / stage).exists():
        return (
            f"stopped; {stage} is saved in {folder / stage}, and the same command with --resume "
            "continues it"
        )
    return f"stopped before {stage} had begun; the same command with --resume continues"


def train(
    stage: str,
    world: World,
    folder: Path,
    profile: str,
    device: torch.device,
    minutes: float | None,
    execution: Execution,
    weights: Path | None = None,
) -> float:
    """Trains one stage to its end. Returns the minutes that this call took."""
    started, step = time.monotonic(), None
    with (
        closing(
            steps_of(stage, world, folder, profile, device, minutes, execution, weights)
        ) as steps,
        tqdm(desc=stage, unit="step", leave=False, disable=hidden()) as bar,
        ticking(bar),
    ):
        for step in steps:
            if bar.total is None:  # steps before a --resume must not count for the rate
                bar.initial = bar.n = step.step - 1
            bar.total = step.total
            bar.set_postfix(loss=f"{step.loss:.4f}", refresh=False)
            bar.update()
    spent = (time.monotonic() - started) / 60
    ended = f", {step.step:,} steps, loss {step.loss:.4f}" if step else ""
    if is_first():
        print(f"{stage:12}  {spent:6.1f} min{ended}", flush=True)
    return spent


def steps_of(
    stage: str,
    world: World,
    folder: Path,
    profile: str,
    device: torch.device,
    minutes: float | None,
    execution: Execution,
    weights: Path | None,
) -> Iterator[Step]:
    """The steps of a training.

    Uses the plain loop of training/, unless a GPU, several processes or an option need the loop of
    scale/.
    """
    if device.type != "cuda" and processes() == 1 and execution == ONE_PASS:
        return train_stage(stage, world, folder, profile, device, minutes, weights)
    return train_stage_at_scale(stage, world, folder, profile, device, minutes, execution, weights)
