"""The priors that can take the place of the diffusion prior, and how each of them is trained.

To add a prior to the package, write its file, add it to PRIORS here, and add its name to PRIORS in
commands/arguments.py. It then has a training stage, and `draw --prior`, the release and the
comparison of priors can use it. docs/extend.md uses a prior without changing the package.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from minidalle2.prior import Prior, PriorConfig, prior_draws, prior_loss_at
from minidalle2.priors.autoregressive_prior import (
    AutoregressivePrior,
    AutoregressivePriorConfig,
    autoregressive_draws,
    autoregressive_loss_at,
    measured_prior,
)
from minidalle2.priors.regression_prior import (
    RegressionPrior,
    RegressionPriorConfig,
    regression_loss_at,
)

Draws = tuple[Tensor, ...]


def no_draws(model: nn.Module, n: int, generator: torch.Generator) -> Draws:
    """For losses without random numbers."""
    return ()


def untrained(model_class: type) -> Callable[[Any, Tensor, Tensor], Any]:
    """A prior that needs no measurements of the embeddings before it is trained."""
    return lambda config, z_i, z_t: model_class(config)


@dataclass(frozen=True)
class PriorKind:
    """A kind of prior: its training stage, classes and loss.

    The model is an AnyPrior (unclip.py). To be saved it also needs `config`, the dataclass that it
    was made from.
    """

    stage: str  # of `train`, and the name of its checkpoint folder
    config: type  # a dataclass with clip_embedding, perhaps with vocab_size and context_length
    model: type
    draws: Callable[[Any, int, torch.Generator], Draws]  # the random numbers of a training step
    loss_at: Callable[[Any, tuple, Draws], Tensor]  # (model, (z_i, z_t, tokens), draws) → loss
    prepared: Callable[[Any, Tensor, Tensor], Any]  # (config, z_i, z_t (N, E)) → untrained model


PRIORS = {
    "diffusion": PriorKind(
        "prior", PriorConfig, Prior, prior_draws, prior_loss_at, untrained(Prior)
    ),
    "autoregressive": PriorKind(
        "autoregressive_prior",
        AutoregressivePriorConfig,
        AutoregressivePrior,
        autoregressive_draws,
        autoregressive_loss_at,
        measured_prior,
    ),
    "regression": PriorKind(
        "regression_prior",
        RegressionPriorConfig,
        RegressionPrior,
        no_draws,
        regression_loss_at,
        untrained(RegressionPrior),
    ),
}


def kind_of(name: str | PriorKind) -> PriorKind:
    """The kind of prior with this name, or the given kind. Raises ValueError for other names."""
    if isinstance(name, PriorKind):
        return name
    if name not in PRIORS:
        raise ValueError(f"there is no {name} prior; the priors are {', '.join(PRIORS)}")
    return PRIORS[name]
