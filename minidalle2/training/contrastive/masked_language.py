"""Masked language modelling with CLIP's text tower (Devlin et al. 2019, BERT).

15 % of the words are chosen. Of these, 80 % are masked, 10 % are replaced by another word and 10 %
stay unchanged. The tower must predict the original word. Because of the last two cases, the tower
cannot rely on the words that are not masked. The loss counts the chosen words only.

For this task the tower reads in both directions, because a masked word depends on the words on both
sides. Padding must then be hidden from it; a causal tower never reaches the padding. The mask is a
vector and not a token, because all tokens of the vocabulary have a meaning already.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minidalle2.clip import CLIP, clip_loss
from minidalle2.tokenizer import PAD, SPECIAL

WEIGHT = 0.2  # of the loss of the words; CLIP's loss has weight 1
CHOSEN = 0.15  # share of the words
MASKED, REPLACED = 0.8, 0.1  # shares of the chosen words


class MaskedLanguage(nn.Module):
    """A CLIP, the vector that replaces a masked word, and the head that predicts words."""

    def __init__(self, clip: CLIP):
        super().__init__()
        self.config = clip.config
        self.clip = clip
        self.mask = nn.Parameter(torch.randn(clip.config.width) * 0.02)
        self.head = nn.Linear(clip.config.width, clip.config.vocab_size)

    def forward(self, tokens: Tensor, masked: Tensor) -> Tensor:
        """tokens (B, T), masked (B, T) → features (B, T, D), read in both directions."""
        encoder = self.clip.text_tower.encoder
        x = encoder.token_embedding(tokens)
        x = torch.where(masked[..., None], self.mask.to(x.dtype), x)
        seen = (tokens != PAD)[:, None, None]  # (B, 1, 1, T), for all heads and all queries
        return encoder.transformer(x + encoder.position[: tokens.shape[1]], seen)


def corrupt(
    tokens: Tensor, vocab_size: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens (B, T) → tokens with some words replaced, which are masked, which are chosen.

    All results are (B, T). Start, end and padding are never chosen and never replace a word.
    """
    shape, device = tokens.shape, tokens.device
    choice, fate = torch.rand((2, *shape), generator=generator).to(device)
    words = torch.randint(SPECIAL, vocab_size, shape, generator=generator).to(device)
    chosen = (tokens >= SPECIAL) & (choice < CHOSEN)
    masked = chosen & (fate < MASKED)
    replaced = chosen & (fate >= 1 - REPLACED)
    return torch.where(replaced, words, tokens), masked, chosen


def masked_language(model: MaskedLanguage, tokens: Tensor, generator: torch.Generator) -> Tensor:
    """Tokens (B, T) → the mean cross-entropy of the chosen words, 0 if no word was chosen."""
    corrupted, masked, chosen = corrupt(tokens, model.config.vocab_size, generator)
    logits = model.head(model(corrupted, masked)[chosen]).float()  # (chosen, V)
    return F.cross_entropy(logits, tokens[chosen], reduction="sum") / chosen.sum().clamp(min=1)


def masked_language_loss(
    model: MaskedLanguage, batch: tuple[Tensor, Tensor], generator: torch.Generator
) -> Tensor:
    """CLIP's loss plus the loss of the words, for (images (B, 3, S, S), tokens (B, T))."""
    words = masked_language(model, batch[1], generator)
    return clip_loss(model.clip, batch, generator) + WEIGHT * words
