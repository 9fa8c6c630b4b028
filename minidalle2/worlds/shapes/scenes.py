"""Scenes: the content of pictures of the shapes world as numbers, and which scenes are held out.

A batch of scenes is a struct of tensors. Slot k of scene b is an object (shape, colour, size,
place), or empty (-1). `captions.py` describes scenes in words, and `drawing.py` draws them. Three
kinds of scenes are held out from training, by separate rules: `pairs`, `combinations` and
`phrasings`. Letters: B scenes.
"""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

SHAPES = ("circle", "square", "triangle", "star", "heart", "cross", "ring", "moon")
COLOURS = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink")
SIZES = ("small", "large")
BACKGROUNDS = ("white", "gray", "black", "beige")
PLACES = (
    *("top left", "top", "top right"),
    *("left", "center", "right"),
    *("bottom left", "bottom", "bottom right"),
)
# Words on signs have at most 6 letters, so that they are legible at 32 px.
WORDS = (
    *("circle", "square", "star", "heart", "cross", "ring", "moon"),
    *("red", "green", "blue", "pink", "yellow"),
)
KINDS = ("one", "two", "three", "words")
KIND_WEIGHTS = (0.5, 1.0, 0.5, 0.3)  # relative frequencies; two objects are needed for binding
SPLITS = ("train", "seen", "pairs", "combinations", "phrasings")

SLOTS = 3  # objects of a scene, at most
JITTER = 0.03  # largest offset of an object from the middle of its place, as a share of the side
PLACE_X = torch.tensor([0.25, 0.5, 0.75]).repeat(3)  # (9,) middle of each place
PLACE_Y = torch.tensor([0.25, 0.5, 0.75]).repeat_interleave(3)  # (9,)

CORNERS = torch.tensor([0, 2, 6, 8])
ONE_PLACES = torch.tensor([0, 2, 6, 8, 4])  # the four corners and the center
TWO_PLACES = torch.tensor([[3, 5], [5, 3], [1, 7], [7, 1]])  # left of, right of, above, below
TOP = 1
SIGN_Y_ALONE, SIGN_Y_BELOW = 16.5 / 32, 23.5 / 32  # aligned with the pixels at 32 px

# 8 of the 64 (shape, colour) pairs are in no training picture: shape s never has the colour
# HELD_OUT_COLOUR[s]. One pair is held out for each shape and for each colour.
HELD_OUT_COLOUR = torch.tensor([3, 0, 5, 6, 7, 1, 4, 2])
# About this share of the unordered combinations of two other pairs is held out.
HELD_OUT_COMBINATIONS = 0.1


@dataclass
class Scenes:
    """B scenes. Empty slots are -1. A `says_` mask is True if the caption has that information."""

    shape: Tensor  # (B, 3) index into SHAPES
    colour: Tensor  # (B, 3) index into COLOURS
    size: Tensor  # (B, 3) index into SIZES
    place: Tensor  # (B, 3) index into PLACES
    x: Tensor  # (B, 3) centre from the left, as a share of the side of the picture
    y: Tensor  # (B, 3) centre from the top
    background: Tensor  # (B,) index into BACKGROUNDS
    word: Tensor  # (B,) index into WORDS; -1 without a sign
    says_sizes: Tensor  # (B,) bool: the caption contains the sizes
    says_places: Tensor  # (B,) bool: the caption contains the places or the relation
    says_background: Tensor  # (B,) bool: the caption contains the background

    def __len__(self) -> int:
        return len(self.shape)

    def __getitem__(self, index) -> "Scenes":
        """Scenes[index], for a tensor or a slice that keeps the batch dimension."""
        return Scenes(*(getattr(self, f.name)[index] for f in fields(self)))

    @property
    def count(self) -> Tensor:
        """(B,) number of objects, without the sign."""
        return (self.shape >= 0).sum(1)

    @property
    def kind(self) -> Tensor:
        """(B,) index into KINDS."""
        return torch.where(self.word >= 0, KINDS.index("words"), self.count - 1)

    @property
    def sign_y(self) -> Tensor:
        """(B,) centre of the sign from the top: lower if there is an object above the sign."""
        return torch.where(self.count > 0, SIGN_Y_BELOW, SIGN_Y_ALONE)


def concatenate(parts: list[Scenes]) -> Scenes:
    return Scenes(*(torch.cat([getattr(p, f.name) for p in parts]) for f in fields(Scenes)))


def holds_held_out_pair(scenes: Scenes) -> Tensor:
    """(B,) bool: at least one object has the colour that is held out for its shape."""
    present = scenes.shape >= 0
    return (present & (scenes.colour == HELD_OUT_COLOUR[scenes.shape.clamp(min=0)])).any(1)


