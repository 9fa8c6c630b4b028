"""Interpolates between two pictures: both z_i and x_T move along great circles.

Paper: section 3.2, figure 4. If x_T is interpolated, too, both ends are reconstructions of the
pictures. If all frames have the same x_T, everything that z_i does not determine stays the same,
but the ends are not reconstructed.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from minidalle2.decoder import Decoder
from minidalle2.manipulations.inversion import Latents, Walk, decode
from minidalle2.storage.inputs import Numbers, as_floats, same_width


def slerp(a: Numbers, b: Numbers, theta: Numbers | float) -> Tensor:
    """Spherical interpolation: unit vectors (…, E), theta → (…, E), unit length.

    theta 0 gives a, theta 1 gives b. It must broadcast to (…, 1). The result is
    cos φ · a + sin φ · (the tangent at a that points to b), where φ is theta times the angle
    between a and b. Unlike the usual quotient of sines, this is also correct if a and b are
    parallel. Opposite vectors have no unique great circle between them. For them a fixed great
    circle is used. Vectors may also be NumPy arrays or lists. Raises ValueError for NaN, and for
    vectors of different widths.
    """
    a = as_floats(a, "a")
    b = same_width(as_floats(b, "b", a.device), a, "b")
    theta = theta if isinstance(theta, float) else as_floats(theta, "theta", a.device)
    along = (a * b).sum(-1, keepdim=True)
    across = b - along * a
    length = across.norm(dim=-1, keepdim=True)
    tangent = torch.where(length > 1e-6, across / length.clamp(min=1e-12), _some_tangent(a))
    angle = theta * torch.atan2(length, along)  # acos would be inexact near 0 and π
    return angle.cos() * a + angle.sin() * tangent


def _some_tangent(a: Tensor) -> Tensor:
    """(…, E) → (…, E): a unit vector orthogonal to `a`.

    It is made from the coordinate axis along which `a` has its smallest coordinate.
    """
    axis = F.one_hot(a.abs().argmin(-1), a.shape[-1]).to(a)
    return F.normalize(axis - (axis * a).sum(-1, keepdim=True) * a, dim=-1)


def slerp_noise(a: Tensor, b: Tensor, theta: Tensor) -> Tensor:
    """Interpolates between two x_T (B, 3, S, S) with theta (B,) → (B, 3, S, S).

    B can be 1 for one of them. Noise of many dimensions lies near a sphere. The mean of two x_T
    would be inside this sphere, where the decoder was never trained. Therefore the direction is
    interpolated along the great circle, and the length linearly.
    """
    a = as_floats(a, "a")
    b, theta = as_floats(b, "b", a.device), as_floats(theta, "theta", a.device).to(a)
    flat_a, flat_b, share = a.flatten(1), b.flatten(1), theta[:, None]
    length = torch.lerp(flat_a.norm(dim=1), flat_b.norm(dim=1), theta)[:, None]
    direction = slerp(F.normalize(flat_a, dim=1), F.normalize(flat_b, dim=1), share)
    return (length * direction).unflatten(1, a.shape[1:])


def between(a: Latents, b: Latents, theta: Tensor, x_T: Tensor | None = None) -> Latents:
    """The latents of B pictures between a and b, at theta (B,).

    If x_T (B, 3, S, S) is given, it is used and not interpolated.
    """
    theta = as_floats(theta, "theta", a.z_i.device)
    z_i = slerp(a.z_i, b.z_i, theta[:, None])
    return Latents(z_i, slerp_noise(a.x_T, b.x_T, theta) if x_T is None else x_T)


def interpolate(
    decoder: Decoder, a: Latents, b: Latents, frames: int, walk: Walk, x_T: Tensor | None = None
) -> Tensor:
    """The frames (frames, 3, S, S) from picture a to picture b (both B = 1), both ends included.

    If x_T (1, 3, S, S) is given, it is used for every frame. Raises ValueError for fewer than 2
    frames.
    """
    if frames < 2:
        raise ValueError(f"{frames} frames are too few; 2 (the two ends) or more would work")
    theta = torch.linspace(0, 1, frames, device=a.z_i.device)
    fixed = None if x_T is None else as_floats(x_T, "x_T").expand(frames, -1, -1, -1)
    return decode(decoder, between(a, b, theta, fixed), walk)
