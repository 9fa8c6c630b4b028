"""The paper's three rows (section 5.1, figure 8): what is the prior good for?

The same decoder draws the same prompts from the caption only, from the caption with the text
embedding in the image embedding's place, and from the caption with the prior's image embedding.
"""

import torch

from minidalle2.dalle2 import DALLE2, Sampling
from minidalle2.evaluation.rows import gap_row, row
from minidalle2.evaluation.shapes.drawn import ONE_DRAWING, read_drawn
from minidalle2.evaluation.shapes.judge import Judge
from minidalle2.evaluation.shapes.prompts import ROWS, asked, follows
from minidalle2.glide import with_decoder, without_embedding

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
    """Prompt accuracy of each, on n prompts of a row of ROWS, and the gap between the last two."""
    scenes, prompts = asked(name, n, seed)
    z_t = dalle2.clip.encode_text(dalle2.tokenizer(prompts).to(dalle2.device))
    caption_only = with_decoder(dalle2, without_embedding(dalle2.decoder))
    answers = {
        CAPTION: read_drawn(caption_only, judge, prompts, sampling, z_t),  # which it never sees
        TEXT: read_drawn(dalle2, judge, prompts, sampling, z_t),
        PRIOR: read_drawn(dalle2, judge, prompts, sampling),
    }
    rows = {
        condition: row("rows", condition, ROWS[name][0], int(follows(scenes, read).sum()), n)
        for condition, read in answers.items()
    }
    return [*rows.values(), gap_row("rows", GAP, rows[PRIOR], rows[TEXT])]


def prior_wins(rows: list[dict]) -> bool:
    """The gate: with its interval, the prior draws more prompts right than the text embedding."""
    return next(row["low"] for row in rows if row["name"] == GAP) > 0
