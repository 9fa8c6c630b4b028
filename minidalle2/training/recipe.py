"""How one stage is trained: number of steps, batch size, learning rate and the rest."""

import math
from dataclasses import dataclass


@dataclass
class Recipe:
    steps: int
    batch_size: int
    learning_rate: float = 4e-3  # peak, after the warm-up; then a cosine decay to zero
    restarts: tuple[int, ...] = ()  # at these steps the rate starts again, at half its last peak
    warmup_steps: int = 100
    weight_decay: float = 0.01
    ema_decay: float = 0.998
    clip_norm: float = 1.0  # gradients with a larger global norm are scaled down to this norm
    seed: int = 0
    minutes: float | None = None  # if given, the first steps are timed and determine `steps`


def learning_rate(step: int, total: int, recipe: Recipe) -> float:
    """Linear warm-up, then a cosine decay to zero at the last step or at the next restart.

    With restarts a finished training can continue as if it had been planned to be longer
    (Loshchilov & Hutter 2017, SGDR).
    """
    bounds = (0, *recipe.restarts, total)
    cycle = sum(step >= restart for restart in recipe.restarts)
    begin, end = bounds[cycle], bounds[cycle + 1]
    warm = min(1.0, (step - begin + 1) / recipe.warmup_steps)
    cosine = (1 + math.cos(math.pi * (step - begin) / (end - begin))) / 2
    return recipe.learning_rate * 0.5**cycle * warm * cosine
