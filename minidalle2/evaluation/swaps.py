"""Swap tests, of any world: two scenes that differ in who wears which colour, and their captions.

As in Winoground (Thrush et al. 2022). Each world's binding.py makes the scenes, the captions and
the verdicts on drawn pictures.
"""

from torch import Tensor

from minidalle2.evaluation.rows import row

VERDICTS = {
    "right": "all attributes right", "swapped": "colours swapped", "other": "something else wrong",
}  # fmt: skip
QUESTIONS = (
    "swap, image to text (chance 50 %)", "swap, text to image (chance 50 %)",
    "swap, all four (chance 16.7 %)",
)  # fmt: skip


def swap_scores(similarity: Tensor) -> tuple[float, float, float]:
    """(n, 2, 2) similarities of [picture, caption] → shares (image to text, text to image, group).

    Image to text: pictures that are nearer to their own caption than to the swapped one; text to
    image: likewise captions. Group: pairs of which all four are. A tie is wrong, so the chances of
    a guess are at most 1/2, 1/2 and 1/6.
    """
    own = similarity.diagonal(dim1=1, dim2=2)  # (n, 2)
    to_text = own > similarity.flip(2).diagonal(dim1=1, dim2=2)
    to_image = own > similarity.flip(1).diagonal(dim1=1, dim2=2)
    group = (to_text & to_image).all(1)
    to_text, to_image, group = (part.float().mean().item() for part in (to_text, to_image, group))
    return to_text, to_image, group


def score_rows(what: str, similarity: Tensor, split: str) -> list[dict]:
    """The intervals take the n pairs for independent, not the two questions of each."""
    n, scores = len(similarity), swap_scores(similarity)
    return [
        row(what, name, split, share * n, n) for name, share in zip(QUESTIONS, scores, strict=True)
    ]
