"""One thing from hand to hand: a drawing's z_i turned from "… in noto style" to "… in openmoji
style". Does the style flip, and does the thing stay? Read by the judge.

Drawings of `seen`, of names that another of the four unlike hands has drawn, too. Rebuilt pictures,
with nothing turned, say how much inverting and drawing again at 32 px costs alone.
"""

from collections import defaultdict
from collections.abc import Iterator

import torch
from torch import Tensor

from minidalle2.dalle2 import DALLE2
from minidalle2.evaluation.emoji.judge import Judge
from minidalle2.evaluation.emoji.labels import are_unlike, core_members, scored
from minidalle2.evaluation.emoji.prompts import judged, prompt_of, real_pictures, sample_rows
from minidalle2.manipulations.inversion import Walk, decode, invert
from minidalle2.manipulations.text_diff import direction, edit, fitting_theta
from minidalle2.training.precision import half_precision
from minidalle2.worlds.emoji.names import drawings

WALK = Walk(25)
BATCH = 25


def manipulation_rows(dalle2: DALLE2, judge: Judge, n: int, seed: int) -> Iterator[dict]:
    """Of n drawings: the pictures rebuilt, and in another hand."""
    old, new = pairs_of_hands(n, seed)
    batches = zip(old.split(BATCH), new.split(BATCH), strict=True)
    parts = [rebuilt_and_edited(dalle2, *rows) for rows in batches]
    rebuilt, edited = (torch.cat(images) for images in zip(*parts, strict=True))
    for name, rows, images in (("rebuilt", old, rebuilt), ("in another hand", new, edited)):
        read = judged(judge, rows, images)
        yield from scored("manipulations", name, "seen", rows, read.name_rank, read.style_rank)


def pairs_of_hands(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """→ rows of `drawings()` (n,), and of the same things by another of the four hands (n,)."""
    rows = core_members("seen")
    rows = rows[are_unlike(rows)]
    by_name = defaultdict(list)
    for row in rows.tolist():
        by_name[drawings()[row].name.key].append(row)
    several = [row for same in by_name.values() if len(same) > 1 for row in same]
    old = sample_rows(torch.tensor(several), n, seed)
    new = []
    for i, row in enumerate(old.tolist()):
        others = [other for other in by_name[drawings()[row].name.key] if other != row]
        new.append(others[i % len(others)])
    return old, torch.tensor(new)


def rebuilt_and_edited(dalle2: DALLE2, old: Tensor, new: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of `drawings()`, twice → (B, 3, 32, 32) as they were, and turned to the new ones."""
    captions = [
        [prompt_of(*drawings()[row], "English") for row in rows.tolist()] for rows in (old, new)
    ]
    images = real_pictures(old, dalle2.decoder.config.image_size).to(dalle2.device)
    z_d = direction(dalle2.clip, dalle2.tokenizer, *captions)
    with half_precision(dalle2.device):
        latents = invert(dalle2.clip, dalle2.decoder, images, WALK)
        theta = fitting_theta(dalle2.clip, dalle2.tokenizer, latents.z_i, *captions)
        rebuilt = decode(dalle2.decoder, latents, WALK)
        return rebuilt.cpu(), edit(dalle2.decoder, latents, z_d, theta, WALK).cpu()
