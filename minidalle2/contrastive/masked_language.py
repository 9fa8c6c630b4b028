"""Masked language modelling on CLIP's text tower (Devlin et al. 2019, BERT).

Of the words, 15 % are chosen; of those 80 % are masked, 10 % replaced by another word and 10 % left
as they are, and the tower must say what stood there. The last two keep it from trusting what is not
masked. Nothing but the chosen words counts.

For this the tower reads both ways: the word under a mask can't be told from its left half alone.
Padding, which causal reading never reaches, must then be hidden from it. The mask is a vector and
no token, for every token of the vocabulary means something.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minidalle2.clip import CLIP, clip_loss
from minidalle2.tokenizer import PAD, SPECIAL

WEIGHT = 0.2  # of the words' loss, beside CLIP's own
CHOSEN, MASKED, REPLACED = 0.15, 0.8, 0.1  # shares: of words, then of the chosen


class MaskedLanguage(nn.Module):
    """A CLIP, the vector that stands for a masked word, and the head that names words."""

    def __init__(self, clip: CLIP):
        super().__init__()
        self.config = clip.config
        self.clip = clip
        self.mask = nn.Parameter(torch.randn(clip.config.width) * 0.02)
        self.head = nn.Linear(clip.config.width, clip.config.vocab_size)

    def forward(self, tokens: Tensor, masked: Tensor) -> Tensor:
        """(B, T) and where the mask is (B, T) → features (B, T, D), read both ways."""
        encoder = self.clip.text_tower.encoder
        x = encoder.token_embedding(tokens)
        x = torch.where(masked[..., None], self.mask.to(x.dtype), x)
        seen = (tokens != PAD)[:, None, None]  # (B, 1, 1, T), by all heads and all queries
        return encoder.transformer(x + encoder.position[: tokens.shape[1]], seen)


def corrupt(
    tokens: Tensor, vocab_size: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """(B, T) → tokens of which some are replaced, where to mask, and which words were chosen, all
    (B, T). Start, end and padding are never chosen, and never put in a word's place."""
    shape, device = tokens.shape, tokens.device
    choice, fate = torch.rand((2, *shape), generator=generator).to(device)
    words = torch.randint(SPECIAL, vocab_size, shape, generator=generator).to(device)
    chosen = (tokens >= SPECIAL) & (choice < CHOSEN)
    masked = chosen & (fate < MASKED)
    replaced = chosen & (fate >= 1 - REPLACED)
    return torch.where(replaced, words, tokens), masked, chosen


def masked_language(model: MaskedLanguage, tokens: Tensor, generator: torch.Generator) -> Tensor:
    """(B, T) → the mean cross-entropy of the chosen words; zero where none was chosen."""
    corrupted, masked, chosen = corrupt(tokens, model.config.vocab_size, generator)
    logits = model.head(model(corrupted, masked)[chosen]).float()  # (chosen, V)
    return F.cross_entropy(logits, tokens[chosen], reduction="sum") / chosen.sum().clamp(min=1)


def masked_language_loss(
    model: MaskedLanguage, batch: tuple[Tensor, Tensor], generator: torch.Generator
) -> Tensor:
    """CLIP's own loss and that of masked words, for (images (B, 3, H, W), tokens (B, T))."""
    words = masked_language(model, batch[1], generator)
    return clip_loss(model.clip, batch, generator) + WEIGHT * words
