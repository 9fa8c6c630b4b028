"""Weights to ship in 8 bits: a row's largest value becomes 127, and the rest its share of it.

Half the bytes of half precision. Each row of a matrix (each filter of a convolution) has a scale of
its own, for a single large weight would coarsen all that share its scale. Vectors (biases, gains)
are few, and stay in half precision.
"""

import torch
from torch import Tensor

LARGEST = 127
SCALE = ".scale"  # a tensor's name with this after it: its scales


def pack(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Float tensors → int8 (R, ...) with float32 scales (R,), or float16 where they are vectors."""
    packed = {}
    for name, tensor in tensors.items():
        if tensor.ndim < 2:
            packed[name] = tensor.half()
            continue
        largest = tensor.float().flatten(1).abs().amax(1)
        scale = (largest / LARGEST).clamp(min=torch.finfo(torch.float32).tiny)  # rows of zeros
        packed[name] = (tensor.float() / _beside(scale, tensor)).round().to(torch.int8)
        packed[name + SCALE] = scale
    return packed


def unpack(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """What `pack` made, or any other float tensors → float32. Raises ValueError for an int8 tensor
    whose scales are missing or are not one a row."""
    unpacked = {}
    for name, tensor in tensors.items():
        if name.endswith(SCALE) and name.removesuffix(SCALE) in tensors:
            continue
        if tensor.dtype == torch.int8:
            scale = tensors.get(name + SCALE)
            if scale is None or scale.shape != tensor.shape[:1]:
                raise ValueError(f"{name!r} is in 8 bits and has no scale for each of its rows")
            unpacked[name] = tensor * _beside(scale, tensor)
        else:
            unpacked[name] = tensor.float()
    return unpacked


def _beside(scale: Tensor, tensor: Tensor) -> Tensor:
    """(R,) → (R, 1, ...), to be multiplied with (R, ...)."""
    return scale.view(-1, *[1] * (tensor.ndim - 1))
