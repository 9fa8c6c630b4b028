"""Muon for the hidden matrices, AdamW for everything else.

Muon (Jordan et al. 2024) replaces the momentum of a matrix by the nearest orthogonal one, so that
all directions learn at the same speed. Written here because torch carries it only from 2.9 on, and
only for two-dimensional weights; a convolution is the matrix (out, in · kernel).
"""

from collections import defaultdict

import torch
from torch import Tensor, nn


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised; updates have the root mean square that AdamW's have."""

    def __init__(self, params: list[nn.Parameter], lr: float, momentum=0.95, weight_decay=0.0):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            by_shape = defaultdict(list)
            for p in group["params"]:
                if p.grad is not None:
                    by_shape[p.flatten(1).shape].append(p)
            for params in by_shape.values():
                self._step_equal_shapes(params, group)

    def _step_equal_shapes(self, params: list[nn.Parameter], group: dict) -> None:
        """Equal shapes are orthogonalised as one batch: far fewer, larger products."""
        updates = []
        for p in params:
            buffer = self.state[p].setdefault("momentum", torch.zeros_like(p))
            buffer.lerp_(p.grad, 1 - group["momentum"])
            updates.append(p.grad.lerp(buffer, group["momentum"]).flatten(1))
        for p, update in zip(params, orthogonalise(torch.stack(updates)), strict=True):
            # 0.2 √max(m, n): the scale at which AdamW's learning rate and decay carry over.
            scale = 0.2 * max(update.shape) ** 0.5
            p.mul_(1 - group["lr"] * group["weight_decay"])
            p.add_(update.view_as(p), alpha=-group["lr"] * scale)


def orthogonalise(matrices: Tensor) -> Tensor:
    """(..., m, n) → about UVᵀ of each singular value decomposition USVᵀ, by Newton-Schulz.

    The quintic's coefficients are Jordan's: steep at zero, so five steps in bfloat16 suffice; the
    singular values end near, not at, 1.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrices.bfloat16()
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(5):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.mT if tall else x).to(matrices.dtype)


def build_optimizers(
    model: nn.Module, learning_rate: float, weight_decay: float
) -> list[torch.optim.Optimizer]:
    """[Muon, AdamW] over the parameters that train; vectors, embeddings and positions get AdamW."""
    embeddings = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    params = [p for p in model.parameters() if p.requires_grad]
    hidden = {
        id(m.weight) for m in model.modules() if isinstance(m, nn.Linear | nn.Conv2d)
    } - embeddings
    matrices = [p for p in params if id(p) in hidden]
    rest = [p for p in params if id(p) not in hidden]
    return [
        Muon(matrices, lr=learning_rate, weight_decay=weight_decay),
        torch.optim.AdamW(rest, lr=learning_rate, weight_decay=0.0, betas=(0.9, 0.98)),
    ]
