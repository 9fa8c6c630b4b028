"""The three rows of figure 8 (paper, section 5.1): what does the prior contribute?

The same decoder draws the same prompts in three ways: from the caption only; from the caption, with
the text embedding in place of the image embedding; and from the caption and the prior's image
embedding.
"""

from dataclasses import replace

import torch

from minidalle2.dalle2 import DALLE2, Sampling
from minidalle2.evaluation.rows import gap_row, row
from minidalle2.training.glide import without_embedding
from minidalle2.worlds.shapes.evaluation.drawn import ONE_DRAWING, read_drawn
from minidalle2.worlds.shapes.evaluation.prompts import ROWS, asked, follows
from minidalle2.worlds.shapes.judge import Judge

CAPTION, TEXT, PRIOR = "caption only", "text embedding as image embedding", "prior"
GAP = "prior less text embedding"


@torch.no_grad()
def three_rows(
    dalle2: DALLE2,
    judge: Judge,
    n: int,
    seed: int,
    sampling: Sampling = ONE_DRAWING,
    name: str = "two objects",
) -> list[dict]:
    """The prompt accuracy of each way on n prompts of a row of ROWS.

    The last row is the difference between the prior and the text embedding.
    """
    scenes, prompts = asked(name, n, seed)
    z_t = dalle2.clip.encode_text(dalle2.tokenizer(prompts).to(dalle2.device))
    caption_only = replace(dalle2, decoder=without_embedding(dalle2.decoder))
    answers = {
        CAPTION: read_drawn(caption_only, judge, prompts, sampling, z_t),  # z_t is ignored
        TEXT: read_drawn(dalle2, judge, prompts, sampling, z_t),
        PRIOR: read_drawn(dalle2, judge, prompts, sampling),
    }
    rows = {
        condition: row("rows", condition, ROWS[name][0], int(follows(scenes, read).sum()), n)
        for condition, read in answers.items()
    }
    return [*rows.values(), gap_row("rows", GAP, rows[PRIOR], rows[TEXT])]


def prior_wins(rows: list[dict]) -> bool:
    """Whether the prior is more accurate than the text embedding, beyond the interval."""
    return next(row["low"] for row in rows if row["name"] == GAP) > 0
