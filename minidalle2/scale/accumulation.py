"""Losses for parts of a batch: the rows of one process, and several smaller passes of each.

A mean over samples is the mean of its parts' means. The random numbers are drawn for the whole
batch, and each part uses its own rows of them. So the result does not depend on the division.
The judges' losses are means over the questions asked. Their parts have equal weight, so for them
the result is only nearly the same.

CLIP's loss is not a mean over samples, because each picture is compared with all texts. Its parts
are embedded twice (GradCache; Gao et al. 2021): first without keeping activations, for the loss
and the gradient of every embedding; then again, to pass these gradients on to the towers.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from minidalle2.scale.distributed import equal_parts, gather, own_rows, processes
from minidalle2.training.gradients import add, gradients_of, trained, with_gradients
from minidalle2.training.jobs import AnyJob, ContrastiveJob, Draws, count, rows_of
from minidalle2.training.loop import Loss

DrawsOf = Callable[[Any, int, torch.Generator], Draws]
LossAt = Callable[[Any, Any, Draws], Tensor]


def loss_in_parts(job: AnyJob, parts: int = 1) -> Loss:
    """The loss of this process's rows of a batch, computed in `parts` passes.

    The loss raises ValueError for a batch that cannot be divided into equal parts.
    """
    if isinstance(job, ContrastiveJob):
        return contrasted(job.embed, job.compare, parts)
    return accumulated(job.draws, job.loss_at, parts)


def own_draws(draws: DrawsOf, model: nn.Module, batch: Any, generator: torch.Generator) -> Draws:
    """The random numbers of this process's rows, on the device of the model."""
    whole = count(batch) * processes()
    device = next(model.parameters()).device
    mine = rows_of(draws(model, whole, generator), own_rows(whole))
    return tuple(draw.to(device) for draw in mine)


def accumulated(draws: DrawsOf, loss_at: LossAt, parts: int) -> Loss:
    """A mean over samples."""

    def in_one(model: nn.Module, batch: Any, generator: torch.Generator) -> Tensor:
        return loss_at(model, batch, own_draws(draws, model, batch, generator))

    def in_parts(model: nn.Module, batch: Any, generator: torch.Generator) -> Tensor:
        parameters = trained(model)
        total, sums = torch.zeros((), device=parameters[0].device), [None] * len(parameters)
        drawn = own_draws(draws, model, batch, generator)
        for rows in equal_parts(count(batch), parts):
            value = loss_at(model, rows_of(batch, rows), rows_of(drawn, rows)) / parts
            sums = add(sums, gradients_of(value, parameters))
            total += value.detach()
        return with_gradients(total, sums, parameters)

    return in_parts if parts > 1 else in_one


def contrasted(
    embed: Callable[[Any, Any], tuple[Tensor, ...]], compare: Callable[..., Tensor], parts: int
) -> Loss:
    """A loss that compares all rows of all processes with each other."""

    def compare_all(model: nn.Module, embedded: list[Tensor]) -> Tensor:
        return compare(model, *map(gather, embedded))

    def in_one(model: nn.Module, batch: Any, generator: torch.Generator) -> Tensor:
        return compare_all(model, list(embed(model, batch)))

    def in_parts(model: nn.Module, batch: Any, generator: torch.Generator) -> Tensor:
        pieces = [rows_of(batch, rows) for rows in equal_parts(count(batch), parts)]
        embedded, trains = embed_without_gradient(model, embed, pieces)
        value = compare_all(model, embedded)
        parameters = trained(model)
        inputs = [z for z, is_trained in zip(embedded, trains, strict=True) if is_trained]
        gradients = gradients_of(value, (*inputs, *parameters))
        # `compare` itself uses some parameters, such as CLIP's temperature.
        upstream, sums = gradients[: len(inputs)], gradients[len(inputs) :]
        for piece, *of_outputs in zip(pieces, *(z.chunk(parts) for z in upstream), strict=True):
            outputs = [z for z, t in zip(embed(model, piece), trains, strict=True) if t]
            sums = add(sums, gradients_of(outputs, parameters, of_outputs))
        return with_gradients(value.detach(), sums, parameters)

    return in_parts if parts > 1 else in_one


def embed_without_gradient(
    model: nn.Module, embed: Callable, pieces: list
) -> tuple[list[Tensor], list[bool]]:
    """→ the embeddings of all pieces, as new inputs of a graph, and which of them are trained.

    The first row is also embedded with gradients, to see which outputs depend on trained weights.
    Tokens and the embeddings of locked towers do not.
    """
    trains = [z.requires_grad for z in embed(model, rows_of(pieces[0], slice(0, 1)))]
    with torch.no_grad():
        parts = [embed(model, piece) for piece in pieces]
    joined = [torch.cat(z) for z in zip(*parts, strict=True)]
    return [z.requires_grad_() if t else z for z, t in zip(joined, trains, strict=True)], trains
