"""`minidalle2 train`: one stage, or all of them in order, with a progress bar."""

import time
from argparse import Namespace
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import torch
from tqdm import tqdm

from minidalle2.commands.options import make_folder, pick_device
from minidalle2.locks import InUse, locked
from minidalle2.training.checkpoints import remove_unfinished
from minidalle2.training.distributed import first_goes_ahead, is_first, own_device, together
from minidalle2.training.execution import Execution
from minidalle2.training.recipes import split_minutes
from minidalle2.training.stages import ALL, STAGES, train_stage
from minidalle2.worlds.folder.world import Folder
from minidalle2.worlds.shards.world import Shards
from minidalle2.worlds.world import World, label_of, open_world


def run(args: Namespace) -> None:
    stages = chosen_stages(args.stage)
    device = own_device(pick_device(args.device))
    folder = args.out or Path("runs") / label_of(args.world)
    if not args.resume:
        refuse_to_start_over(folder, stages)
    with together(device):
        train_stages(args, stages, folder, device)


def train_stages(
    args: Namespace, stages: tuple[str, ...], folder: Path, device: torch.device
) -> None:
    with first_goes_ahead():
        world = open_and_tell(args.world)
        make_folder(folder)
    minutes = {args.stage: args.minutes}
    if args.minutes and args.stage == "all":
        minutes = split_minutes(list(stages), args.minutes)
    execution = Execution(args.parts, args.recompute)
    spent = {}
    with alone(folder, stages), telling_unreadable(world):
        for stage in stages:
            try:
                spent[stage] = train(
                    stage, world, folder, args.profile, device, minutes.get(stage), execution
                )
            except KeyboardInterrupt as stop:
                raise KeyboardInterrupt(where_it_stopped(folder, stage)) from stop
    if len(spent) > 1 and is_first():
        print(f"{'all':12}  {sum(spent.values()):6.1f} min, in {folder}")


def chosen_stages(name: str) -> tuple[str, ...]:
    if name == "all":
        return tuple(ALL)
    if name not in STAGES:
        raise ValueError(f"unknown stage {name!r}; train all, or one of {', '.join(STAGES)}")
    return (name,)


def open_and_tell(name: str) -> World:
    """The world; what was found in a folder or in shards is printed."""
    world = open_world(name)
    if isinstance(world, Folder | Shards) and is_first():
        print(world.summary)
    return world


@contextmanager
def telling_unreadable(world: World) -> Iterator[None]:
    """Pictures of shards are decoded in training; those that this process could not decode are
    said when it ends, however it does."""
    try:
        yield
    finally:
        if isinstance(world, Shards) and world.unreadable.problems:
            print(f"left out while training, others took their places: {world.unreadable}")


def refuse_to_start_over(folder: Path, stages: tuple[str, ...]) -> None:
    """Raises ValueError where a training would be continued or lost unasked."""
    for stage in stages:
        if (folder / stage / "training.safetensors").exists():
            raise ValueError(
                f"{folder / stage} already holds a training of {stage}; go on with --resume, or "
                "train into another folder with --out"
            )


@contextmanager
def alone(folder: Path, stages: tuple[str, ...]) -> Iterator[None]:
    """Keep other processes from training these stages there; others they may train. What a kill
    left half-written is removed. Raises ValueError where nothing can be written, or another
    process trains one of the stages."""
    if not is_first():  # it locks for all
        yield
        return
    try:
        with locked(folder / ".training.lock", [STAGES.index(stage) for stage in stages]):
            for stage in stages:
                written = folder if stage == "tokenizer" else folder / stage
                if written.is_dir():
                    remove_unfinished(make_folder(written))
            yield
    except InUse as error:
        raise ValueError(
            f"another process is training {STAGES[error.place]} in {folder}; wait until it has "
            "ended or stop it, or train into another folder with --out"
        ) from error


def where_it_stopped(folder: Path, stage: str) -> str:
    if (folder / stage / "training.safetensors").exists():
        return (
            f"stopped; {stage} as far as it got is kept in {folder / stage}, and the same command "
            "with --resume goes on"
        )
    return f"stopped before {stage} had begun; the same command with --resume goes on"


def train(
    stage: str,
    world: World,
    folder: Path,
    profile: str,
    device: torch.device,
    minutes: float | None,
    execution: Execution,
) -> float:
    """Train one stage to its end; → the minutes it took this time."""
    started, step = time.monotonic(), None
    hidden = None if is_first() else True  # None: only on a terminal
    with (
        closing(train_stage(stage, world, folder, profile, device, minutes, execution)) as steps,
        tqdm(desc=stage, unit="step", leave=False, disable=hidden) as bar,
    ):
        for step in steps:
            if bar.total is None:  # steps of earlier sittings must not count for the rate
                bar.initial = bar.n = step.step - 1
            bar.total = step.total
            bar.set_postfix(loss=f"{step.loss:.4f}", refresh=False)
            bar.update()
    spent = (time.monotonic() - started) / 60
    ended = f", {step.step:,} steps, loss {step.loss:.4f}" if step else ""
    if is_first():
        print(f"{stage:12}  {spent:6.1f} min{ended}", flush=True)
    return spent
