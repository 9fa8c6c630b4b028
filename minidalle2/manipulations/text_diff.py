"""Edits a picture by two captions: rotates its z_i towards the difference of their embeddings.

Paper: section 3.3, figure 5 ("text diff"). z_d = normalise(z_t - z_t0), where z_t is the embedding
of the new caption and z_t0 that of the old caption, which describes the picture. z_i is rotated
towards z_d along the great circle, by a share theta of the angle between z_i and z_d. The result is
decoded from the x_T of the picture. If theta is too large, the decoder has never seen such a z_i in
training. `fitting_theta` chooses theta.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from minidalle2.clip import CLIP
from minidalle2.decoder import Decoder
from minidalle2.manipulations.interpolation import slerp
from minidalle2.manipulations.inversion import Latents, Walk, decode
from minidalle2.storage.inputs import Numbers, as_embeddings, as_floats
from minidalle2.tokenizer import Tokenizer, as_texts, clean

LARGEST = 0.5  # the paper's largest theta is between 0.25 and 0.5


@torch.no_grad()
def direction(
    clip: CLIP, tokenizer: Tokenizer, old: str | list[str], new: str | list[str]
) -> Tensor:
    """B old captions and B new captions (or one string each) → z_d (B, E), unit length.

    Raises ValueError if a caption is empty, or if an old and its new caption are equal. Raises
    PromptTooLong if a caption has too many tokens.
    """
    z_old, z_new = _embed(clip, tokenizer, old, new)
    return F.normalize(z_new - z_old, dim=-1)


@torch.no_grad()
def fitting_theta(
    clip: CLIP,
    tokenizer: Tokenizer,
    z_i: Tensor,
    old: str | list[str],
    new: str | list[str],
) -> Tensor:
    """z_i (B, E), B old and B new captions (or 1 of each for all) → theta (B, 1), at most LARGEST.

    This theta rotates z_i by the angle between the embeddings of the two captions. The paper shows
    a range of theta instead. In a well trained CLIP, two captions form about the same angle as two
    pictures of them. The more details the captions name, the better this theta is. Raises the
    errors of `direction`.
    """
    z_old, z_new = _embed(clip, tokenizer, old, new)
    z_i = as_embeddings(z_i, "z_i", z_old.shape[-1], z_old.device)
    z_d = F.normalize(z_new - z_old, dim=-1)
    share = angle(z_old, z_new) / angle(z_i, z_d)
    return share.clamp(max=LARGEST)[:, None]


def angle(a: Tensor, b: Tensor) -> Tensor:
    """Unit vectors (B, E), (B, E) → the angles between them (B,) in radians.

    Unlike acos, this is also exact near 0.
    """
    return 2 * torch.atan2((a - b).norm(dim=-1), (a + b).norm(dim=-1))


def _embed(
    clip: CLIP, tokenizer: Tokenizer, old: str | list[str], new: str | list[str]
) -> tuple[Tensor, Tensor]:
    """The embeddings z_t0, z_t (B, E) of old and new captions. Raises the errors of `direction`."""
    old, new = as_texts(old), as_texts(new)
    if len(old) != len(new):
        raise ValueError(
            f"there are {len(old)} old captions and {len(new)} new ones; give one new caption for "
            "each old caption"
        )
    for a, b in zip(old, new, strict=True):
        if clean(a) == clean(b):
            raise ValueError(
                f"both captions are {clean(a)!r}, so nothing would change; give a caption of what "
                "the picture shows and another caption of what it should show"
            )
    device = next(clip.parameters()).device
    captions = [clean(caption) for caption in (*old, *new)]
    return clip.encode_text(tokenizer(captions).to(device)).chunk(2)


def turn(z_i: Numbers, z_d: Numbers, theta: Numbers | float) -> Tensor:
    """z_i (B, E), z_d (B, E), both unit length → rotated z_i (B, E), unit length.

    theta must broadcast to (B, 1). 0 changes nothing. Raises ValueError if theta is not between 0
    and LARGEST.
    """
    z_i = as_floats(z_i, "z_i")
    theta = torch.as_tensor(theta, device=z_i.device)
    if not ((theta >= 0) & (theta <= LARGEST)).all():
        raise ValueError(f"theta {theta.max():g} is out of range; 0 to {LARGEST} would work")
    return slerp(z_i, z_d, theta)


def edit(
    decoder: Decoder, latents: Latents, z_d: Tensor, theta: Tensor | float, walk: Walk
) -> Tensor:
    """Latents of B pictures → edited pictures (B, 3, 32, 32): z_i is rotated, x_T is kept."""
    return decode(decoder, Latents(turn(latents.z_i, z_d, theta), latents.x_T), walk)
