"""Pictures and masks in any usual form → tensors (B, 3, S, S) and (B, 1, S, S).

Accepts Pillow images, tensors, NumPy arrays, and lists of these. Pixels are whole numbers from 0 to
255, or fractional numbers from -1 to 1. Colours may be the first dimension (C, H, W) or the last
(H, W, C): 3 of RGB, 4 of RGBA on white, 1 of grey, or none for grey.
"""

import warnings
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from minidalle2.storage.decode import rgb
from minidalle2.storage.inputs import Numbers, as_floats, as_tensor

Pictures = Numbers | Image.Image
CHANNELS = (1, 3, 4)
DARK = 0.05  # pixels from 0 to 1 have a black or nearly black one; in [-1, 1] this is mid-grey
FARTHEST = 10  # fractional pixels beyond this are no noisy pixels in [-1, 1], but another range


def as_pictures(
    value: Any, name: str, side: int | None = None, device: torch.device | None = None
) -> Tensor:
    """One picture or several → (B, 3, side, side) float32 in [-1, 1], on the device.

    Without `side`, any square is right. A tensor that is right already is returned as it is, also
    if noise took it beyond [-1, 1]. Raises ValueError for another size, which is not changed here,
    and for what is no picture.
    """
    kinds = (Tensor, np.ndarray, Image.Image)
    several = isinstance(value, list | tuple) and any(isinstance(part, kinds) for part in value)
    parts = [_batch(part, name) for part in (value if several else [value])]
    for part in parts:
        height, width = part.shape[-2:]
        if height != width or height != (side or parts[0].shape[-1]):
            needed = f"{side} x {side} px" if side else "squares of one size"
            raise ValueError(
                f"{name} has pictures of {width} x {height} px, but {needed} are needed; Pillow's "
                "ImageOps.fit crops and resizes a picture"
            )
    parts = [part.to(device or part.device) for part in parts]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def as_mask(value: Any, name: str, device: torch.device | None = None) -> Tensor:
    """One mask or several → (B, 1, S, S) bool on the device: False for 0, True for 1 or 255.

    Accepts (S, S), (B, S, S) and (B, 1, S, S), and Pillow images. Raises ValueError for values
    between the two, because they do not say to which side a pixel belongs.
    """
    value = np.asarray(value.convert("L")) if isinstance(value, Image.Image) else value
    mask = as_tensor(value, name)
    mask = mask[None] if mask.ndim == 2 else mask
    mask = mask[:, None] if mask.ndim == 3 else mask
    if mask.ndim != 4 or mask.shape[1] != 1 or not mask.numel():
        raise ValueError(f"{name} has the shape {tuple(mask.shape)}; (B, 1, S, S) would work")
    if mask.dtype != torch.bool:
        numbers = as_floats(mask, name)
        high = 255 if numbers.max() > 1 else 1
        if not ((numbers == 0) | (numbers == high)).all():
            raise ValueError(f"{name} has values between 0 and {high}; a mask has only these two")
        mask = numbers > 0
    return mask.to(device or mask.device)


def _batch(value: Any, name: str) -> Tensor:
    """One picture, or an array of several → (B, 3, H, W) float32 in [-1, 1]."""
    if isinstance(value, Image.Image):
        value = np.asarray(rgb(value))
    pixels = _channels_first(as_tensor(value, name), name)
    if pixels.dtype == torch.bool:
        raise ValueError(f"{name} has True and False, but pixels are numbers")
    if pixels.is_floating_point() or pixels.is_complex():
        return _checked_range(_coloured(as_floats(pixels, name).float(), name), name)
    pixels = pixels.long()  # torch cannot compare all types of whole numbers
    if pixels.min() < 0 or pixels.max() > 255:
        raise ValueError(
            f"{name} has whole numbers from {pixels.min()} to {pixels.max()}; whole numbers must "
            "be from 0 to 255"
        )
    return _coloured(_on_white(pixels.float()) / 127.5 - 1, name)


def _channels_first(pixels: Tensor, name: str) -> Tensor:
    """(H, W), (C, H, W), (H, W, C) or several of the latter two → (B, C, H, W)."""
    pixels = pixels[None] if pixels.ndim == 2 else pixels
    pixels = pixels[None] if pixels.ndim == 3 else pixels
    if pixels.ndim != 4 or not pixels.numel():
        raise ValueError(
            f"{name} has the shape {tuple(pixels.shape)}; (B, 3, S, S) or (3, S, S) would work"
        )
    if pixels.shape[1] not in CHANNELS and pixels.shape[3] in CHANNELS:
        return pixels.permute(0, 3, 1, 2)
    if pixels.shape[1] not in CHANNELS:
        raise ValueError(
            f"{name} has {pixels.shape[1]} colours for each pixel; 3 of RGB, 4 of RGBA or 1 of "
            "grey would work"
        )
    return pixels


def _on_white(pixels: Tensor) -> Tensor:
    """(B, C, H, W) from 0 to 255: RGBA → RGB. Other pictures stay as they are."""
    if pixels.shape[1] != 4:
        return pixels
    alpha = pixels[:, 3:]
    return ((pixels[:, :3] * alpha + 255 * (255 - alpha)) / 255).round()


def _coloured(pixels: Tensor, name: str) -> Tensor:
    """(B, 1, H, W) → (B, 3, H, W). Raises ValueError for fractional numbers with transparency."""
    if pixels.shape[1] == 4:
        raise ValueError(
            f"{name} has transparency in fractional numbers; whole numbers from 0 to 255, or RGB, "
            "would work"
        )
    return pixels if pixels.shape[1] == 3 else pixels.expand(-1, 3, -1, -1)


def _checked_range(pixels: Tensor, name: str) -> Tensor:
    """Raises ValueError for fractional pixels of another range. Warns about [0, 1]."""
    low, high = pixels.min().item(), pixels.max().item()
    if max(-low, high) > FARTHEST:
        raise ValueError(
            f"{name} has fractional pixels from {low:g} to {high:g}; fractional pixels must be in "
            "[-1, 1], and pixels from 0 to 255 must be whole numbers (uint8)"
        )
    if 0 <= low <= DARK and 0.5 <= high <= 1:  # the pixels of a pale picture are above DARK
        warnings.warn(
            f"all pixels of {name} are between 0 and 1, but black is -1; 2 * pixels - 1 would "
            "convert pixels from 0 to 1",
            stacklevel=2,
        )
    return pixels
