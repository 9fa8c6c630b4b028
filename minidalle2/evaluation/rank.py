"""How many directions embeddings use.

The paper reduces CLIP's z_i to 319 of 1,024 principal components, with less than 1 % of error, and
says that sharpness-aware minimisation made that possible (section 2.2).
"""

import torch
from torch import Tensor


def effective_rank(z: Tensor) -> float:
    """(N, E) → between 1 and min(N - 1, E), or 0 where all rows are equal: e to the entropy of the
    singular values, shared out to sum to one (Roy & Vetterli 2007). Rows are centred first, for
    their mean tells no two of them apart."""
    shares = _singular_values(z)
    if not shares.any():
        return 0.0
    shares = shares / shares.sum()
    return torch.special.entr(shares).sum().exp().item()


def components_needed(z: Tensor, share: float = 0.99) -> int:
    """(N, E) → how many principal components hold that share of the variance."""
    variance = _singular_values(z) ** 2
    if not variance.any():
        return 0
    return int((variance.cumsum(0) < share * variance.sum()).sum()) + 1


def _singular_values(z: Tensor) -> Tensor:
    """Of the centred rows, falling, in float64; what is no more than rounding counts as zero."""
    precise = z.detach().cpu().double()
    values = torch.linalg.svdvals(precise - precise.mean(0))
    rounding = torch.finfo(z.dtype).eps * max(z.shape) * precise.norm() / len(z) ** 0.5
    return values.masked_fill(values <= rounding, 0)
