"""Exercises 03: the loss of CLIP and what surrounds it."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F

from minidalle2.clip import info_nce
from minidalle2.teaching.checks.compare import call, compare
from minidalle2.tokenizer import END


def check_clip_logits(clip_logits: Callable, seed: int = 0) -> None:
    """clip_logits(image_features, text_features, log_scale) → (B, B)."""
    generator = torch.Generator().manual_seed(seed)
    images, texts = torch.randn(2, 5, 8, generator=generator) * 3
    log_scale = torch.tensor(math.log(1 / 0.07))
    cosine = F.normalize(images, dim=-1) @ F.normalize(texts, dim=-1).T
    scale = log_scale.exp()
    compare(
        "clip_logits", call("clip_logits", clip_logits, images, texts, log_scale), scale * cosine,
        {
            "the features keep their lengths; only directions should count":
                scale * images @ texts.T,
            "the scale is missing; cosines alone are too even for a softmax": cosine,
            "the scale is used as it is stored, as a logarithm": log_scale * cosine,
            "texts are down and images across; it should be the other way round": scale * cosine.T,
            "the cosines are divided by the scale": cosine / scale,
        },
    )  # fmt: skip


def check_info_nce(loss: Callable, seed: int = 0) -> None:
    """loss(logits) → the mean of both directions."""
    logits = torch.randn(6, 6, generator=torch.Generator().manual_seed(seed)) * 4
    right = torch.arange(6)

    def softmaxed(scores: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(scores.softmax(1), right)

    rows, columns = F.cross_entropy(logits, right), F.cross_entropy(logits.T, right)
    compare(
        "info_nce", call("info_nce", loss, logits), info_nce(logits),
        {
            "only images choose; texts must find their images as well": rows,
            "only texts choose; images must find their texts as well": columns,
            "the two directions are added; their mean is asked for": rows + columns,
            "a softmax goes into cross_entropy, which takes logits":
                (softmaxed(logits) + softmaxed(logits.T)) / 2,
        },
    )  # fmt: skip


def check_scale(scale_of: Callable, seed: int = 0) -> None:
    """scale_of(log_scale) → the factor, at most 100."""
    del seed  # there is little to vary
    for log_scale in (math.log(1 / 0.07), 3.0, 4.7, 9.0):
        value = torch.tensor(log_scale)
        compare(
            f"scale_of({log_scale:.2f})", call("scale_of", scale_of, value),
            value.exp().clamp(max=100),
            {
                "it may grow beyond 100; clamp it": value.exp(),
                "it is clamped at ln 100, but it is the scale that may reach 100":
                    value.exp().clamp(max=math.log(100)),
                "what is learned is the logarithm; the factor is its exponential":
                    value.clamp(max=100),
            },
        )  # fmt: skip


def check_pool_at_end(pool_at_end: Callable, seed: int = 0) -> None:
    """pool_at_end(features, tokens) → (B, D), the features at each text's end."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(3, 6, 4, generator=generator)
    tokens = torch.tensor([[1, 9, 8, 2, 0, 0], [1, 9, 8, 7, 6, 2], [1, 2, 0, 0, 0, 0]])
    at = (tokens == END).int().argmax(1)
    compare(
        "pool_at_end", call("pool_at_end", pool_at_end, features, tokens),
        features[torch.arange(3), at],
        {
            "the last position is taken; in a short text that is padding": features[:, -1],
            "the first position is taken; being causal, it has seen nothing": features[:, 0],
            "the mean of all positions is taken, padding included": features.mean(1),
            "the largest token is taken for the end; here END is 2, and words are larger":
                features[torch.arange(3), tokens.argmax(1)],
        },
    )  # fmt: skip


def check_attention(attention: Callable, seed: int = 0) -> None:
    """attention(q, k, v) → (T, D), each position reading itself and those before it."""
    q, k, v = torch.randn(3, 5, 16, generator=torch.Generator().manual_seed(seed)) * 2
    later = torch.ones(5, 5, dtype=torch.bool).triu(1)

    def read(scores: torch.Tensor, hidden: torch.Tensor = later, dim: int = -1) -> torch.Tensor:
        return scores.masked_fill(hidden, float("-inf")).softmax(dim).nan_to_num() @ v

    scores = q @ k.T / 16**0.5
    compare(
        "attention", call("attention", attention, q, k, v), read(scores),
        {
            "the scores grow with the dimension; the factor that keeps them small is missing":
                read(q @ k.T),
            "the scores are divided by d; that is too much": read(q @ k.T / 16),
            "it looks at later positions, too": read(scores, torch.zeros_like(later)),
            "it looks at later positions, and not at earlier ones": read(scores, later.T),
            "a position can't see itself": read(scores, ~later.T),
            "the weights of each key add up to 1; those of each query should":
                read(scores, dim=0),
            "later positions are hidden after the softmax; the others don't add up to 1":
                scores.softmax(-1).masked_fill(later, 0) @ v,
        },
    )  # fmt: skip
