"""Sharpness-aware minimisation (Foret et al. 2020), used for the paper's CLIP (appendix C).

The gradient is computed at other weights: one step of length rho in the direction in which the loss
increases. Therefore minima are preferred around which the loss stays low. The paper says that this
reduces the rank of CLIP's embeddings, which helps its autoregressive prior. A training step costs
as much as two ordinary steps.

`sharpness_aware` converts a loss into another loss with the same value and this gradient. The
training loop and the optimizers treat it like any other loss.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from minidalle2.training.gradients import gradients_of, trained, with_gradients
from minidalle2.training.loop import Loss

RHO = 0.1  # as in the paper, which computed each uphill step from 64 pairs


def sharpness_aware(loss: Loss, rho: float = RHO) -> Loss:
    """A loss for `fit` whose backward pass gives the sharpness-aware gradient."""

    def sharp(model: nn.Module, batch: Any, generator: torch.Generator) -> Tensor:
        value, gradients = sharpness_aware_gradient(model, loss, batch, generator, rho)
        return with_gradients(value, gradients, trained(model))

    return sharp


def sharpness_aware_gradient(
    model: nn.Module, loss: Loss, batch: Any, generator: torch.Generator, rho: float
) -> tuple[Tensor, list[Tensor | None]]:
    """→ the loss at the weights w, and the gradient at w + rho·g/|g|, where g is the gradient at w.

    There is one gradient for each parameter that is trained, None if the loss does not depend on
    it. Both passes use the same random numbers. Afterwards weights, buffers and generator are equal
    to the bit to those after a single pass at w. If the loss at the other weights is not finite,
    that loss is returned instead.
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
    """Inside, the weights of the model are w + rho·direction/|direction|. Afterwards they are w.

    w is restored from copies, because adding and subtracting would not give the same bits. Autocast
    caches weights in bfloat16 and does not notice that they change, so its cache is cleared.
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
