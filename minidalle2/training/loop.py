"""The training loop of every stage: a generator of steps, exact to the bit after a kill.

All randomness of step n comes from one generator seeded with (seed, n), so a resumed run needs no
memory of random states: it restores weights, average and optimisers, and goes on with step n. Nor
does the number of processes matter (distributed.py): each takes its rows of the same batch.
"""

import json
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from minidalle2.memory import keep_freed_memory
from minidalle2.training.checkpoints import (
    CheckpointError, read_tensors, reading, save_model, write_atomically, write_tensors,
)  # fmt: skip
from minidalle2.training.distributed import (
    anyone, check_shared, drawn, is_first, mean, processes, synchronised,
)  # fmt: skip
from minidalle2.training.ema import EMA
from minidalle2.training.gradients import Loss
from minidalle2.training.graph import GraphedUpdate
from minidalle2.training.optimizer import Update, build_optimizers
from minidalle2.training.precision import half_precision

SAVE_EVERY_SECONDS = 60
LOG_EVERY_STEPS = 20
TIMED_STEPS = 20  # after so many steps --minutes become a number of steps


class TrainingError(RuntimeError):
    """Training can't go on; the message says why and what would help."""


@dataclass
class Recipe:
    steps: int
    batch_size: int
    learning_rate: float = 4e-3  # peak, after the warm-up; then a cosine to zero
    restarts: tuple[int, ...] = ()  # steps at which the rate starts anew, at half its last peak
    warmup_steps: int = 100
    weight_decay: float = 0.01
    ema_decay: float = 0.998
    clip_norm: float = 1.0  # gradients are scaled down to this global norm
    seed: int = 0
    minutes: float | None = None  # if given, the first steps are timed and set `steps` by it


@dataclass
class Step:
    """What one optimiser step did; `step` counts the finished ones."""

    step: int
    total: int  # steps of the whole run
    loss: float
    gradient_norm: float
    learning_rate: float
    seconds: float  # since the start of the whole run, earlier sittings counted
    average: nn.Module  # the weights to draw with


# (batch size, generator) → a batch, of which several processes each take their `share`
Data = Callable[[int, torch.Generator], Any]


def whole(model: nn.Module) -> nn.Module:
    return model


def fit(
    model: nn.Module,
    data: Data,
    loss: Loss,
    recipe: Recipe,
    folder: Path,
    stage: str,
    core: Callable[[nn.Module], nn.Module] = whole,
) -> Iterator[Step]:
    """Train `model` on its device, yielding after every step; saves itself and resumes by itself.

    Leaves the average in folder/model.safetensors and everything needed to go on in
    folder/training.safetensors; of a model with parts that only training needs, the average of its
    `core`. Closing the generator (Ctrl-C, break) saves as well.
    """
    keep_freed_memory()
    run = _Run(model, recipe, folder, stage, core)
    lossy = synchronised(model, loss)
    device = next(model.parameters()).device
    last_save = time.monotonic()
    with _delayed_interrupt() as interrupted:
        while run.step < run.total:
            started = time.monotonic()
            generator = torch.Generator().manual_seed(recipe.seed * 10_000_019 + run.step)
            rate = learning_rate(run.step, run.total, recipe)
            batch = data(recipe.batch_size, generator)
            check_shared(batch, recipe.batch_size)
            with half_precision(device), drawn(recipe.batch_size):
                value = lossy(batch, generator)
            value_of_all = mean(value.item())
            norm = run.optimise(value, value_of_all, rate)
            run.seconds += mean(time.monotonic() - started)
            try:
                yield run.record(value_of_all, norm, rate)
            except GeneratorExit:
                run.save()
                raise
            if anyone(interrupted()):
                run.save()
                raise KeyboardInterrupt
            if time.monotonic() - last_save > SAVE_EVERY_SECONDS:
                run.save()
                last_save = time.monotonic()
    run.save()


@contextmanager
def _delayed_interrupt() -> Iterator[Callable[[], bool]]:
    """Ctrl-C waits for the end of the step: half a step must never be saved."""
    pressed = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield pressed.is_set  # signals reach the main thread only
        return
    previous = signal.signal(signal.SIGINT, lambda *_: pressed.set())
    try:
        yield pressed.is_set
    finally:
        signal.signal(signal.SIGINT, previous)


