"""What is in the first k components of z_i? (Paper, section 4, figure 7.)

Image embeddings of real pictures are projected onto the k directions of most variance, made unit
again and drawn, without a caption and from the same noise at every k. The judge tells from which k
on each attribute is right: what CLIP found most worth telling comes first.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from minidalle2.dalle2 import DALLE2, Sampling
from minidalle2.evaluation.rows import row, value_row
from minidalle2.evaluation.drawn import embed
from minidalle2.evaluation.shapes.drawn import ONE_DRAWING, reconstruct
from minidalle2.evaluation.shapes.judge import NOTHING, Judge, answers_of, read
from minidalle2.pca import PCA
from minidalle2.worlds.shapes.drawing import draw
from minidalle2.worlds.shapes.scenes import sample_scenes

DIMENSIONS = (1, 4, 8, 12, 16, 24, 32, 64)  # and all
FITTED = 4_000  # training pictures that the components are of
KINDS = ("one", "two")
ATTRIBUTES = ("place", "colour", "shape", "size", "background")
ENOUGH = 0.9  # an attribute is there when it is right as often as this share of what all give
UNTIL = "dimensions until {} is there"


def pca_rows(
    dalle2: DALLE2, judge: Judge, n: int, seed: int, sampling: Sampling = ONE_DRAWING
) -> Iterator[dict]:
    """Shares of each attribute right for every k, on n scenes; then the k where it is there."""
    generator, size = torch.Generator().manual_seed(seed), dalle2.clip.config.image_size
    most = dalle2.clip.config.embedding
    pca = PCA.fit(
        embed(dalle2.clip, draw(sample_scenes(FITTED, "train", generator, KINDS), size)),
        min(most, FITTED - 1),
    )
    scenes = sample_scenes(n, "seen", generator, KINDS)
    z_i, truth = embed(dalle2.clip, draw(scenes, size)), answers_of(scenes)
    shares: dict[str, dict[int, float]] = {attribute: {} for attribute in ATTRIBUTES}
    for k in (*(k for k in DIMENSIONS if k < most), most):
        seen = read(judge, reconstruct(dalle2, first_components(pca, z_i, k), sampling))
        for attribute, right in attributes_right(truth, seen).items():
            yield row("pca", f"{attribute}, {k} dimensions", "seen", int(right.sum()), len(right))
            shares[attribute][k] = right.float().mean().item()
    for attribute, share in shares.items():
        yield value_row("pca", UNTIL.format(attribute), "seen", first_enough(share), n)


def first_components(pca: PCA, z_i: Tensor, k: int) -> Tensor:
    """(n, E) → (n, E): what the first k components hold, unit again, as the decoder knows z_i."""
    first = PCA(pca.mean, pca.components[:k], pca.variance[:k])
    return F.normalize(first.restore(first.project(z_i)), dim=-1)


def attributes_right(truth: dict[str, Tensor], seen: dict[str, Tensor]) -> dict[str, Tensor]:
    """→ {attribute: (objects,) bool}; of the background (n,).

    An object's place is right where anything stands there; its colour, shape and size are asked of
    what stands there, and wrong where nothing does. Objects that should not be there don't count.
    """
    there, stands = truth["shape"] != NOTHING, seen["shape"] != NOTHING  # (n, 9)
    right = {"place": stands[there]}
    for name in ("colour", "shape", "size"):
        right[name] = (stands & (seen[name] == truth[name]))[there]
    right["background"] = (seen["background"] == truth["background"])[:, 0]
    return right


def first_enough(share: dict[int, float]) -> int:
    """{k: share right} → the least k that is right ENOUGH."""
    return min(k for k in share if share[k] >= ENOUGH * share[max(share)])


def order_of(rows: list[dict]) -> list[tuple[str, int]]:
    """What appears when: (attribute, k), first come first."""
    until = {row["name"]: int(row["value"]) for row in rows if "value" in row}
    order = [(attribute, until[UNTIL.format(attribute)]) for attribute in ATTRIBUTES]
    return sorted(order, key=lambda pair: pair[1])


def rises(rows: list[dict]) -> bool:
    """The gate: of every attribute, more is right with all dimensions than with the first, beyond
    both intervals, and no step between falls beyond its own."""
    for attribute in ATTRIBUTES:
        steps = [row for row in rows if row["name"].startswith(f"{attribute}, ")]
        falls = any(b["high"] < a["low"] for a, b in zip(steps, steps[1:], strict=False))
        if falls or steps[-1]["low"] <= steps[0]["high"]:
            return False
    return True
