"""One loop that trains everybody: the same seconds, schedule, average, number format, allocator.

What differs is the model, its loss, and the optimiser that its authors use.
"""

import math
import time
from dataclasses import dataclass

import torch
from torch import nn

from minidalle2.dalle2 import WEIGHTS
from minidalle2.storage.memory import keep_freed_memory
from minidalle2.training.ema import EMA
from minidalle2.training.jobs import AnyJob
from minidalle2.training.loop import Data, Loss
from minidalle2.training.optimizer import build_optimizers
from minidalle2.training.precision import half_precision
from minidalle2.training.recipe import Recipe
from minidalle2.training.stages import Setting, make_job
from minidalle2.worlds.shapes.world import Shapes

CPU = torch.device("cpu")
WARMUP = 0.05  # of the seconds
UNTIMED = 2  # first steps, in which memory is fetched and kernels are chosen
OUR_RATE, PEERS_RATE = 4e-3, 1e-3


@dataclass
class Trained:
    model: nn.Module  # the average of the weights
    per_second: float  # examples
    steps: int


def our_job(stage: str, recipe: Recipe) -> AnyJob:
    """A stage of the shapes world, made ready as `minidalle2 train` does."""
    return make_job(stage, Setting(Shapes(), WEIGHTS / "shapes", CPU), recipe)


def our_optimizers(model: nn.Module) -> list[torch.optim.Optimizer]:
    return build_optimizers(model, OUR_RATE, weight_decay=0.01)


def peers_optimizers(model: nn.Module) -> list[torch.optim.Optimizer]:
    """AdamW, as all of them use. 1e-3 is above their defaults (1e-4 to 5e-4), which are meant for
    large models and days."""
    params = [p for p in model.parameters() if p.requires_grad]
    return [torch.optim.AdamW(params, PEERS_RATE, betas=(0.9, 0.98), weight_decay=0.01)]


def train_for(
    seconds: float,
    model: nn.Module,
    data: Data,
    loss: Loss,
    optimizers: list[torch.optim.Optimizer],
    batch_size: int,
    seed: int,
) -> Trained:
    """Train on batches drawn as they are needed, whose drawing counts. A warm-up and a cosine to
    zero follow the clock, so that everybody ends with a finished training."""
    keep_freed_memory()
    average, step, started = EMA(model, 0.998), 0, time.perf_counter()
    peaks = [optimizer.param_groups[0]["lr"] for optimizer in optimizers]
    timed_from = started
    while (elapsed := time.perf_counter() - started) < seconds or step <= UNTIMED:
        if step == UNTIMED:
            timed_from = time.perf_counter()
        generator = torch.Generator().manual_seed(seed * 10_000_019 + step)
        done = min(1.0, elapsed / seconds)
        factor = min(1.0, (done + 1e-3) / WARMUP) * (1 + math.cos(math.pi * done)) / 2
        for optimizer, peak in zip(optimizers, peaks, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = peak * factor
            optimizer.zero_grad(set_to_none=True)
        batch = data(batch_size, generator)
        with half_precision(CPU):
            value = loss(model, batch, generator)
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        average.update(model, step)
        step += 1
    spent = time.perf_counter() - timed_from
    return Trained(average.model.eval(), batch_size * (step - UNTIMED) / spent, step)


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
