"""Losses that bring their own gradient along: computed in several passes, used like any other.

`with_gradients` makes a number whose backward pass leaves given gradients, so that the loop and
the optimisers need not know how these came about.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

Loss = Callable[[nn.Module, Any, torch.Generator], Tensor]  # (model, batch, generator) → scalar
Gradients = list[Tensor | None]  # one a parameter; None where the loss does not depend on it


def trained(model: nn.Module) -> list[nn.Parameter]:
    return [p for p in model.parameters() if p.requires_grad]


def gradients_of(
    values: Tensor | Sequence[Tensor],
    inputs: Sequence[Tensor],
    upstream: Sequence[Tensor] | None = None,
) -> Gradients:
    """As `torch.autograd.grad`, outside of autocast: what ran in float32 by a wish of its own would
    otherwise run backwards in bfloat16."""
    device = (values if isinstance(values, Tensor) else values[0]).device
    with torch.autocast(device.type, enabled=False):
        return list(torch.autograd.grad(values, inputs, upstream, allow_unused=True))


def add(sums: Gradients, more: Gradients) -> Gradients:
    """Sums, parameter by parameter."""
    return [b if a is None else a if b is None else a + b for a, b in zip(sums, more, strict=True)]


def with_gradients(value: Tensor, gradients: Gradients, parameters: Sequence[Tensor]) -> Tensor:
    """The value, with that gradient for each of the parameters."""
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
