"""Numbers → buckets and back: what lets a transformer write numbers as it writes words.

Edges (…, N+1) cut the line into N buckets, bucket k from edge k to edge k+1. The paper does not say
where the 1,024 buckets of its components lie, so both usual ways are here. By range, no number is
off by more than half a bucket, far out no more than elsewhere. By quantile, each bucket holds as
many training values: an even use of the buckets, but wide ones at the ends.
"""

import torch
from torch import Tensor


def edges_by_range(values: Tensor, buckets: int) -> Tensor:
    """(N, K) → (K, buckets+1): equally wide, from the smallest to the largest of each column."""
    low, high = values.min(0).values, values.max(0).values
    return low[:, None] + (high - low)[:, None] * torch.linspace(0, 1, buckets + 1).to(values)


def edges_by_quantile(values: Tensor, buckets: int) -> Tensor:
    """(N, K) → (K, buckets+1): between two edges of a column lie equally many of its values."""
    ordered = values.sort(0).values
    place = torch.linspace(0, len(values) - 1, buckets + 1).round().long().to(values.device)
    return ordered[place].T


def quantise(values: Tensor, edges: Tensor) -> Tensor:
    """(N, K), (K, buckets+1) → (N, K) bucket numbers; what lies outside goes to the end buckets."""
    inner = edges[:, 1:-1].contiguous()
    return torch.searchsorted(inner, values.T.contiguous(), right=True).T


def dequantise(buckets: Tensor, edges: Tensor) -> Tensor:
    """(N, K) bucket numbers → (N, K), the middles of the buckets."""
    middles = (edges[:, 1:] + edges[:, :-1]) / 2  # (K, buckets)
    return middles.T.gather(0, buckets)
