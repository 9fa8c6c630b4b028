"""The training loop for several processes and for GPUs, and for batches in parts.

It does the same as training/loop.py and writes the same files. In addition, each process computes
its own rows of a batch, losses and interrupts are shared among the processes, and only the first
process saves. On GPUs, other processes draw the batches ahead. On a single GPU, the step runs as
CUDA graphs (graph.py).
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from minidalle2.scale.accumulation import loss_in_parts
from minidalle2.scale.distributed import (
    any_process,
    check_own,
    everyones,
    is_first,
    mean,
    own_rows,
    processes,
    synchronised,
    wait_for_all,
)
from minidalle2.scale.graph import Graphed, GraphedUpdate
from minidalle2.scale.prefetch import Prefetched, workers_for
from minidalle2.scale.recompute import recompute_activations
from minidalle2.tokenizer import PAD
from minidalle2.training.jobs import AnyJob
from minidalle2.training.lineage import begin, recorded
from minidalle2.training.loop import Loss, delayed_interrupt
from minidalle2.training.optimizer import Update
from minidalle2.training.precision import half_precision
from minidalle2.training.recipe import Recipe, learning_rate
from minidalle2.training.run import Run, Step
from minidalle2.training.stages import (
    Setting,
    make_job,
    make_tokenizer,
    planned_recipe,
    with_sheets,
)
from minidalle2.training.world import World


@dataclass(frozen=True)
class Execution:
    """How a step is computed. This changes memory and time, but not the result.

    So it is not part of a recipe, and a training may continue with another choice.
    """

    parts: int = 1  # passes in which a process computes its rows of a batch
    recompute: bool = False  # activations, block by block


ONE_PASS = Execution()


def train_stage(
    stage: str,
    world: World,
    folder: Path,
    profile: str,
    device: torch.device,
    minutes: float | None = None,
    execution: Execution = ONE_PASS,
    weights: Path | None = None,
) -> Iterator[Step]:
    """Trains one stage into folder/stage, or resumes it. Yields its steps in every process.

    It starts from the pretrained `weights`, a folder, or else from random weights.
    """
    if stage == "tokenizer":
        if is_first():
            make_tokenizer(world, folder, weights)
        wait_for_all()
        return
    record = begin(stage, world, folder, weights) if is_first() else None
    workers = workers_for(world, device)
    setting = Setting(world, folder, device, lambda batches: Prefetched(batches, workers), weights)
    recipe = planned_recipe(world, profile, stage, minutes)
    job = make_job(stage, setting, recipe)
    if execution.recompute:
        recompute_activations(job.model)
    loss = loss_of(job, execution, device, context_length(setting))
    steps = fit(job, loss, recipe, folder / stage, stage, workers)
    if is_first():
        steps = with_sheets(recorded(steps, record, stage, folder), job, folder / stage)
    yield from steps
    wait_for_all()  # until the first process has saved what the next stage loads


def context_length(setting: Setting) -> int:
    """The most tokens of a caption; 0 if there is no tokenizer, for stages without captions."""
    there = (setting.folder / "tokenizer.json").is_file()
    return setting.tokenizer.context_length if there else 0


def loss_of(job: AnyJob, execution: Execution, device: torch.device, tokens: int) -> Loss:
    """The loss of this process's rows. On a single GPU it is a CUDA graph, if it can be one."""
    alone_on_gpu = device.type == "cuda" and processes() == 1 and execution == ONE_PASS
    if alone_on_gpu and job.recordable:
        return Graphed(job, tokens)
    return loss_in_parts(job, execution.parts)


def fit(
    job: AnyJob, loss: Loss, recipe: Recipe, folder: Path, stage: str, workers: int = 0
) -> Iterator[Step]:
    """Like training.loop.fit, for a job whose `loss` takes the rows of this process."""
    device = next(job.model.parameters()).device
    alone_on_gpu = device.type == "cuda" and processes() == 1
    update = GraphedUpdate if alone_on_gpu else Update
    run = Run(job.model, recipe, folder, stage, job.kept, update)
    loss_of_batch = synchronised(job.model, loss)
    draw = Prefetched(lambda n, generator: job.draw(n, generator, own_rows(n)), workers)
    with delayed_interrupt() as interrupted:
        while run.step < run.total:
            started = time.monotonic()
            generator = run.generator()
            rate = learning_rate(run.step, run.total, recipe)

            batch = job.see(equally_long(draw(recipe.batch_size, generator)))
            check_own(batch, recipe.batch_size)
            with half_precision(device):
                value = loss_of_batch(batch, generator)
            value_of_all = mean(value.item())
            run.check_finite(value_of_all)
            job.model.zero_grad(set_to_none=True)
            value.backward()
            norm = run.update(rate)
            run.ema.update(job.model, run.step)

            seconds = mean(time.monotonic() - started)
            try:
                yield run.record(value_of_all, norm.item(), rate, seconds)
            except GeneratorExit:
                save(run)
                raise
            if any_process(interrupted()):
                save(run)
                any_process(True)  # no process leaves before the first one has saved
                raise KeyboardInterrupt
            if is_first():
                run.save_if_due()
    save(run)


def save(run: Run) -> None:
    if is_first():
        run.save()


def equally_long(batch: Any) -> Any:
    """Pads tokens (B, T) to the same T in all processes, because CLIP compares them."""
    if processes() == 1 or not isinstance(batch, tuple):
        return batch

    def padded(part: Any) -> Any:
        if not isinstance(part, torch.Tensor) or part.ndim != 2 or part.is_floating_point():
            return part
        longest = int(everyones(part.shape[1]).max())
        return F.pad(part, (0, longest - part.shape[1]), value=PAD)

    return tuple(padded(part) for part in batch)
