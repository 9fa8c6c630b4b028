"""Text diffs that change the style of a drawing, read by the judge.

z_i is rotated from "… in noto style" towards "… in openmoji style". Does the style flip, and does
the name stay? The drawings are from `seen`, and their names have drawings in at least two of the
four unlike styles. Rebuilt pictures, without any rotation, show how much accuracy is lost by
inversion and drawing at 32 px alone. Letters: n drawings, B drawings of a batch.
"""

from collections import defaultdict
from collections.abc import Iterator

import torch
from torch import Tensor

from minidalle2.dalle2 import DALLE2
from minidalle2.evaluation.work import decoding_work, inversion_work
from minidalle2.manipulations.inversion import Walk, decode, invert
from minidalle2.manipulations.text_diff import direction, edit, fitting_theta
from minidalle2.storage.progress import working
from minidalle2.worlds.emoji.evaluation.prompts import judged, prompt_of, real_pictures, sample_rows
from minidalle2.worlds.emoji.judge import Judge
from minidalle2.worlds.emoji.labels import are_unlike, core_members, scored
from minidalle2.worlds.emoji.names import drawings

WALK = Walk(25)
BATCH = 25


def manipulation_rows(dalle2: DALLE2, judge: Judge, n: int, seed: int) -> Iterator[dict]:
    """Rows for the rebuilt pictures of n drawings, and for the pictures in another style."""
    old, new = pairs_of_hands(n, seed)
    batches = zip(old.split(BATCH), new.split(BATCH), strict=True)
    works = inversion_work(dalle2.clip, dalle2.decoder, WALK, len(old))
    works += decoding_work(dalle2.decoder, WALK, 2 * len(old))  # rebuilt and edited
    with working(f"editing {len(old)} drawings", works):
        parts = [rebuilt_and_edited(dalle2, *rows) for rows in batches]
    rebuilt, edited = (torch.cat(images) for images in zip(*parts, strict=True))
    for name, rows, images in (("rebuilt", old, rebuilt), ("in another hand", new, edited)):
        read = judged(judge, rows, images)
        yield from scored("manipulations", name, "seen", rows, read.name_rank, read.style_rank)


def pairs_of_hands(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """→ rows of `drawings()` (n,), and rows of the same names in another style (n,).

    All rows are in the four unlike styles.
    """
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
    """Rows of `drawings()` (B,) and (B,) → pictures (B, 3, 32, 32), rebuilt and edited.

    `old` are the given drawings, `new` are the drawings that the edit should produce.
    """
    captions = [
        [prompt_of(*drawings()[row], "English") for row in rows.tolist()] for rows in (old, new)
    ]
    images = real_pictures(old, dalle2.decoder.config.image_size).to(dalle2.device)
    z_d = direction(dalle2.clip, dalle2.tokenizer, *captions)
    latents = invert(dalle2.clip, dalle2.decoder, images, WALK)
    theta = fitting_theta(dalle2.clip, dalle2.tokenizer, latents.z_i, *captions)
    rebuilt = decode(dalle2.decoder, latents, WALK)
    return rebuilt.cpu(), edit(dalle2.decoder, latents, z_d, theta, WALK).cpu()
