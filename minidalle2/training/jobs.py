"""A training stage made ready: its model, its data and its loss.

A batch is first drawn on the CPU (`draw`), then moved to the device and completed there (`see`),
for example with CLIP's embeddings. The two steps are separate, so that other processes can draw
batches ahead while a GPU computes (scale/prefetch.py).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from minidalle2.training.run import whole
from minidalle2.training.world import ALL_ROWS

Draw = Callable[[int, torch.Generator, slice], Any]  # (n, generator, rows) → rows of a batch of n
See = Callable[[Any], Any]  # such a batch → what the loss needs, on the device of the model
Draws = tuple[Tensor, ...]  # the random numbers of a loss, one row for each sample


@dataclass
class Job:
    """A stage whose loss is a mean over the samples of a batch."""

    model: nn.Module
    draw: Draw
    see: See
    draws: Callable[[Any, int, torch.Generator], Draws]  # (model, n, generator) → random numbers
    loss_at: Callable[[Any, Any, Draws], Tensor]  # (model, batch, random numbers) → scalar
    sheet: Callable[[nn.Module], Tensor] | None = None  # → pictures (N, 3, S, S) that show progress
    kept: Callable[[nn.Module], nn.Module] = whole  # model → the part that is kept
    recordable: bool = True  # as a CUDA graph

    def data(self, n: int, generator: torch.Generator) -> Any:
        """A batch of n samples."""
        return self.see(self.draw(n, generator, ALL_ROWS))

    def loss(self, model: nn.Module, batch: Any, generator: torch.Generator) -> Tensor:
        """The loss with fresh random numbers."""
        device = next(model.parameters()).device
        draws = self.draws(model, count(batch), generator)
        return self.loss_at(model, batch, tuple(draw.to(device) for draw in draws))


@dataclass
class ContrastiveJob:
    """A stage whose loss compares all embeddings of a batch with each other. It draws no numbers.

    The loss of a batch is compare(model, *embed(model, batch)). `embed` treats each sample on its
    own, so it can run on parts of a batch. `compare` needs all of them.
    """

    model: nn.Module
    draw: Draw
    see: See
    embed: Callable[[Any, Any], tuple[Tensor, ...]]  # (model, batch) → tensors (n, …)
    compare: Callable[..., Tensor]  # (model, *those tensors) → scalar
    sheet: Callable[[nn.Module], Tensor] | None = None
    kept: Callable[[nn.Module], nn.Module] = whole
    recordable: bool = True

    def data(self, n: int, generator: torch.Generator) -> Any:
        """A batch of n samples."""
        return self.see(self.draw(n, generator, ALL_ROWS))

    def draws(self, model: nn.Module, n: int, generator: torch.Generator) -> Draws:
        return ()

    def loss_at(self, model: nn.Module, batch: Any, draws: Draws) -> Tensor:
        return self.compare(model, *self.embed(model, batch))

    def loss(self, model: nn.Module, batch: Any, generator: torch.Generator) -> Tensor:
        return self.loss_at(model, batch, ())


AnyJob = Job | ContrastiveJob


def count(batch: Any) -> int:
    """The number of samples in a batch: a tensor, a list, or a tuple or dict of these."""
    while isinstance(batch, tuple | dict):
        batch = next(iter(batch.values() if isinstance(batch, dict) else batch))
    return len(batch)


def rows_of(batch: Any, rows: slice) -> Any:
    """Some rows of a batch."""
    if isinstance(batch, tuple):
        return tuple(rows_of(part, rows) for part in batch)
    if isinstance(batch, dict):
        return {name: rows_of(part, rows) for name, part in batch.items()}
    return batch[rows]


def onto(device: torch.device) -> See:
    """Moves the tensors of a batch to the device."""
    return lambda batch: tuple(part.to(device) for part in batch)