def holds_held_out_combination(scenes: Scenes) -> Tensor:
    """(B,) bool: at least two of the objects form a held-out combination."""
    held = torch.zeros(len(scenes), dtype=torch.bool)
    for i, j in ((0, 1), (0, 2), (1, 2)):
        both = (scenes.shape[:, i] >= 0) & (scenes.shape[:, j] >= 0)
        pair_i = scenes.shape[:, i] * len(COLOURS) + scenes.colour[:, i]
        pair_j = scenes.shape[:, j] * len(COLOURS) + scenes.colour[:, j]
        held |= both & _is_held_out_combination(pair_i, pair_j)
    return held


def _is_held_out_combination(pair_i: Tensor, pair_j: Tensor) -> Tensor:
    """A fixed hash of the unordered pair decides. So the rule needs neither a table nor a seed."""
    low, high = torch.minimum(pair_i, pair_j), torch.maximum(pair_i, pair_j)
    code = (low * 64 + high + 1) * 2654435761 % 2**32  # Knuth's multiplicative hash
    return code % 1000 < 1000 * HELD_OUT_COMBINATIONS


def sample_scenes(
    n: int, split: str, generator: torch.Generator, kinds: tuple[str, ...] = KINDS
) -> Scenes:
    """n scenes of a split, of the given kinds.

    Scenes of `train`, `seen` and `phrasings` have no held-out pair and no held-out combination.
    Every scene of `pairs` has a held-out pair. Every scene of `combinations` has a held-out
    combination of pairs that are not held out. Raises ValueError for an unknown split.
    """
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}; the shapes world has {', '.join(SPLITS)}")
    if split == "combinations":
        kinds = tuple(k for k in kinds if k in ("two", "three"))
    parts, missing = [], n
    while missing:
        drawn = _draw(4 * missing + 64 if split == "train" else 40 * missing, generator, kinds)
        pair, combination = holds_held_out_pair(drawn), holds_held_out_combination(drawn)
        if split == "pairs":
            keep = pair & ~combination
        elif split == "combinations":
            keep = combination & ~pair
        else:
            keep = ~pair & ~combination
        parts.append(drawn[keep][:missing])
        missing -= len(parts[-1])
    return concatenate(parts)


def _draw(n: int, generator: torch.Generator, kinds: tuple[str, ...]) -> Scenes:
    """n random scenes. Scenes that are held out may be among them."""

    def integers(high: int, *shape: int) -> Tensor:
        return torch.randint(high, shape, generator=generator)

    def chance(p: float) -> Tensor:
        return torch.rand(n, generator=generator) < p

    kind_ids = torch.tensor([KINDS.index(k) for k in kinds])
    weights = torch.tensor(KIND_WEIGHTS)[kind_ids]
    kind = kind_ids[torch.multinomial(weights, n, replacement=True, generator=generator)]
    words = kind == KINDS.index("words")
    count = torch.where(words, integers(2, n), kind + 1)  # a sign has no or one object
    present = torch.arange(SLOTS) < count[:, None]

    place = draw_places(count, words, generator)
    jitter = (torch.rand(n, SLOTS, 2, generator=generator) * 2 - 1) * JITTER
    empty = torch.tensor(-1)
    return Scenes(
        shape=torch.where(present, integers(len(SHAPES), n, SLOTS), empty),
        colour=torch.where(present, integers(len(COLOURS), n, SLOTS), empty),
        size=torch.where(present, integers(len(SIZES), n, SLOTS), empty),
        place=torch.where(present, place, empty),
        x=torch.where(present, PLACE_X[place] + jitter[..., 0], empty.float()),
        y=torch.where(present, PLACE_Y[place] + jitter[..., 1], empty.float()),
        background=integers(len(BACKGROUNDS), n),
        word=torch.where(words, integers(len(WORDS), n), empty),
        says_sizes=chance(0.8),
        says_places=chance(0.85),
        says_background=chance(0.5),
    )


def draw_places(count: Tensor, words: Tensor, generator: torch.Generator) -> Tensor:
    """(B, 3) places for `count` (B,) objects. `words` (B,) is True if the scene has a sign.

    One object is at a corner or in the center. Two objects are side by side or one above the other.
    Three objects are at corners. An object in a scene with a sign is at the top. The slots beyond
    the count contain places, too, which must be ignored.
    """
    n = len(count)
    one = ONE_PLACES[torch.randint(5, (n,), generator=generator)]
    two = TWO_PLACES[torch.randint(4, (n,), generator=generator)]
    three = CORNERS[torch.rand(n, 4, generator=generator).argsort(1)[:, :SLOTS]]
    place = three
    place[:, :2] = torch.where((count == 2)[:, None], two, place[:, :2])
    place[:, 0] = torch.where(count == 1, one, place[:, 0])
    place[:, 0] = torch.where(words, TOP, place[:, 0])
    return place
