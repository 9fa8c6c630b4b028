"""Exponential moving average of the weights. Pictures are drawn with the average."""

import copy

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class EMA:
    """Keeps the average as `model`.

    In the first steps the decay is smaller. Otherwise the average would contain the random initial
    weights for a long time: 0.9999²⁰⁰⁰ = 82 % of them after 2,000 steps.
    """

    def __init__(self, model: nn.Module, decay: float):
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Updates the average. Call it after step number `step` of the optimizer, from 0."""
        decay = min(self.decay, (1 + step) / (10 + step))
        averages, currents = list(self.model.parameters()), list(model.parameters())
        # One call for all parameters, because every call costs time on a GPU.
        get_ema_multi_avg_fn(decay)(averages, currents, step)
        for average, current in zip(self.model.buffers(), model.buffers(), strict=True):
            average.copy_(current)
