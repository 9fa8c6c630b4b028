"""What training needs of a world, a source of captioned pictures.

worlds/ has the implementations. A world also says how large its networks are, how long they are
trained, how they are sampled, and which judge reads its pictures.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from minidalle2.clip import CLIPConfig
from minidalle2.decoder import DecoderConfig
from minidalle2.training.recipe import Recipe
from minidalle2.unclip import Sampling

ALL_ROWS = slice(None)


@dataclass(frozen=True)
class Sizes:
    """Size of the vocabulary and of the networks.

    Training replaces each `vocab_size` by the tokenizer's, and the autoregressive prior's
    `components` by what CLIP's embeddings need.
    """

    vocabulary: int = 512
    clip: CLIPConfig = field(default_factory=CLIPConfig)
    style_widths: tuple[int, ...] = (48, 96, 160, 256)  # of the second image tower
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    priors: Mapping[str, Any] = field(default_factory=dict)  # stage → config, if not the default


@dataclass(frozen=True)
class JudgeKind:
    """A network that reads pictures back, so that they can be compared with their prompts."""

    config: type
    model: type
    data: Callable[[int, torch.Generator], Any]  # (n, generator) → a training batch
    loss: Callable[[Any, Any, torch.Generator], Tensor]  # (judge, batch, generator) → scalar


class World(Protocol):
    """A source of captioned pictures. The same generator state gives the same batch.

    `rows` selects rows of a batch. The other rows are not needed, so that each of several
    processes makes only its own. The batch does not depend on `rows`.

    A world may also have a method `contents`, which returns a list of strings: one for each file
    of its data, which changes if the file or its caption changes. Then a training is not continued
    with other data unnoticed (lineage.py).
    """

    name: str
    summary: str  # what was found in the user's files; '' for worlds without files
    enough: float  # draws after which nearly all of `train` was drawn; may be infinity
    forkable: bool  # whether other processes may make batches
    sizes: Sizes
    recipes: Mapping[str, Mapping[str, Recipe]]  # profile → stage → recipe, if not the default
    sampling: Sampling
    judge: JudgeKind | None

    def captioned(
        self,
        n: int,
        generator: torch.Generator,
        split: str = "train",
        size: int = 32,
        rows: slice = ALL_ROWS,
    ) -> tuple[Tensor, list[str]]:
        """→ (n, 3, size, size) pictures in [-1, 1] and their n captions.

        Raises ValueError for an unknown split.
        """
        ...

    def contrasting(
        self, n: int, generator: torch.Generator, rows: slice = ALL_ROWS
    ) -> tuple[Tensor, list[str]]:
        """→ (n, 3, 32, 32) pictures and n captions of `train` for CLIP.

        Some pictures differ in one thing only, so that CLIP must use everything that a caption
        says.
        """
        ...

    def crops(self, n: int, generator: torch.Generator, size: int) -> Tensor:
        """→ (n, 3, size/4, size/4) in [-1, 1]: windows of `train` pictures of `size` px.

        They start at even pixels, so that they align with the picture of half the size.
        """
        ...

    def training_captions(self, n: int, generator: torch.Generator) -> list[str]:
        """n captions of `train`, for the tokenizer."""
        ...

    def unreadable(self) -> str:
        """Which pictures could not be decoded so far, in this process; '' if there are none."""
        ...
