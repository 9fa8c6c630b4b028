"""Weights in 8 bits, for shipping: half the bytes of half precision.

In each row of a matrix (each filter of a convolution), the largest value becomes 127 and the others
are scaled with it. Each row has its own scale, because one large weight would make all weights that
share its scale coarse. Vectors (biases, gains) are few and stay in half precision.
"""

import torch
from torch import Tensor

LARGEST = 127
SCALE = ".scale"  # suffix of the name of a tensor's scales


def pack(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Float tensors → int8 (R, …) with float32 scales (R,), or float16 for vectors."""
    packed = {}
    for name, tensor in tensors.items():
        if tensor.ndim < 2:
            packed[name] = tensor.half()
            continue
        largest = tensor.float().flatten(1).abs().amax(1)
        scale = (largest / LARGEST).clamp(min=torch.finfo(torch.float32).tiny)  # rows of zeros
        packed[name] = (tensor.float() / _broadcast(scale, tensor)).round().to(torch.int8)
        packed[name + SCALE] = scale
    return packed


def unpack(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The result of `pack`, or any other float tensors → float32.

    Raises ValueError for an int8 tensor without one scale for each row.
    """
    unpacked = {}
    for name, tensor in tensors.items():
        if name.endswith(SCALE) and name.removesuffix(SCALE) in tensors:
            continue
        if tensor.dtype == torch.int8:
            scale = tensors.get(name + SCALE)
            if scale is None or scale.shape != tensor.shape[:1]:
                raise ValueError(f"{name!r} is in 8 bits and has no scale for each of its rows")
            unpacked[name] = tensor * _broadcast(scale, tensor)
        else:
            unpacked[name] = tensor.float()
    return unpacked


def _broadcast(scale: Tensor, tensor: Tensor) -> Tensor:
    """(R,) → (R, 1, …), to multiply with (R, …)."""
    return scale.view(-1, *[1] * (tensor.ndim - 1))
