"""The map of the data path with "you are here", the same in every notebook."""

import matplotlib.pyplot as plt
from matplotlib.patches import FancyBboxPatch

from minidalle2.teaching.plots import INK, MUTED, PALETTE, WIDTH

# What flows, its shape, and the stage that makes the next from it.
PATH = (
    ("text", "a prompt", "tokenizer"),
    ("tokens", "(B, T)", "CLIP"),
    ("text\nembedding", "z_t (B, E)", "prior"),
    ("image\nembedding", "z_i (B, E)", "decoder"),
    ("picture", "32 px", "upsamplers"),
    ("picture", "128 px", ""),
)
STAGES = tuple(stage for _, _, stage in PATH if stage)
DATA = ("text", "picture")  # the ends of the path: what training has, and all else is made from


def data_path(*here: str) -> None:
    """Draw the path with the stages of `here` lit; without any, all of them are. "data" points at
    both ends.

    Raises ValueError for an unknown stage.
    """
    unknown = [stage for stage in here if stage not in (*STAGES, "data")]
    if unknown:
        names = ", ".join((*STAGES, "data"))
        raise ValueError(f"no stage {unknown[0]!r} on the path; there are {names}")
    figure = plt.figure(figsize=(WIDTH, 1.8 if "data" in here else 1.7))
    axes = figure.add_axes((0, 0, 1, 1))
    for i, (noun, shape, stage) in enumerate(PATH):
        pointed = "data" in here and noun in DATA
        axes.text(i, 0.12, noun, ha="center", va="center", fontsize=10, color=INK)
        if pointed:
            axes.text(i, -0.8, "you are here", ha="center", fontsize=8, color=PALETTE["red"])
        axes.text(i, -0.42, shape, ha="center", va="center", fontsize=8, color=MUTED)
        if stage:
            _stage(axes, i + 0.5, stage, lit=not here or stage in here, pointed=stage in here)
    axes.set(xlim=(-0.45, len(PATH) - 0.55), ylim=(-0.9 if "data" in here else -0.7, 1.35))
    axes.axis("off")
    plt.show()


def _stage(axes: plt.Axes, x: float, name: str, lit: bool, pointed: bool) -> None:
    """An arrow along the path with the stage's name above it."""
    colour = PALETTE["blue"] if lit else "#c8c8c8"
    axes.annotate(
        "", (x + 0.18, 0.1), (x - 0.18, 0.1),
        arrowprops={"arrowstyle": "-|>", "color": colour, "linewidth": 1.5},
    )  # fmt: skip
    box = FancyBboxPatch(
        (x - 0.36, 0.5), 0.72, 0.36, boxstyle="round,pad=0.04",
        facecolor=colour if lit else "white", edgecolor=colour,
    )  # fmt: skip
    axes.add_patch(box)
    ink = "white" if lit else "#8a8a8a"
    axes.text(x, 0.68, name, ha="center", va="center", fontsize=9, color=ink)
    if pointed:
        axes.text(x, 1.14, "you are here", ha="center", fontsize=8, color=PALETTE["red"])
