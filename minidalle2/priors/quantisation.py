"""Quantisation: numbers → buckets and back, so that a transformer can predict numbers like words.

buckets+1 edges bound the buckets: bucket k lies between edge k and edge k+1. The paper does not say
where the 1,024 buckets of its components lie. Both usual ways are implemented. By range: all
buckets have the same width, so that the error is at most half a bucket everywhere. By quantile: all
buckets hold the same number of training values, so that they are used evenly, but the buckets at
the ends are wide.
"""

import torch
from torch import Tensor


def edges_by_range(values: Tensor, buckets: int) -> Tensor:
    """Values (N, K) → edges (K, buckets+1) at equal distances between the extremes of a column."""
    low, high = values.min(0).values, values.max(0).values
    return low[:, None] + (high - low)[:, None] * torch.linspace(0, 1, buckets + 1).to(values)


def edges_by_quantile(values: Tensor, buckets: int) -> Tensor:
    """Values (N, K) → edges (K, buckets+1): as many values of a column in each of its buckets."""
    ordered = values.sort(0).values
    place = torch.linspace(0, len(values) - 1, buckets + 1).round().long().to(values.device)
    return ordered[place].T


def quantise(values: Tensor, edges: Tensor) -> Tensor:
    """Values (N, K), edges (K, buckets+1) → buckets (N, K).

    Values outside the edges go to the first or the last bucket.
    """
    inner = edges[:, 1:-1].contiguous()
    return torch.searchsorted(inner, values.T.contiguous(), right=True).T


def dequantise(buckets: Tensor, edges: Tensor) -> Tensor:
    """Buckets (N, K), edges (K, buckets+1) → the middles of the buckets (N, K)."""
    middles = (edges[:, 1:] + edges[:, :-1]) / 2  # (K, buckets)
    return middles.T.gather(0, buckets)
