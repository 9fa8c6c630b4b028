"""Pairs of two-dimensional embeddings on the unit circle. CLIP's loss pulls each pair together."""

import math

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from torch import Tensor

from minidalle2.teaching.plots import CYCLE, MUTED, numbers


def pair_figure(z_i: Tensor, z_t: Tensor, title: str = "") -> Figure:
    """Draws image embeddings as dots, text embeddings as squares, and a line between each pair.

    z_i and z_t are (N, 2) of unit length. Row k of both is one pair.
    """
    figure, axes = plt.subplots(figsize=(3.6, 3.8))
    circle = [2 * math.pi * k / 200 for k in range(201)]
    x, y = [math.cos(a) for a in circle], [math.sin(a) for a in circle]
    axes.plot(x, y, color="#dddddd", zorder=0)
    for k, (image, text) in enumerate(zip(numbers(z_i), numbers(z_t), strict=True)):
        colour = CYCLE[k % len(CYCLE)]
        axes.plot(*zip(image, text, strict=True), color=MUTED, linewidth=0.8, zorder=1)
        axes.scatter(*image, color=colour, marker="o", s=60, zorder=2)
        axes.scatter(*text, color=colour, marker="s", s=40, edgecolors="black", zorder=2)
    axes.set(title=title, xlim=(-1.2, 1.2), ylim=(-1.2, 1.2), aspect="equal")
    axes.axis("off")
    return figure
