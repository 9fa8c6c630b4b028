"""Curves, clouds of points, bars and matrices. Each is one call, with a title and labelled axes.

The colours can be told apart with any colour vision.
"""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator
from torch import Tensor

from minidalle2.worlds.shapes.drawing import COLOUR_RGB
from minidalle2.worlds.shapes.scenes import COLOURS

# The colours of Okabe & Ito, which are distinct for any colour vision. Markers differ, too.
PALETTE = {
    "blue": "#0072B2",
    "orange": "#E69F00",
    "green": "#009E73",
    "red": "#D55E00",
    "pink": "#CC79A7",
    "sky": "#56B4E9",
    "black": "#000000",
    "yellow": "#B8A800",
}
CYCLE = tuple(PALETTE.values())
MARKERS = "os^vDPX*"
WORN = dict(zip(COLOURS, COLOUR_RGB.tolist(), strict=True))  # points named "red" are red
INK, MUTED = "#222222", "#666666"
WIDTH = 9.0  # of a figure in inches; at 80 dots per inch the width of GitHub's column
STYLE = {
    "figure.dpi": 80,
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "legend.frameon": False,
    "image.cmap": "cividis",
    "image.interpolation": "nearest",
}
plt.rcParams.update(STYLE)


def numbers(values: Tensor | Sequence[float]) -> list:
    """Converts a tensor on any device, or a sequence, to a list of Python numbers."""
    return torch.as_tensor(values).detach().float().cpu().tolist()


def colour_of(name: str, k: int) -> str | list[float]:
    """Returns the colour called `name` if the shapes world has it, else the k-th of CYCLE."""
    return WORN.get(name, CYCLE[k % len(CYCLE)])


def log_ticks(axes: plt.Axes) -> None:
    """Makes the y axis logarithmic, with plain numbers at 1, 2 and 5 times each power of 10."""
    axes.set_yscale("log")
    axes.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("{x:g}")


def plot_lines(lines: Mapping[str, tuple], title: str, x: str, y: str, log_y: bool = False) -> None:
    """Draws curves {name: (xs, ys)} in one frame. Short curves also get markers."""
    figure, axes = plt.subplots(figsize=(WIDTH, 3))
    styles = ("-", "--", "-.", ":")
    for i, (name, (xs, ys)) in enumerate(lines.items()):
        axes.plot(
            numbers(xs),
            numbers(ys),
            styles[i % 4],
            color=CYCLE[i % len(CYCLE)],
            label=name,
            marker=MARKERS[i] if len(xs) <= 20 else None,
        )
    axes.set(title=title, xlabel=x, ylabel=y)
    if log_y:
        log_ticks(axes)
    if len(lines) > 1:
        axes.legend()
    plt.show()


