"""Swap test: two scenes that differ only in which object has which colour, and their captions.

It follows Winoground (Thrush et al. 2022). A world's own evaluation makes the scenes and the
captions, and reads the drawn pictures.
"""

from torch import Tensor

from minidalle2.evaluation.rows import row

VERDICTS = {
    "right": "all attributes right",
    "swapped": "colours swapped",
    "other": "something else wrong",
}
QUESTIONS = (
    "swap, image to text (chance 50 %)",
    "swap, text to image (chance 50 %)",
    "swap, all four (chance 16.7 %)",
)


def swap_scores(similarity: Tensor) -> tuple[float, float, float]:
    """(n, 2, 2) similarities of [picture, caption] → the shares that are right.

    The three shares are image to text, text to image and group. Image to text: the picture is
    nearer to its own caption than to the other caption. Text to image: the caption is nearer to its
    own picture than to the other picture. Group: all four are right for one pair. A tie counts as
    wrong. Therefore guessing scores at most 1/2, 1/2 and 1/6.
    """
    own = similarity.diagonal(dim1=1, dim2=2)  # (n, 2)
    to_text = own > similarity.flip(2).diagonal(dim1=1, dim2=2)
    to_image = own > similarity.flip(1).diagonal(dim1=1, dim2=2)
    group = (to_text & to_image).all(1)
    to_text, to_image, group = (part.float().mean().item() for part in (to_text, to_image, group))
    return to_text, to_image, group


def score_rows(what: str, similarity: Tensor, split: str) -> list[dict]:
    """Rows of the three shares, with the intervals of n independent trials.

    The two answers about one pair are not independent, so they count as one trial.
    """
    n, scores = len(similarity), swap_scores(similarity)
    return [
        row(what, name, split, share * n, n) for name, share in zip(QUESTIONS, scores, strict=True)
    ]
