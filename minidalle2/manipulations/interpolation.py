"""From one picture to another: along the great circle between their z_i, and that of their x_T.

Paper: section 3.2, figure 4. With x_T interpolated, too, both ends are the pictures themselves;
with one x_T for all frames what z_i does not say stays put, and no end is reconstructed.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from minidalle2.decoder import Decoder
from minidalle2.manipulations.inversion import Latents, Walk, decode


def slerp(a: Tensor, b: Tensor, theta: Tensor | float) -> Tensor:
    """Unit vectors (…, E), share of the way (broadcast against (…, 1)) → (…, E), unit length.

    Written as cos · a + sin · (the direction at a that leads to b), which, unlike the usual
    quotient of sines, also holds where a and b are parallel. Opposite ones have no one great circle
    between them: a fixed one is taken.
    """
    along = (a * b).sum(-1, keepdim=True)
    across = b - along * a
    length = across.norm(dim=-1, keepdim=True)
    tangent = torch.where(length > 1e-6, across / length.clamp(min=1e-12), _some_tangent(a))
    angle = theta * torch.atan2(length, along)  # exact also where acos is not, near its ends
    return angle.cos() * a + angle.sin() * tangent


def _some_tangent(a: Tensor) -> Tensor:
    """(…, E) → (…, E) a unit vector at right angles: the axis that a leans on least, made so."""
    axis = F.one_hot(a.abs().argmin(-1), a.shape[-1]).to(a)
    return F.normalize(axis - (axis * a).sum(-1, keepdim=True) * a, dim=-1)


def slerp_noise(a: Tensor, b: Tensor, theta: Tensor) -> Tensor:
    """x_T of two pictures (B, 3, S, S), or of one (B = 1) for all, theta (B,) → (B, 3, S, S).

    Noise of many dimensions lies near a sphere, whose inside the decoder has never seen: the mean
    of two is too weak. The direction goes along the circle, the length straight.
    """
    flat_a, flat_b, share = a.flatten(1), b.flatten(1), theta[:, None]
    length = torch.lerp(flat_a.norm(dim=1), flat_b.norm(dim=1), theta)[:, None]
    direction = slerp(F.normalize(flat_a, dim=1), F.normalize(flat_b, dim=1), share)
    return (length * direction).unflatten(1, a.shape[1:])


def between(a: Latents, b: Latents, theta: Tensor, x_T: Tensor | None = None) -> Latents:
    """The latents of B pictures each at its theta (B,) between two; a given x_T (B, 3, S, S) is
    kept for all."""
    z_i = slerp(a.z_i, b.z_i, theta[:, None])
    return Latents(z_i, slerp_noise(a.x_T, b.x_T, theta) if x_T is None else x_T)


def interpolate(
    decoder: Decoder, a: Latents, b: Latents, frames: int, walk: Walk, x_T: Tensor | None = None
) -> Tensor:
    """The way from one picture (B = 1) to another → (frames, 3, S, S), both ends included.

    A given x_T (1, 3, S, S) is used for every frame. Raises ValueError for fewer than 2 frames.
    """
    if frames < 2:
        raise ValueError(f"{frames} frames are too few; 2, the ends alone, would work")
    theta = torch.linspace(0, 1, frames, device=a.z_i.device)
    fixed = None if x_T is None else x_T.expand(frames, -1, -1, -1)
    return decode(decoder, between(a, b, theta, fixed), walk)
