"""Checks of exercises 03: the loss of CLIP and its parts."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F

from minidalle2.clip import info_nce
from minidalle2.teaching.checks.compare import call, compare
from minidalle2.tokenizer import END


def check_clip_logits(clip_logits: Callable, seed: int = 0) -> None:
    """clip_logits(images (B, E), texts (B, E), log_scale) → (B, B), a row for each image."""
    generator = torch.Generator().manual_seed(seed)
    images, texts = torch.randn(2, 5, 8, generator=generator) * 3
    log_scale = torch.tensor(math.log(1 / 0.07))
    scale = log_scale.exp()
    cosine = F.normalize(images, dim=-1) @ F.normalize(texts, dim=-1).T
    mistakes = {
        "The features keep their lengths. Only directions should count.": scale * images @ texts.T,
        "The scale is missing. A softmax of cosines alone is almost uniform.": cosine,
        "`log_scale` is used as the factor. It is the logarithm of the scale.": log_scale * cosine,
        "Rows are texts and columns are images. Exchange them.": scale * cosine.T,
        "The cosines are divided by the scale.": cosine / scale,
    }
    answer = call("clip_logits", clip_logits, images, texts, log_scale)
    compare("clip_logits", answer, scale * cosine, mistakes)


def check_info_nce(loss: Callable, seed: int = 0) -> None:
    """loss(logits (B, B)) → a scalar, the mean of both directions."""
    logits = torch.randn(6, 6, generator=torch.Generator().manual_seed(seed)) * 4
    right = torch.arange(6)

    def softmax_twice(scores: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(scores.softmax(1), right)

    rows, columns = F.cross_entropy(logits, right), F.cross_entropy(logits.T, right)
    twice = (softmax_twice(logits) + softmax_twice(logits.T)) / 2
    mistakes = {
        "Only images choose among texts. Texts must find their images, too.": rows,
        "Only texts choose among images. Images must find their texts, too.": columns,
        "The two directions are added. The loss is their mean.": rows + columns,
        "A softmax is applied before `cross_entropy`, which expects logits.": twice,
    }
    compare("info_nce", call("info_nce", loss, logits), info_nce(logits), mistakes)


def check_scale(scale_of: Callable, seed: int = 0) -> None:
    """scale_of(log_scale) → the scale, at most 100."""
    del seed  # the inputs are the same for all seeds
    for log_scale in (math.log(1 / 0.07), 3.0, 4.7, 9.0):
        value = torch.tensor(log_scale)
        low_limit = value.exp().clamp(max=math.log(100))
        mistakes = {
            "The scale can exceed 100. Clamp it.": value.exp(),
            "The scale is clamped to ln 100. Its limit is 100.": low_limit,
            "The logarithm is returned. The scale is its exponential.": value.clamp(max=100),
        }
        answer = call("scale_of", scale_of, value)
        compare(f"scale_of({log_scale:.2f})", answer, value.exp().clamp(max=100), mistakes)


def check_pool_at_end(pool_at_end: Callable, seed: int = 0) -> None:
    """pool_at_end(features (B, T, D), tokens (B, T)) → (B, D), the features of each END token."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(3, 6, 4, generator=generator)
    tokens = torch.tensor([[1, 9, 8, 2, 0, 0], [1, 9, 8, 7, 6, 2], [1, 2, 0, 0, 0, 0]])
    rows = torch.arange(3)
    at_end = features[rows, (tokens == END).int().argmax(1)]
    at_largest = features[rows, tokens.argmax(1)]
    mistakes = {
        "The last position is returned. In a short text it is padding.": features[:, -1],
        "The first position is returned. It has seen only itself.": features[:, 0],
        "The mean of all positions is returned, padding included.": features.mean(1),
        "The largest token is taken for END. Here END is 2, and words are larger.": at_largest,
    }
    answer = call("pool_at_end", pool_at_end, features, tokens)
    compare("pool_at_end", answer, at_end, mistakes)


def check_attention(attention: Callable, seed: int = 0) -> None:
    """attention(q, k, v) → (T, D). All inputs are (T, D). No position reads later positions."""
    q, k, v = torch.randn(3, 5, 16, generator=torch.Generator().manual_seed(seed)) * 2
    later = torch.ones(5, 5, dtype=torch.bool).triu(1)

    def read(scores: torch.Tensor, hidden: torch.Tensor = later, dim: int = -1) -> torch.Tensor:
        return scores.masked_fill(hidden, float("-inf")).softmax(dim).nan_to_num() @ v

    scores = q @ k.T / 16**0.5
    hidden_late = scores.softmax(-1).masked_fill(later, 0) @ v
    mistakes = {
        "The scores grow with the dimension D. A factor is missing.": read(q @ k.T),
        "The scores are divided by D. That is too much.": read(q @ k.T / 16),
        "Each position also reads later positions.": read(scores, torch.zeros_like(later)),
        "Each position reads later positions instead of earlier ones.": read(scores, later.T),
        "A position does not read itself.": read(scores, ~later.T),
        "The weights of each key add up to 1. Those of each query should.": read(scores, dim=0),
        "Later positions are hidden after the softmax, so weights do not sum to 1.": hidden_late,
    }
    compare("attention", call("attention", attention, q, k, v), read(scores), mistakes)
