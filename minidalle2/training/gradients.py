"""Losses with given gradients, for gradients that are computed in several passes.

`with_gradients` returns a loss whose backward pass gives the parameters the given gradients. The
training loop and the optimizers treat it like any other loss.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

Gradients = list[Tensor | None]  # one per parameter; None if the loss does not depend on it


def trained(model: nn.Module) -> list[nn.Parameter]:
    """The parameters that are trained."""
    return [p for p in model.parameters() if p.requires_grad]


def gradients_of(
    values: Tensor | Sequence[Tensor],
    inputs: Sequence[Tensor],
    upstream: Sequence[Tensor] | None = None,
) -> Gradients:
    """Like `torch.autograd.grad`, but with autocast disabled.

    Otherwise the backward pass of operations that force float32 would run in bfloat16.
    """
    device = (values if isinstance(values, Tensor) else values[0]).device
    with torch.autocast(device.type, enabled=False):
        return list(torch.autograd.grad(values, inputs, upstream, allow_unused=True))


def add(sums: Gradients, more: Gradients) -> Gradients:
    """The sum of two lists of gradients, parameter by parameter."""
    return [b if a is None else a if b is None else a + b for a, b in zip(sums, more, strict=True)]


def with_gradients(value: Tensor, gradients: Gradients, parameters: Sequence[Tensor]) -> Tensor:
    """A copy of `value` whose backward pass gives each parameter its given gradient."""
    return _WithGradients.apply(value, gradients, *parameters)


class _WithGradients(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, gradients: Gradients, *parameters: Tensor) -> Tensor:
        ctx.gradients = gradients
        return value.clone()

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        scaled = iter(torch._foreach_mul([g for g in ctx.gradients if g is not None], upstream))
        return None, None, *(None if g is None else next(scaled) for g in ctx.gradients)
