"""Runs → a table and a plot: medians with the range of the runs."""

from pathlib import Path
from statistics import median

LESS_IS_BETTER = ("s/picture", "peak memory, MB", "import, s", "installed, MB", "lines to read")
NO_CONTEST = ("parameters", "steps")
GOALS = (  # (row, number, peer, how many times better we want to be)
    ("decoder", "trained images/s", "dalle2-pytorch", 10),
    ("text to 128 px", "s/picture", "dalle2-pytorch", 20),
)
NOTES = """\
- Everybody has the same Python, torch, threads, allocator, batches, batch size and seconds,
  bfloat16 autocast where bfloat16 is faster, a warm-up, a cosine to zero and an average
  of weights. Ours trains with Muon and AdamW at 4e-3, the peers with AdamW, as they do themselves,
  at 1e-3, above their defaults.
- dalle2-pytorch refuses embeddings as wide as its conditions (128), so those are 96 wide; it
  predicts v, without a learned variance. open_clip reads texts padded to its context length only.
- diffusers has no training code: its losses here are a few lines. Its prior and U-Net and
  dalle2-pytorch's read the caption as features of the frozen CLIP; our decoder trains its own
  reader.
- torchvision has no CPU build for this torch; an empty one stands in for the peers' imports.
"""


def write_report(result: dict, folder: Path) -> None:
    (folder / "benchmarks.md").write_text(table(result), encoding="utf-8")
    plot(result, folder / "benchmarks.png")


def values(result: dict, row: str) -> dict[str, dict[str, list[float]]]:
    """→ {number: {who: a value for each round}}, in the order they were measured."""
    found: dict[str, dict[str, list[float]]] = {}
    for run in result["runs"]:
        if run["row"] == row:
            for name, value in run.get("numbers", {}).items():
                found.setdefault(name, {}).setdefault(run["who"], []).append(value)
    return found


def table(result: dict) -> str:
    rounds, seconds = result["rounds"], result["seconds"]
    lines = [
        "# Beside its peers",
        "",
        f"`python -m tests.benchmarks --seconds {seconds:g} --rounds {rounds}`, on "
        f"{result['hardware']}: {seconds:g} seconds of each training; medians of {rounds} runs in "
        f"turn, in brackets their range, which covers the true median in "
        f"{1 - 0.5 ** (rounds - 1):.0%} of cases. Times is how much better ours is than a peer; "
        "below 1 the peer is ahead.",
        "",
        "![the same as bars](benchmarks.png)",
        "",
    ]
    for row in dict.fromkeys(run["row"] for run in result["runs"]):
        lines += [f"## {row}", "", "| | who | median | range | times |", "|---|---|---|---|---|"]
        for name, by_who in values(result, row).items():
            lines += [line(name, who, v, by_who) for who, v in by_who.items()]
        failed = [run for run in result["runs"] if run["row"] == row and "failed" in run]
        lines += ["", *(f"{run['who']} failed: {run['failed']}" for run in failed), ""]
    return "\n".join([*lines, "## Goals", "", *goals(result), "", "## How", "", NOTES])


def line(name: str, who: str, found: list[float], by_who: dict[str, list[float]]) -> str:
    times = ""
    if who != "minidalle2" and "minidalle2" in by_who and name not in NO_CONTEST:
        times = f"{ratio(name, by_who['minidalle2'], found):.3g}"
    shown = f"{short(median(found))} | [{short(min(found))}, {short(max(found))}]"
    return f"| {name} | {who} | {shown} | {times} |"


def ratio(name: str, ours: list[float], theirs: list[float]) -> float:
    better, worse = (theirs, ours) if name in LESS_IS_BETTER else (ours, theirs)
    below = median(worse)
    return median(better) / below if below else float("inf")


def short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def goals(result: dict) -> list[str]:
    """A line a goal whose numbers are there."""
    said = []
    for row, name, peer, wanted in GOALS:
        by_who = values(result, row).get(name, {})
        if {"minidalle2", peer} <= by_who.keys():
            times = ratio(name, by_who["minidalle2"], by_who[peer])
            verdict = "reached" if times >= wanted else "missed"
            said.append(f"- {row}, {name}: {times:.3g} times {peer}; to reach {wanted}: {verdict}")
    for name, by_who in values(result, "machine").items():
        if "share" in name:
            share = median(by_who["minidalle2"])
            verdict = "reached" if share >= 50 else "missed"
            said.append(f"- {name}: {share:.3g}; to reach 50: {verdict}")
    return said


def plot(result: dict, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    panels = [
        (f"{row}: {name}", by_who)
        for row in dict.fromkeys(run["row"] for run in result["runs"])
        for name, by_who in values(result, row).items()
        if name not in NO_CONTEST and len(by_who) > 1
    ]
    if not panels:
        return
    rows = -(-len(panels) // 3)
    figure, axes = plt.subplots(rows, 3, figsize=(13, 1.7 * rows), squeeze=False)
    for ax in axes.flat[len(panels) :]:
        ax.axis("off")
    for ax, (title, by_who) in zip(axes.flat, panels, strict=False):
        middle = [median(v) for v in by_who.values()]
        spread = [
            [m - min(v) for m, v in zip(middle, by_who.values(), strict=True)],
            [max(v) - m for m, v in zip(middle, by_who.values(), strict=True)],
        ]
        colours = ["tab:blue" if who == "minidalle2" else "lightgray" for who in by_who]
        ax.barh(list(by_who), middle, xerr=spread, color=colours)
        ax.invert_yaxis()
        ax.set_title(title, fontsize=9)
        ax.tick_params(labelsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