def plot_clouds(
    panels: Mapping[str, Tensor | Mapping[str, Tensor]],
    limit: float | None = None,
    title: str = "",
    axis_names: tuple[str, str] = ("", ""),
    aspect: str = "equal",
) -> None:
    """Draws clouds of points (N, 2), one panel for each name, with up to four panels in a row.

    A panel is one cloud, or several clouds by name. Every axis runs from -limit to limit, if given.
    """
    columns = min(4, len(panels))
    rows, side = -(-len(panels) // columns), WIDTH / max(columns, 2)
    names = max(len(c) if isinstance(c, Mapping) else 0 for c in panels.values())
    height = rows * (side + 0.22 * -(-names // 4))
    figure, grid = plt.subplots(
        rows, columns, figsize=(side * columns, height), squeeze=False, layout="constrained"
    )
    for axes in grid.flat[len(panels) :]:
        axes.axis("off")
    for axes, (name, clouds) in zip(grid.flat, panels.items(), strict=False):
        _clouds(axes, clouds if isinstance(clouds, Mapping) else {"": clouds})
        axes.set(title=name, aspect=aspect, xlabel=axis_names[0], ylabel=axis_names[1])
        if limit:
            axes.set(xlim=(-limit, limit), ylim=(-limit, limit))
    figure.suptitle(title, fontsize=11)
    plt.show()


def cloud_figure(clouds: Mapping[str, Tensor], title: str, limit: float) -> Figure:
    """Returns a figure of several clouds (N, 2) by name, one frame of a film."""
    figure, axes = plt.subplots(figsize=(3.8, 4.1), layout="constrained")
    _clouds(axes, clouds)
    axes.set(title=title, aspect="equal", xlim=(-limit, limit), ylim=(-limit, limit))
    return figure


def _clouds(axes: plt.Axes, clouds: Mapping[str, Tensor]) -> None:
    """Draws several clouds in one frame. The legend is below it, where it hides no points."""
    for i, (name, points) in enumerate(clouds.items()):
        first, second = torch.as_tensor(points).detach().float().cpu().T.tolist()
        axes.scatter(
            first,
            second,
            s=12 if len(points) > 20 else 70,
            marker=MARKERS[i % len(MARKERS)],
            color=[colour_of(name, i)],
            alpha=0.7,
            linewidths=0,
            label=name,
        )
    if len(clouds) > 1:
        handles = axes.legend(
            fontsize=8,
            loc="upper center",
            bbox_to_anchor=(0.5, -0.15),
            ncols=min(4, len(clouds)),
            handletextpad=0.1,
            columnspacing=1,
        ).legend_handles
        for handle in handles:
            handle.set(sizes=[36], alpha=1)


def plot_bars(
    values: Mapping[str, float],
    title: str,
    y: str,
    intervals: Mapping[str, tuple[float, float]] | None = None,
    line: tuple[str, float] | None = None,
) -> None:
    """Draws one bar for each name, with its value above.

    `intervals` gives the (low, high) ends of error bars by name. `line` is the (label, height) of a
    horizontal line.
    """
    figure, axes = plt.subplots(figsize=(min(WIDTH, 2 + 1.1 * len(values)), 3))
    names, heights = list(values), numbers(list(values.values()))
    axes.bar(names, heights, width=0.6, color=PALETTE["blue"])
    tops = [intervals[n][1] for n in names] if intervals else heights
    for name, height, top in zip(names, heights, tops, strict=True):
        place = {"textcoords": "offset points", "xytext": (0, 4), "ha": "center", "fontsize": 9}
        axes.annotate(f"{height:.3g}", (name, max(top, height)), **place)
    if intervals:
        whiskers = [
            [max(0.0, h - intervals[n][0]) for n, h in zip(names, heights, strict=True)],
            [max(0.0, intervals[n][1] - h) for n, h in zip(names, heights, strict=True)],
        ]
        axes.errorbar(names, heights, whiskers, fmt="none", ecolor=INK, capsize=4)
    if line:
        axes.axhline(line[1], color=PALETTE["red"], linestyle="--", label=line[0])
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1))  # above the bars
    axes.set(title=title, ylabel=y)
    axes.margins(y=0.15)
    axes.tick_params(axis="x", labelsize=9)
    plt.show()


def plot_matrix(
    matrix: Tensor,
    title: str,
    rows: Sequence[str] = (),
    columns: Sequence[str] = (),
    x: str = "",
    y: str = "",
) -> None:
    """Draws a matrix (R, C) as shades. Up to 120 numbers are also written into their cells."""
    height, width = matrix.shape
    figure, axes = plt.subplots(figsize=(min(WIDTH, 3.5 + 0.45 * width), 1.2 + 0.36 * height))
    values = torch.as_tensor(matrix).detach().float().cpu()
    shown = axes.imshow(numbers(values), aspect="auto")
    figure.colorbar(shown, ax=axes, fraction=0.04)
    if height * width <= 120:
        middle = (values.max() + values.min()) / 2
        digits = 0 if torch.equal(values, values.round()) else 2
        for i in range(height):
            for j in range(width):
                ink = "white" if values[i, j] < middle else "black"
                text = f"{values[i, j]:.{digits}f}"
                axes.text(j, i, text, ha="center", va="center", fontsize=8, color=ink)
    axes.set(title=title, xlabel=x, ylabel=y)
    axes.set_xticks(range(width) if columns else [], columns, rotation=35, ha="right", fontsize=8)
    axes.set_yticks(range(height) if rows else [], rows, fontsize=8)
    plt.show()
