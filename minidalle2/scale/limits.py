"""The highest speed of this CPU, and the number of operations of a training step.

Measured are matrix products (2048³), 3x3 convolutions (64 to 64 channels at 32 px, forward and
backward pass) and copies (64 MB), in the number format of training. Each speed is that of the
fastest of several runs. torch counts the operations of a step while it runs. A multiplication and
an addition count as two operations. Only products and convolutions are counted, although all other
operations take time, too.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from minidalle2.training.loop import Loss
from minidalle2.training.precision import half_precision

CPU = torch.device("cpu")
COPIED = 64_000_000  # bytes, more than the caches of most CPUs


@dataclass(frozen=True)
class Limits:
    """The highest speeds of this CPU."""

    products: float  # operations per second
    convolutions: float  # operations per second
    bandwidth: float  # bytes per second, read and written

    def ideal_seconds(self, products: float, convolutions: float) -> float:
        """The seconds that these numbers of operations would take at the highest speed."""
        return products / self.products + convolutions / self.convolutions


def limits(seconds: float) -> Limits:
    """Measures the limits of this CPU, in about `seconds`."""
    each = seconds / 3
    return Limits(product_rate(each, number_format()), convolution_rate(each), bandwidth(each))


def number_format() -> torch.dtype:
    """The format of products in training on this CPU: bfloat16 if supported, else float32."""
    one = torch.ones(1, 1)
    with half_precision(CPU):
        return (one @ one).dtype


def product_rate(seconds: float, kind: torch.dtype) -> float:
    """Operations per second of matrix products in this number format."""
    a, b = (torch.randn(2048, 2048).to(kind) for _ in "ab")
    return 2 * 2048**3 / fastest(lambda: a @ b, seconds)


def convolution_rate(seconds: float) -> float:
    """Operations per second of convolutions, forward and backward pass."""
    layer = nn.Conv2d(64, 64, 3, padding=1).to(memory_format=torch.channels_last)
    x = torch.randn(64, 64, 32, 32).to(memory_format=torch.channels_last).requires_grad_()

    def both_passes() -> None:
        with half_precision(CPU):
            y = layer(x)
        torch.autograd.grad(y, (x, layer.weight), y)

    forward = 2 * 64 * 32 * 32 * 64 * 64 * 9
    return 3 * forward / fastest(both_passes, seconds)


def bandwidth(seconds: float) -> float:
    """Bytes per second of a copy. Each byte counts twice: it is read once and written once."""
    source = torch.ones(COPIED // 4)
    target = torch.empty_like(source)
    return 2 * COPIED / fastest(lambda: target.copy_(source), seconds)


def fastest(run: Callable[[], object], seconds: float) -> float:
    """The seconds of the fastest run. Runs for about `seconds`; the first run is not counted."""
    best, started = float("inf"), time.perf_counter()
    run()
    while best == float("inf") or time.perf_counter() - started < seconds:
        before = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - before)
    return best


def operations_of_a_step(model: nn.Module, loss: Loss, batch: Any) -> tuple[int, int]:
    """Operations of a step in matrix products and in convolutions, forward and backward pass.

    The gradients are deleted afterwards.
    """
    with FlopCounterMode(display=False) as counter:
        with half_precision(CPU):
            value = loss(model, batch, torch.Generator().manual_seed(0))
        value.backward()
    model.zero_grad(set_to_none=True)
    by_operation = counter.get_flop_counts()["Global"]
    convolutions = sum(n for op, n in by_operation.items() if "convolution" in str(op))
    return counter.get_total_flops() - convolutions, convolutions
