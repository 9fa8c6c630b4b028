"""A picture edited by two captions: its z_i is turned towards what tells one from the other.

Paper: section 3.3, figure 5. z_d = normalise(z_t - z_t0), with z_t of the caption that is wanted
and z_t0 of the one that describes the picture; z_i moves along the great circle to z_d, a share
theta of the way, and is decoded from the x_T of the picture. How far is too far? Past the picture
that is wanted z_i leaves what the decoder has seen; `fitting_theta` stops there.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from minidalle2.clip import CLIP
from minidalle2.dalle2 import clean
from minidalle2.decoder import Decoder
from minidalle2.manipulations.interpolation import slerp
from minidalle2.manipulations.inversion import Latents, Walk, decode
from minidalle2.tokenizer import Tokenizer

LARGEST = 0.5  # theta ends at 0.25 to 0.5 in the paper


@torch.no_grad()
def direction(clip: CLIP, tokenizer: Tokenizer, old: list[str], new: list[str]) -> Tensor:
    """Captions of B pictures and of what they shall become → z_d (B, E), unit length.

    Raises ValueError where two captions are empty or equal, PromptTooLong where one is too long.
    """
    z_old, z_new = _embed(clip, tokenizer, old, new)
    return F.normalize(z_new - z_old, dim=-1)


@torch.no_grad()
def fitting_theta(
    clip: CLIP, tokenizer: Tokenizer, z_i: Tensor, old: list[str], new: list[str]
) -> Tensor:
    """z_i (B, E), B pairs of captions as `direction` takes them, or one for all → theta (B, 1) that
    turns z_i by the angle between the two captions, at most LARGEST.

    Not in the paper, which looked at a range of theta: but where CLIP fits, two captions are about
    as far apart as two pictures of them. The angle is the more exact, the more the captions say.
    """
    z_old, z_new = _embed(clip, tokenizer, old, new)
    z_d = F.normalize(z_new - z_old, dim=-1)
    share = angle(z_old, z_new) / angle(z_i, z_d)
    return share.clamp(max=LARGEST)[:, None]


def angle(a: Tensor, b: Tensor) -> Tensor:
    """(B, E), (B, E) unit vectors → (B,) radians; exact also near 0, where acos is not."""
    return 2 * torch.atan2((a - b).norm(dim=-1), (a + b).norm(dim=-1))


def _embed(
    clip: CLIP, tokenizer: Tokenizer, old: list[str], new: list[str]
) -> tuple[Tensor, Tensor]:
    """→ z_t0, z_t (B, E), checked."""
    for a, b in zip(old, new, strict=True):
        if clean(a) == clean(b):
            raise ValueError(
                f"both captions are {clean(a)!r}, so nothing would change; say what the picture "
                "shows and what it shall show"
            )
    device = next(clip.parameters()).device
    captions = [clean(caption) for caption in (*old, *new)]
    return clip.encode_text(tokenizer(captions).to(device)).chunk(2)


def turn(z_i: Tensor, z_d: Tensor, theta: Tensor | float) -> Tensor:
    """(B, E), (B, E) unit vectors → (B, E), unit length; theta (broadcast against (B, 1)) is 0 to
    LARGEST, and 0 changes nothing. Raises ValueError where it is not."""
    theta = torch.as_tensor(theta, device=z_i.device)
    if not ((theta >= 0) & (theta <= LARGEST)).all():
        raise ValueError(f"theta {theta.max():g} is out of range; 0 to {LARGEST} would work")
    return slerp(z_i, z_d, theta)


def edit(
    decoder: Decoder, latents: Latents, z_d: Tensor, theta: Tensor | float, walk: Walk
) -> Tensor:
    """B pictures → (B, 3, 32, 32): each with its z_i turned and its own x_T."""
    return decode(decoder, Latents(turn(latents.z_i, z_d, theta), latents.x_T), walk)