class _Run:
    """The state of one training: model, average, optimisers, step, log."""

    def __init__(
        self,
        model: nn.Module,
        recipe: Recipe,
        folder: Path,
        stage: str,
        core: Callable[[nn.Module], nn.Module],
    ):
        self.model, self.recipe, self.folder, self.stage = model, recipe, folder, stage
        self.core = core
        self.ema = EMA(model, recipe.ema_decay)
        self.optimizers = build_optimizers(model, recipe.learning_rate, recipe.weight_decay)
        alone_on_gpu = next(model.parameters()).is_cuda and processes() == 1
        kind = GraphedUpdate if alone_on_gpu else Update
        self.update = kind(self.optimizers, recipe.clip_norm)
        self.step, self.seconds, self.total = 0, 0.0, recipe.steps
        self.log: list[str] = []
        if (folder / "training.safetensors").exists():
            with reading(folder / "training.safetensors"):
                self.restore()

    def optimise(self, value: Tensor, value_of_all: float, rate: float) -> float:
        """One step of the weights and of their average; returns the gradient's norm."""
        if not math.isfinite(value_of_all):
            raise TrainingError(
                f"the {self.stage} loss became {value_of_all} at step {self.step}; the last good "
                f"checkpoint is in {self.folder}. Lower the learning rate "
                f"(now {self.recipe.learning_rate}) and train again"
            )
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        value.backward()
        norm = self.update(rate)
        self.ema.update(self.model, self.step)
        self.step += 1
        return norm.item()

    def record(self, loss: float, norm: float, rate: float) -> Step:
        if self.recipe.minutes and self.step == TIMED_STEPS:
            affordable = int(self.recipe.minutes * 60 / (self.seconds / TIMED_STEPS))
            self.total = max(TIMED_STEPS + 1, affordable)
        if self.step % LOG_EVERY_STEPS == 0 or self.step in (1, self.total):
            line = {"step": self.step, "total": self.total}
            numbers = {"loss": loss, "gradient_norm": norm, "learning_rate": rate}
            numbers["seconds"] = self.seconds
            line |= {name: float(f"{number:.6g}") for name, number in numbers.items()}
            self.log.append(json.dumps(line))
        average = self.core(self.ema.model)
        return Step(self.step, self.total, loss, norm, rate, self.seconds, average)

    def save(self) -> None:
        if not is_first():
            return
        tensors = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        tensors |= {f"ema.{k}": v for k, v in self.ema.model.state_dict().items()}
        for i, optimizer in enumerate(self.optimizers):
            for j, state in optimizer.state_dict()["state"].items():
                tensors |= {f"optimizer.{i}.{j}.{k}": v for k, v in state.items()}
        progress = {"step": self.step, "seconds": self.seconds, "total": self.total}
        progress["recipe"] = asdict(self.recipe)
        save_model(self.folder, self.stage, self.core(self.ema.model))
        log = "\n".join(self.log) + "\n"
        write_atomically(self.folder / "log.jsonl", lambda path: path.write_text(log))
        # Last, because it alone decides where a resumed run goes on.
        path = self.folder / "training.safetensors"
        write_tensors(path, tensors, {"progress": json.dumps(progress), "log": log})

    def restore(self) -> None:
        path = self.folder / "training.safetensors"
        tensors, metadata = read_tensors(path)
        progress = json.loads(metadata["progress"])
        if progress["recipe"] != json.loads(json.dumps(asdict(self.recipe))):
            raise CheckpointError(
                f"{path} was trained with another recipe ({progress['recipe']}); train into "
                "another folder, or with that recipe"
            )
        parts: dict[str, dict] = {"model": {}, "ema": {}, "optimizer": {}}
        for name, tensor in tensors.items():
            part, rest = name.split(".", 1)
            parts[part][rest] = tensor
        self.model.load_state_dict(parts["model"])
        self.ema.model.load_state_dict(parts["ema"])
        for i, optimizer in enumerate(self.optimizers):
            state: dict[int, dict] = {}
            for name, tensor in parts["optimizer"].items():
                which, j, key = name.split(".", 2)
                if int(which) == i:
                    state.setdefault(int(j), {})[key] = tensor
            groups = optimizer.state_dict()["param_groups"]
            optimizer.load_state_dict({"state": state, "param_groups": groups})
        self.step, self.seconds, self.total = (progress[k] for k in ("step", "seconds", "total"))
        self.log = metadata["log"].splitlines()


def learning_rate(step: int, total: int, recipe: Recipe) -> float:
    """Linear warm-up, then a cosine to zero at the last step, or at the next restart: a finished
    training can go on as if it had been planned longer (Loshchilov & Hutter 2017, SGDR)."""
    bounds = (0, *recipe.restarts, total)
    cycle = sum(step >= restart for restart in recipe.restarts)
    begin, end = bounds[cycle], bounds[cycle + 1]
    warm = min(1.0, (step - begin + 1) / recipe.warmup_steps)
    cosine = (1 + math.cos(math.pi * (step - begin) / (end - begin))) / 2
    return recipe.learning_rate * 0.5**cycle * warm * cosine
