"""Sharpness-aware minimisation (Foret et al. 2020), with which the paper trained its CLIP (app. C).

The gradient is not taken where the weights are, but a step of length rho uphill, where the loss is
worst nearby: minima in whose surroundings the loss stays low are preferred. The paper says that it
lowers the rank of CLIP's embeddings, which its autoregressive prior needs. A step costs two.

`sharpness_aware` turns a loss into another one, whose value is the same and whose gradient is that
gradient: the training loop and the optimisers need know nothing of it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from minidalle2.training.gradients import gradients_of, trained, with_gradients
from minidalle2.training.loop import Loss

RHO = 0.1  # the paper's, where each gradient uphill was that of 64 pairs


def sharpness_aware(loss: Loss, rho: float = RHO) -> Loss:
    """A loss for `fit` whose backward pass leaves the sharpness-aware gradient."""

    def sharp(model: nn.Module, batch: Any, generator: torch.Generator) -> Tensor:
        value, gradients = sharpness_aware_gradient(model, loss, batch, generator, rho)
        return with_gradients(value, gradients, trained(model))

    return sharp


def sharpness_aware_gradient(
    model: nn.Module, loss: Loss, batch: Any, generator: torch.Generator, rho: float
) -> tuple[Tensor, list[Tensor | None]]:
    """→ the loss at w, and its gradient at w + rho·g/|g|, g being the gradient at w, for each
    parameter that trains (None where the loss does not depend on it).

    Both passes get the same random numbers. Weights, buffers and generator are left as one pass at
    w leaves them, to the bit. If the loss uphill is no number, that is what comes back as the loss.
    """
    parameters, state = trained(model), generator.get_state()
    value = loss(model, batch, generator)
    uphill = gradients_of(value, parameters)
    with _moved(model, parameters, uphill, rho):
        generator.set_state(state)
        worse = loss(model, batch, generator)
        gradients = gradients_of(worse, parameters)
    return (value if worse.isfinite() else worse).detach(), gradients


@contextmanager
def _moved(
    model: nn.Module, parameters: list[nn.Parameter], direction: list[Tensor | None], rho: float
) -> Iterator[None]:
    """The model at w + rho·direction/|direction|, and at w again afterwards.

    Copies are kept, for adding and subtracting again would not lead back to the same bits. Autocast
    remembers weights in bfloat16 and does not notice that they moved: it is told to forget them.
    """
    kept = [(x, x.detach().clone()) for x in (*model.parameters(), *model.buffers())]
    norm = torch.stack([g.norm() for g in direction if g is not None]).norm()
    try:
        with torch.no_grad():
            for parameter, g in zip(parameters, direction, strict=True):
                if g is not None:
                    parameter.add_(g * (rho / (norm + 1e-12)))
        torch.clear_autocast_cache()
        yield
    finally:
        with torch.no_grad():
            for tensor, before in kept:
                tensor.copy_(before)
        torch.clear_autocast_cache()
