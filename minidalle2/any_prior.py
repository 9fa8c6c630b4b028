"""What DALLE2 asks of a prior, and the priors that it can have."""

from pathlib import Path
from typing import Protocol

from torch import Tensor

from minidalle2.autoregressive_prior import AutoregressivePrior, AutoregressivePriorConfig
from minidalle2.prior import Prior, PriorConfig
from minidalle2.training.checkpoints import CheckpointError

PRIORS = {  # that can stand in the prior's place: the stage that trains it, its classes
    "diffusion": ("prior", PriorConfig, Prior),
    "autoregressive": (
        "autoregressive_prior", AutoregressivePriorConfig, AutoregressivePrior,
    ),
}  # fmt: skip


class AnyPrior(Protocol):
    """Text embedding and caption → candidates, all of whose randomness is in x_T."""

    noise_size: int  # standard normal numbers that a candidate takes

    def candidates(
        self, z_t: Tensor, tokens: Tensor, x_T: Tensor, steps: int, guidance: float
    ) -> Tensor:
        """z_t (B, E), tokens (B, T), x_T (B, n, noise_size) → (B, n, E), unit length."""
        ...


def prior_of(folder: Path, name: str) -> tuple[str, type, type]:
    """One of PRIORS: the stage that trains it, and its classes. Raises ValueError for a name that
    is none of them, CheckpointError where `folder` lacks the weights."""
    if name not in PRIORS:
        raise ValueError(f"there is no {name} prior; there are {', '.join(PRIORS)}")
    stage = PRIORS[name]
    if name != "diffusion" and not (folder / stage[0]).is_dir():
        raise CheckpointError(
            f"there is no {name} prior among the weights in {folder}; `minidalle2 train {stage[0]} "
            f"--out {folder}` would make one, or draw with the diffusion prior"
        )
    return stage
