"""What is in the first k principal components of z_i? (Paper, section 4, figure 7.)

Image embeddings of real pictures are projected onto the k directions of largest variance,
normalised to unit length, and drawn without a caption, from the same noise at every k. The judge
reads from which k on each attribute is right. The first components contain what is most important
for CLIP. Letters: n scenes, E embedding.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from minidalle2.dalle2 import DALLE2, Sampling
from minidalle2.evaluation.drawn import embed
from minidalle2.evaluation.rows import row, value_row
from minidalle2.priors.pca import PCA
from minidalle2.worlds.shapes.drawing import draw
from minidalle2.worlds.shapes.evaluation.drawn import ONE_DRAWING, reconstruct
from minidalle2.worlds.shapes.judge import NOTHING, Judge, answers_of, read
from minidalle2.worlds.shapes.scenes import sample_scenes

DIMENSIONS = (1, 4, 8, 12, 16, 24, 32, 64)  # values of k; all dimensions come last
FITTED = 4_000  # training pictures from which the components are computed
KINDS = ("one", "two")
ATTRIBUTES = ("place", "colour", "shape", "size", "background")
ENOUGH = 0.9  # of the accuracy with all components; from here on, an attribute counts as present
UNTIL = "dimensions until {} is there"


def pca_rows(
    dalle2: DALLE2, judge: Judge, n: int, seed: int, sampling: Sampling = ONE_DRAWING
) -> Iterator[dict]:
    """The share of scenes with each attribute right at every k, on n scenes.

    The last rows are the smallest k at which each attribute is present.
    """
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
    """(n, E) → (n, E): the part of z_i in the first k components, normalised to unit length.

    The decoder expects unit length.
    """
    first = PCA(pca.mean, pca.components[:k], pca.variance[:k])
    return F.normalize(first.restore(first.project(z_i)), dim=-1)


def attributes_right(truth: dict[str, Tensor], seen: dict[str, Tensor]) -> dict[str, Tensor]:
    """→ {attribute: (objects,) bool}; (n,) for the background.

    The place of an object is right if the judge sees any object there. Its colour, shape and size
    are compared with those of the object there, and are wrong if there is none. Additional objects
    do not count.
    """
    there, stands = truth["shape"] != NOTHING, seen["shape"] != NOTHING  # (n, 9)
    right = {"place": stands[there]}
    for name in ("colour", "shape", "size"):
        right[name] = (stands & (seen[name] == truth[name]))[there]
    right["background"] = (seen["background"] == truth["background"])[:, 0]
    return right


def first_enough(share: dict[int, float]) -> int:
    """{k: share right} → the smallest k whose share is ENOUGH of the share with all components."""
    return min(k for k in share if share[k] >= ENOUGH * share[max(share)])


def order_of(rows: list[dict]) -> list[tuple[str, int]]:
    """→ (attribute, k) for each attribute, in the order in which they appear."""
    until = {row["name"]: int(row["value"]) for row in rows if "value" in row}
    order = [(attribute, until[UNTIL.format(attribute)]) for attribute in ATTRIBUTES]
    return sorted(order, key=lambda pair: pair[1])


def rises(rows: list[dict]) -> bool:
    """Whether every attribute improves from the first k to all dimensions.

    The intervals of the first and the last share must not overlap. A share may decrease from one k
    to the next only if the two intervals overlap.
    """
    for attribute in ATTRIBUTES:
        steps = [row for row in rows if row["name"].startswith(f"{attribute}, ")]
        falls = any(b["high"] < a["low"] for a, b in zip(steps, steps[1:], strict=False))
        if falls or steps[-1]["low"] <= steps[0]["high"]:
            return False
    return True
