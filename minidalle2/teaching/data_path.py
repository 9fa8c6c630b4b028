"""The diagram of the data path with "you are here", the same in every notebook."""

import matplotlib.pyplot as plt
from matplotlib.patches import FancyBboxPatch

from minidalle2.teaching.plots import INK, MUTED, PALETTE, WIDTH

# (name of the data, its shape, the stage that computes the next data from it)
PATH = (
    ("text", "a prompt", "tokenizer"),
    ("tokens", "(B, T)", "CLIP"),
    ("text\nembedding", "z_t (B, E)", "prior"),
    ("image\nembedding", "z_i (B, E)", "decoder"),
    ("picture", "32 px", "upsamplers"),
    ("picture", "128 px", ""),
)
STAGES = tuple(stage for _, _, stage in PATH if stage)
DATA = ("text", "picture")  # both ends of the path: the training data


def data_path(*here: str) -> None:
    """Draws the path and highlights the stages `here`. Without arguments, it highlights all stages.

    "data" marks the prompt and both pictures, which are the training data. Raises ValueError for an
    unknown stage.
    """
    unknown = [stage for stage in here if stage not in (*STAGES, "data")]
    if unknown:
        names = ", ".join((*STAGES, "data"))
        raise ValueError(f"unknown stage {unknown[0]!r}; the stages are {names}")
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
    """Draws an arrow along the path, and above it a box with the name of the stage."""
    colour = PALETTE["blue"] if lit else "#c8c8c8"
    axes.annotate(
        "",
        (x + 0.18, 0.1),
        (x - 0.18, 0.1),
        arrowprops={"arrowstyle": "-|>", "color": colour, "linewidth": 1.5},
    )
    box = FancyBboxPatch(
        (x - 0.36, 0.5),
        0.72,
        0.36,
        boxstyle="round,pad=0.04",
        facecolor=colour if lit else "white",
        edgecolor=colour,
    )
    axes.add_patch(box)
    ink = "white" if lit else "#8a8a8a"
    axes.text(x, 0.68, name, ha="center", va="center", fontsize=9, color=ink)
    if pointed:
        axes.text(x, 1.14, "you are here", ha="center", fontsize=8, color=PALETTE["red"])
