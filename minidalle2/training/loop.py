"""The training loop of every stage, on one device in one process.

`fit` is a generator: it yields after every step, so that the caller can show progress or stop.
A resumed training is identical to the bit, because the random numbers of step n depend on
(seed, n) only. scale/loop.py has the loop for several processes and for GPUs.
"""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from minidalle2.training.precision import half_precision
from minidalle2.training.recipe import Recipe, learning_rate
from minidalle2.training.run import Run, Step, whole

Data = Callable[[int, torch.Generator], Any]  # (batch size, generator) → a batch
Loss = Callable[[nn.Module, Any, torch.Generator], Tensor]  # (model, batch, generator) → scalar


def fit(
    model: nn.Module,
    data: Data,
    loss: Loss,
    recipe: Recipe,
    folder: Path,
    stage: str,
    kept: Callable[[nn.Module], nn.Module] = whole,
) -> Iterator[Step]:
    """Trains `model` on its device, saves it to `folder`, and resumes a run that is there.

    folder/model.safetensors receives the averaged weights of `kept(model)`, the part that is
    needed after training. folder/training.safetensors receives everything needed to resume.
    Closing the generator saves, and so does Ctrl-C.
    """
    run = Run(model, recipe, folder, stage, kept)
    device = next(model.parameters()).device
    with delayed_interrupt() as interrupted:
        while run.step < run.total:
            started = time.monotonic()
            generator = run.generator()
            rate = learning_rate(run.step, run.total, recipe)

            batch = data(recipe.batch_size, generator)
            with half_precision(device):
                value = loss(model, batch, generator)
            run.check_finite(value.item())
            model.zero_grad(set_to_none=True)
            value.backward()
            norm = run.update(rate)
            run.ema.update(model, run.step)

            step = run.record(value.item(), norm.item(), rate, time.monotonic() - started)
            try:
                yield step
            except GeneratorExit:
                run.save()
                raise
            if interrupted():
                run.save()
                raise KeyboardInterrupt
            run.save_if_due()
    run.save()


@contextmanager
def delayed_interrupt() -> Iterator[Callable[[], bool]]:
    """Inside, Ctrl-C waits until the end of the step, because half a step must not be saved.

    Yields a function that says whether Ctrl-C was pressed.
    """
    pressed = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield pressed.is_set  # only the main thread receives signals
        return
    previous = signal.signal(signal.SIGINT, lambda *_: pressed.set())
    try:
        yield pressed.is_set
    finally:
        signal.signal(signal.SIGINT, previous)
