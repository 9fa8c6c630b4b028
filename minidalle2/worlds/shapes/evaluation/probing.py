"""The paper's probes by their names in `evaluate --what`: experiments on trained weights."""

from collections.abc import Iterator
from pathlib import Path

from minidalle2.dalle2 import DALLE2
from minidalle2.training.glide import load_glide
from minidalle2.worlds.shapes.evaluation.binding import binding_rows
from minidalle2.worlds.shapes.evaluation.guidance_sweep import guidance_rows
from minidalle2.worlds.shapes.evaluation.pca_reconstruction import pca_rows
from minidalle2.worlds.shapes.evaluation.three_rows import three_rows
from minidalle2.worlds.shapes.evaluation.typographic_attack import attack_rows
from minidalle2.worlds.shapes.evaluation.written_words import written_rows
from minidalle2.worlds.shapes.judge import Judge

ALONE = {"rows": three_rows, "pca": pca_rows, "attack": attack_rows}
COMPARED = {"binding": binding_rows, "words": written_rows, "guidance": guidance_rows}
PROBES = (*ALONE, *COMPARED)


def probe_rows(
    folder: Path, dalle2: DALLE2, judge: Judge, what: list[str], n: int, seed: int
) -> Iterator[dict]:
    """Rows of every probe in `what`, on n prompts, pictures or pairs each.

    Raises CheckpointError, before any row, if a comparison needs GLIDE and `folder` has none.
    """
    twin = load_glide(folder, dalle2) if set(what) & set(COMPARED) else None
    for name in what:
        if name in ALONE:
            yield from ALONE[name](dalle2, judge, n, seed)
        elif name in COMPARED:
            yield from COMPARED[name](dalle2, judge, twin, n, seed)
