"""A chart of a running training: its loss, the expected band, and pictures of the model so far."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from IPython.display import display
from matplotlib.figure import Figure
from torch import Tensor

from minidalle2.storage.pictures import to_pillow, to_uint8
from minidalle2.teaching.bands import expected_band
from minidalle2.teaching.plots import MUTED, PALETTE, WIDTH, log_ticks

SECONDS_BETWEEN_DRAWINGS = 3
SHEETS = 4  # how many times a training draws pictures
SMOOTHING = 20  # number of steps in a stretch; the curve shows the mean of each stretch
LOOK_BACK = 5  # the last stretches of the band whose maximum counts; a single one varies too much
TOLERANCE = 1.3  # factor of that maximum, because machines and versions differ


class LossChart:
    """Draws the loss of a training while it runs.

    Use it as `with LossChart("prior", steps) as chart:` and call `chart.add(loss)` after each step.
    `sheet()` returns one picture (3, H, W) that shows what the model can draw so far. The chart
    redraws itself every few seconds. Its last state remains in the notebook.
    """

    def __init__(self, name: str, steps: int, sheet: Callable[[], Tensor] | None = None):
        self.name, self.steps, self.sheet = name, steps, sheet
        self.losses: list[float] = []
        self.sheets: list[tuple[int, Tensor]] = []
        self.band = expected_band(name)

    def __enter__(self) -> "LossChart":
        self.handle = display(display_id=True)
        self.drawn_at = time.monotonic()
        return self

    def __exit__(self, kind: type | None, *error) -> None:
        if self.losses:
            self.redraw()
        folder = os.environ.get("MINIDALLE2_RECORD")
        if kind is None and folder:  # bands.py computes the bands from these records
            path = Path(folder) / f"{self.name}.jsonl"
            with path.open("a") as file:
                file.write(json.dumps(self.smooth()) + "\n")

    def add(self, loss: Tensor | float) -> None:
        """Adds the loss of the next step."""
        self.losses.append(torch.as_tensor(loss).item())
        step = len(self.losses)
        if self.sheet and step * SHEETS // self.steps > (step - 1) * SHEETS // self.steps:
            self.sheets.append((step, self.sheet()))
        if time.monotonic() - self.drawn_at > SECONDS_BETWEEN_DRAWINGS:
            self.redraw()
            self.drawn_at = time.monotonic()

    def smooth(self) -> list[float]:
        """Returns the mean loss of each stretch of SMOOTHING steps. The last may be shorter."""
        parts = [self.losses[i : i + SMOOTHING] for i in range(0, len(self.losses), SMOOTHING)]
        return [sum(part) / len(part) for part in parts]

    def is_normal(self) -> bool:
        """Whether the last full stretch lies in the band or below it.

        The limit is TOLERANCE times the highest upper edge of the band in the last LOOK_BACK
        stretches. After the end of the band, its last edge counts. Returns True if the training
        has no band or no full stretch.
        """
        full = len(self.losses) // SMOOTHING
        if not self.band or not full:
            return True
        edge = max(self.band.high[max(0, full - LOOK_BACK) : full] or self.band.high[-1:])
        return self.smooth()[full - 1] <= TOLERANCE * edge

    def redraw(self) -> None:
        """Replaces the chart in the notebook by the current one."""
        figure = self.figure()
        if self.handle:  # None outside a notebook
            self.handle.update(figure)
        plt.close(figure)

    def figure(self) -> Figure:
        """Returns the loss curve with its band and, if there is one, the latest picture."""
        panels = 1 + bool(self.sheets)
        figure, grid = plt.subplots(
            1,
            panels,
            figsize=(WIDTH, 3.2),
            squeeze=False,
            layout="constrained",
            width_ratios=[1.1, 1][:panels],
        )
        self._curve(grid[0, 0])
        if self.sheets:
            step, picture = self.sheets[-1]
            grid[0, 1].imshow(to_pillow(to_uint8(picture.detach().cpu())))
            grid[0, 1].set_title(f"drawn after step {step}")
            grid[0, 1].axis("off")
        return figure

    def _curve(self, axes: plt.Axes) -> None:
        means = self.smooth()
        ends = [min((i + 1) * SMOOTHING, len(self.losses)) for i in range(len(means))]
        if self.band:
            shown = [s for s in self.band.steps if s <= self.steps]
            axes.fill_between(
                shown,
                self.band.low[: len(shown)],
                self.band.high[: len(shown)],
                color=PALETTE["sky"],
                alpha=0.35,
                linewidth=0,
                label="where it should be",
            )
        axes.plot(ends, means, color=PALETTE["blue"], label="your loss")
        if max(means) > 5 * min(means) > 0:
            log_ticks(axes)
        axes.set(title=f"{self.name}: loss", xlabel="step", ylabel="loss", xlim=(0, self.steps))
        axes.legend(labelcolor=MUTED)
