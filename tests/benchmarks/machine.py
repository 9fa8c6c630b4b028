"""How much of this machine our training uses: the model's FLOP/s beside what the machine reaches in
matrix products (2048³) and in 3x3 convolutions (64 to 64 channels at 32 px, both passes) alone.

A step's products and convolutions are counted apart; each would take so long at the machine's own
rate, and the share is that time of the time that a step takes. Everything else (norms, softmax,
optimiser, drawing the data) only lengthens the step.
"""

import time
from collections.abc import Callable

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from minidalle2.training.loop import Recipe, half_precision, keep_freed_memory
from minidalle2.training.stages import clip_job, decoder_job, prior_job
from minidalle2.worlds.shapes.world import Shapes
from tests.benchmarks import training
from tests.benchmarks.frozen import FOLDER

JOBS = {"CLIP": (clip_job, 256), "prior": (prior_job, 256), "decoder": (decoder_job, 64)}


def ours(seconds: float, seed: int) -> dict:
    keep_freed_memory()
    products, convolutions = product_rate(seconds / 4), convolution_rate(seconds / 4)
    numbers = {
        "products, GFLOP/s": products / 1e9,
        "convolutions, GFLOP/s": convolutions / 1e9,
    }
    for name, (job_of, batch_size) in JOBS.items():
        job = job_of(Shapes(), FOLDER, training.CPU, Recipe(steps=4, batch_size=batch_size))
        model = job.model.to(memory_format=torch.channels_last)
        in_products, in_convolutions = flops_of_a_step(model, job, batch_size)
        done = training.train_for(
            seconds / 2, model, job.data, job.loss, training.our_optimizers(model), batch_size, seed
        )
        step = batch_size / done.per_second
        ideal = in_products / products + in_convolutions / convolutions
        numbers[f"{name}: GFLOP/s"] = (in_products + in_convolutions) / step / 1e9
        numbers[f"{name}: share of the machine, %"] = 100 * ideal / step
    return numbers


MEASURES = {"minidalle2": ours}


def product_rate(seconds: float) -> float:
    a, b = (torch.randn(2048, 2048).bfloat16() for _ in "ab")
    return 2 * 2048**3 / fastest(lambda: a @ b, seconds)


def convolution_rate(seconds: float) -> float:
    layer = nn.Conv2d(64, 64, 3, padding=1).to(memory_format=torch.channels_last)
    x = torch.randn(64, 64, 32, 32).to(memory_format=torch.channels_last).requires_grad_()

    def both_passes() -> None:
        with half_precision(training.CPU):
            y = layer(x)
        torch.autograd.grad(y, (x, layer.weight), y)

    forward = 2 * 64 * 32 * 32 * 64 * 64 * 9
    return 3 * forward / fastest(both_passes, seconds)


def fastest(run: Callable[[], object], seconds: float) -> float:
    """Seconds of the fastest of many runs."""
    best, started = float("inf"), time.perf_counter()
    run()
    while best == float("inf") or time.perf_counter() - started < seconds:
        before = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - before)
    return best


def flops_of_a_step(model: nn.Module, job, batch_size: int) -> tuple[int, int]:
    """FLOPs in matrix products and in convolutions, both passes."""
    generator = torch.Generator().manual_seed(0)
    batch = job.data(batch_size, generator)
    with FlopCounterMode(display=False) as counter:
        with half_precision(training.CPU):
            value = job.loss(model, batch, generator)
        value.backward()
    model.zero_grad(set_to_none=True)
    by_operation = counter.get_flop_counts()["Global"]
    convolutions = sum(n for op, n in by_operation.items() if "convolution" in str(op))
    return counter.get_total_flops() - convolutions, convolutions
