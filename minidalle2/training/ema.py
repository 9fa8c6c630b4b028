"""Exponential moving average of the weights: what pictures are drawn with."""

import copy

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class EMA:
    """Keeps `model`, the average. With few steps behind it the memory is short, else the random
    initial weights would stay: 0.9999²⁰⁰⁰ = 0.82 of them after 2,000 steps."""

    def __init__(self, model: nn.Module, decay: float):
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Call after optimiser step number `step`, counted from 0."""
        decay = min(self.decay, (1 + step) / (10 + step))
        averages, currents = list(self.model.parameters()), list(model.parameters())
        get_ema_multi_avg_fn(decay)(averages, currents, step)  # in one go: a GPU waits on each call
        for average, current in zip(self.model.buffers(), model.buffers(), strict=True):
            average.copy_(current)
