"""The state of a training run: weights, average, optimizers, step and log, and how it is saved."""

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from torch import nn

from minidalle2.storage.checkpoints import (
    CheckpointError,
    read_tensors,
    reading,
    save_model,
    write_atomically,
    write_tensors,
)
from minidalle2.training.ema import EMA
from minidalle2.training.optimizer import Update, build_optimizers
from minidalle2.training.recipe import Recipe

SAVE_EVERY_SECONDS = 60
LOG_EVERY_STEPS = 20
TIMED_STEPS = 20  # steps that are timed before `minutes` become a number of steps


class TrainingError(RuntimeError):
    """Training cannot continue. The message says why and what would help."""


@dataclass
class Step:
    """The result of one optimizer step."""

    step: int  # number of finished steps
    total: int  # steps of the whole run
    loss: float
    gradient_norm: float
    learning_rate: float
    seconds: float  # of training so far, including the time before a resume
    average: nn.Module  # the averaged weights, which draw better pictures


def whole(model: nn.Module) -> nn.Module:
    return model


def state_of(folder: Path) -> Path:
    """The file from which the training of a stage in `folder` is resumed."""
    return folder / "training.safetensors"


def progress_of(folder: Path) -> dict:
    """step, total, seconds and recipe of the training in `folder`. Raises CheckpointError."""
    path = state_of(folder)
    with reading(path), safe_open(path, framework="pt") as file:
        return json.loads(file.metadata()["progress"])


def differences(earlier: dict, now: dict) -> str:
    """'steps 600, now 4; batch_size 256, now 8': the values that differ."""
    changed = [name for name in earlier | now if earlier.get(name) != now.get(name)]
    return "; ".join(f"{name} {earlier.get(name)}, now {now.get(name)}" for name in changed)


class Run:
    """One training run. It continues where the files in `folder` end.

    The random numbers of step n depend on (seed, n) only, so they need not be saved.
    """

    def __init__(
        self,
        model: nn.Module,
        recipe: Recipe,
        folder: Path,
        stage: str,
        kept: Callable[[nn.Module], nn.Module] = whole,
        update: type[Update] = Update,
    ):
        self.model, self.recipe, self.folder, self.stage = model, recipe, folder, stage
        self.kept = kept  # model → the part of it that is kept after training
        self.ema = EMA(model, recipe.ema_decay)
        self.optimizers = build_optimizers(model, recipe.learning_rate, recipe.weight_decay)
        self.update = update(self.optimizers, recipe.clip_norm)
        # A training whose minutes are given must be long enough to time its steps.
        total = max(recipe.steps, TIMED_STEPS + 1) if recipe.minutes else recipe.steps
        self.step, self.seconds, self.total = 0, 0.0, total
        self.log: list[str] = []
        self.last_save = time.monotonic()
        if state_of(folder).exists():
            with reading(state_of(folder)):
                self.restore()

    def generator(self) -> torch.Generator:
        """The random numbers of the next step."""
        return torch.Generator().manual_seed(self.recipe.seed * 10_000_019 + self.step)

    def check_finite(self, loss: float) -> None:
        """Raises TrainingError if the loss is infinite or not a number."""
        if not math.isfinite(loss):
            raise TrainingError(
                f"the {self.stage} loss became {loss} at step {self.step}; the last good "
                f"checkpoint is in {self.folder}. Lower the learning rate "
                f"(now {self.recipe.learning_rate}) and train again"
            )

    def record(self, loss: float, norm: float, rate: float, seconds: float) -> Step:
        """Counts a finished step and writes it to the log."""
        self.step += 1
        self.seconds += seconds
        if self.recipe.minutes and self.step == TIMED_STEPS:
            affordable = int(self.recipe.minutes * 60 / (self.seconds / TIMED_STEPS))
            self.total = max(TIMED_STEPS + 1, affordable)
        if self.step % LOG_EVERY_STEPS == 0 or self.step in (1, self.total):
            line = {"step": self.step, "total": self.total}
            numbers = {"loss": loss, "gradient_norm": norm, "learning_rate": rate}
            numbers["seconds"] = self.seconds
            line |= {name: float(f"{number:.6g}") for name, number in numbers.items()}
            self.log.append(json.dumps(line))
        average = self.kept(self.ema.model)
        return Step(self.step, self.total, loss, norm, rate, self.seconds, average)

    def save_if_due(self) -> None:
        if time.monotonic() - self.last_save > SAVE_EVERY_SECONDS:
            self.save()

    def save(self) -> None:
        """Writes the averaged weights to draw with, the log, and everything needed to resume."""
        tensors = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        tensors |= {f"ema.{k}": v for k, v in self.ema.model.state_dict().items()}
        for i, optimizer in enumerate(self.optimizers):
            for j, state in optimizer.state_dict()["state"].items():
                tensors |= {f"optimizer.{i}.{j}.{k}": v for k, v in state.items()}
        progress = {"step": self.step, "seconds": self.seconds, "total": self.total}
        progress["recipe"] = asdict(self.recipe)
        save_model(self.folder, self.stage, self.kept(self.ema.model))
        log = "\n".join(self.log) + "\n"
        write_atomically(self.folder / "log.jsonl", lambda path: path.write_text(log))
        # This file is written last, because it alone decides where a resumed run continues.
        path = state_of(self.folder)
        write_tensors(path, tensors, {"progress": json.dumps(progress), "log": log})
        self.last_save = time.monotonic()

    def check_size(self) -> None:
        """Raises CheckpointError if the model in `folder` has another config than this one."""
        earlier = json.loads((self.folder / "config.json").read_text(encoding="utf-8"))["config"]
        now = json.loads(json.dumps(asdict(self.kept(self.model).config)))
        known = {name: value for name, value in earlier.items() if name in now}
        if differ := differences(now | known, now):  # configs of older versions have other names
            raise CheckpointError(
                f"{self.folder} was trained with another size ({differ}), so it can't be resumed; "
                "restore the tokenizer or the data with which it was trained, or train into "
                "another folder"
            )

    def restore(self) -> None:
        """Continues the run in `folder`.

        Raises CheckpointError if it had another recipe or a model of another size.
        """
        path = state_of(self.folder)
        tensors, metadata = read_tensors(path)
        progress = json.loads(metadata["progress"])
        now = json.loads(json.dumps(asdict(self.recipe)))
        if progress["recipe"] != now:
            raise CheckpointError(
                f"{path} was trained with another recipe ({differences(progress['recipe'], now)}); "
                "resume it with the same --profile and --minutes, or train into another folder"
            )
        self.check_size()
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
