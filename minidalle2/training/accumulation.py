"""A batch too large for the memory, in parts: the same gradient in several smaller passes.

A mean over samples is the mean of its parts' means. CLIP's loss is none: each picture is told apart
from all texts of the batch, and small parts would make an easier task. Its parts are embedded twice
instead (GradCache; Gao et al. 2021), first without keeping anything, for the loss and the gradient
of every embedding, then each part again, to pass these gradients on into the towers.
Of the judges' losses, means over what was asked, parts weigh alike: nearly the same.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from minidalle2.clip import CLIP, contrast
from minidalle2.training.distributed import gather
from minidalle2.training.gradients import add, gradients_of, trained, with_gradients
from minidalle2.training.loop import Loss
from minidalle2.training.rows import Drawn, count, equal_parts, part

Embed = Callable[[CLIP, Any], tuple[Tensor, ...]]  # of a batch's rows, (B, E) each
Compare = Callable[..., Tensor]  # (clip, batch, *embeddings) → the loss


def accumulated(loss: Loss, parts: int) -> Loss:
    """A mean over samples, computed in so many parts. Raises ValueError where a batch can't be."""

    def in_parts(model: nn.Module, batch: Any, generator: torch.Generator) -> Tensor:
        n, state, parameters = count(batch), generator.get_state(), trained(model)
        total, sums = torch.zeros((), device=parameters[0].device), [None] * len(parameters)
        for rows in equal_parts(n, parts):
            generator.set_state(state)
            with Drawn(rows, n):
                value = loss(model, part(batch, rows), generator) / parts
            sums = add(sums, gradients_of(value, parameters))
            total += value.detach()
        return with_gradients(total, sums, parameters)

    return in_parts if parts > 1 else loss


def clip_loss_of_all(parts: int = 1) -> Loss:
    """CLIP's loss of the pairs of all processes, of which each embeds its own, in so many parts."""
    return contrasted(embed, _contrast_of_all, parts)


def contrasted(embed: Embed, compare: Compare, parts: int) -> Loss:
    """A loss that compares the embeddings of a whole batch with each other, in so many parts."""

    def whole(clip: CLIP, batch: Any, generator: torch.Generator) -> Tensor:
        return compare(clip, batch, *embed(clip, batch))

    def in_parts(clip: CLIP, batch: Any, generator: torch.Generator) -> Tensor:
        pieces = [part(batch, rows) for rows in equal_parts(count(batch), parts)]
        with torch.no_grad():
            embedded = [torch.cat(z) for z in zip(*(embed(clip, p) for p in pieces), strict=True)]
        embedded = [z.requires_grad_() for z in embedded]
        value = compare(clip, batch, *embedded)
        parameters = trained(clip)
        *upstream, scale = gradients_of(value, (*embedded, clip.log_scale))
        sums = [scale if p is clip.log_scale else None for p in parameters]
        for piece, *up in zip(pieces, *(z.chunk(parts) for z in upstream), strict=True):
            sums = add(sums, gradients_of(embed(clip, piece), parameters, up))
        return with_gradients(value.detach(), sums, parameters)

    return in_parts if parts > 1 else whole


def embed(clip: CLIP, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """→ z_i, z_t (B, E)."""
    images, tokens = batch
    return clip.encode_image(images), clip.encode_text(tokens)


def _contrast_of_all(clip: CLIP, batch: tuple[Tensor, Tensor], z_i: Tensor, z_t: Tensor) -> Tensor:
    return contrast(clip, gather(z_i), gather(z_t), gather(batch[1]))
