"""The paper's probes by name, as `evaluate --what` takes them: experiments on trained weights."""

from collections.abc import Iterator
from pathlib import Path

from minidalle2.dalle2 import DALLE2
from minidalle2.evaluation.shapes.binding import binding_rows
from minidalle2.evaluation.shapes.guidance_sweep import guidance_rows
from minidalle2.evaluation.shapes.judge import Judge
from minidalle2.evaluation.shapes.pca_reconstruction import pca_rows
from minidalle2.evaluation.shapes.three_rows import three_rows
from minidalle2.evaluation.shapes.typographic_attack import attack_rows
from minidalle2.evaluation.shapes.written_words import written_rows
from minidalle2.glide import load_twin

ALONE = {"rows": three_rows, "pca": pca_rows, "attack": attack_rows}
COMPARED = {"binding": binding_rows, "words": written_rows, "guidance": guidance_rows}
PROBES = (*ALONE, *COMPARED)


def probe_rows(
    folder: Path, dalle2: DALLE2, judge: Judge, what: list[str], n: int, seed: int
) -> Iterator[dict]:
    """Rows of every probe in `what`, of n prompts, pictures or pairs each. Raises CheckpointError
    before the first where a comparison lacks the GLIDE twin."""
    twin = load_twin(folder, dalle2) if set(what) & set(COMPARED) else None
    for name in what:
        if name in ALONE:
            yield from ALONE[name](dalle2, judge, n, seed)
        elif name in COMPARED:
            yield from COMPARED[name](dalle2, judge, twin, n, seed)
