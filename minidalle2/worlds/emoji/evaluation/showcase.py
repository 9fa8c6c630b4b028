"""Draws the README's picture: random prompts in English and Chinese, and held-out pairs.

python -m minidalle2.worlds.emoji.evaluation.showcase docs/emoji.png
"""

import sys
from pathlib import Path

from PIL import Image

from minidalle2.dalle2 import DALLE2, WEIGHTS
from minidalle2.storage.pictures import labelled_grid
from minidalle2.worlds.emoji.evaluation.prompts import draw_rows, prompt_of, sample_rows
from minidalle2.worlds.emoji.labels import are_unlike, core_members
from minidalle2.worlds.emoji.names import drawings

COLUMNS = 8
SEED = 0


def showcase(dalle2: DALLE2, seed: int = SEED) -> Image.Image:
    """Two rows of seen pairs, one of seen pairs in Chinese, and one of held-out pairs.

    The held-out pairs are in the four unlike styles. The seed alone determines which prompts are
    drawn and how; nothing is selected by hand.
    """
    seen = sample_rows(core_members("seen"), 3 * COLUMNS, seed)
    pairs = core_members("pairs")
    held_out = sample_rows(pairs[are_unlike(pairs)], COLUMNS, seed)
    parts = (
        (seen[: 2 * COLUMNS], "English", ""),
        (seen[2 * COLUMNS :], "Chinese", " (asked in Chinese)"),
        (held_out, "English", " (held out)"),
    )
    cells = []
    for rows, language, note in parts:
        drawn = draw_rows(dalle2, rows, language)
        for row, image in zip(rows.tolist(), drawn.images, strict=True):
            cells.append((prompt_of(*drawings()[row], "English") + note, [image]))
    return labelled_grid(cells, COLUMNS)


if __name__ == "__main__":
    showcase(DALLE2.load(WEIGHTS / "emoji")).save(Path(sys.argv[1]))
