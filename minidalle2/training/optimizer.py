"""The optimizers: Muon for the matrices of hidden layers, AdamW for all other parameters.

Muon (Jordan et al. 2024) replaces the momentum of a matrix by the nearest orthogonal matrix, so
that all directions are learned equally fast. It is implemented here, because torch has it only
since version 2.9 and only for two-dimensional weights. The weight of a convolution is treated as a
matrix (out, in · kernel).
"""

from collections import defaultdict

import torch
from torch import Tensor, nn


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised. Its updates have the same root mean square as AdamW's."""

    def __init__(
        self,
        params: list[nn.Parameter],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
    ):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if not params:
                continue
            by_shape = defaultdict(list)
            for p, update in zip(
                params, self._with_momentum(params, group["momentum"]), strict=True
            ):
                by_shape[update.shape].append((p, update))
            # One call for a list of tensors, here and below, because every call costs time on a
            # GPU.
            torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
            for shape, pairs in by_shape.items():
                equal, updates = zip(*pairs, strict=True)
                # Matrices of equal shape are orthogonalised as one batch: fewer, larger products.
                # With the scale 0.2 √max(m, n), AdamW's learning rate and decay can be used.
                scale = 0.2 * max(shape) ** 0.5 * group["lr"]
                steps = (-scale * orthogonalise(torch.stack(updates))).unbind()
                steps = [step.view_as(p) for p, step in zip(equal, steps, strict=True)]
                torch._foreach_add_(equal, steps)

    def _with_momentum(self, params: list[nn.Parameter], momentum: float) -> list[Tensor]:
        """Updates by Nesterov momentum as matrices (out, in · kernel).

        An update lies between the gradient and the moving average of the gradients.
        """
        for p in params:
            if not self.state[p]:
                self.state[p]["momentum"] = torch.zeros_like(p)
        gradients = [p.grad for p in params]
        averages = [self.state[p]["momentum"] for p in params]
        torch._foreach_lerp_(averages, gradients, 1 - momentum)
        return [u.flatten(1) for u in torch._foreach_lerp(gradients, averages, momentum)]


def orthogonalise(matrices: Tensor) -> Tensor:
    """Matrices (…, m, n) → approximately UVᵀ of their singular value decomposition USVᵀ.

    Uses five steps of the Newton-Schulz iteration with a polynomial of degree five and Jordan's
    coefficients. The polynomial is steep at 0, so that five steps are enough. The singular values
    of the result are near 1, but not exactly 1. Each step multiplies x from the left by a
    polynomial of its Gram matrix xxᵀ, and the polynomials of all steps commute. So all steps are
    computed with Gram matrices, and the long matrix x takes part in two products instead of ten.
    Computed in float32, because bfloat16 would round small eigenvalues to negative numbers.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrices.float().reshape(-1, *matrices.shape[-2:])
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    gram = x @ x.mT
    identity = torch.eye(gram.shape[-1], device=x.device).expand_as(gram)
    product = identity
    for _ in range(5):
        step = a * identity + torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        product, gram = step @ product, step @ gram @ step
    x = product @ x
    return (x.mT if tall else x).reshape(matrices.shape).to(matrices.dtype)


def build_optimizers(
    model: nn.Module, learning_rate: float, weight_decay: float
) -> list[torch.optim.Optimizer]:
    """[Muon, AdamW] for the parameters that are trained. Muon gets the weights of linear layers and
    convolutions, AdamW all others.

    On a GPU the learning rate is a tensor, so that it can change in a recorded step
    (scale/graph.py).
    """
    embeddings = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    params = [p for p in model.parameters() if p.requires_grad]
    hidden = {
        id(m.weight) for m in model.modules() if isinstance(m, nn.Linear | nn.Conv2d)
    } - embeddings
    matrices = [p for p in params if id(p) in hidden]
    rest = [p for p in params if id(p) not in hidden]
    on_gpu = params[0].is_cuda
    rate = torch.tensor(learning_rate, device=params[0].device) if on_gpu else learning_rate
    return [
        Muon(matrices, lr=rate, weight_decay=weight_decay),
        torch.optim.AdamW(rest, lr=rate, weight_decay=0.0, betas=(0.9, 0.98), capturable=on_gpu),
    ]


class Update:
    """One step of all optimizers with the current gradients of the parameters."""

    def __init__(self, optimizers: list[torch.optim.Optimizer], clip_norm: float):
        self.optimizers, self.clip_norm = optimizers, clip_norm
        groups = [group for optimizer in optimizers for group in optimizer.param_groups]
        self.params = [p for group in groups for p in group["params"]]

    def __call__(self, rate: float) -> Tensor:
        """Makes one step. Returns the norm of the gradient before it is clipped to `clip_norm`."""
        self.set(rate)
        return self.step()

    def set(self, rate: float) -> None:
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                if isinstance(group["lr"], Tensor):
                    group["lr"].fill_(rate)
                else:
                    group["lr"] = rate

    def step(self) -> Tensor:
        norm = nn.utils.clip_grad_norm_(self.params, self.clip_norm)
        for optimizer in self.optimizers:
            optimizer.step()
        return norm
