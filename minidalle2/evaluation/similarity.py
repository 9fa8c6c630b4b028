"""How near the draws of a prior come to what they should be: rows for the bench in priors.py.

Similarities are cosines. A good prior is as near to the true z_i as the caption allows, and as near
to z_t as real pictures are, no nearer; an unrelated caption's z_t is the control.
"""

import time
from dataclasses import dataclass

import torch
from torch import Tensor

from minidalle2.any_prior import AnyPrior
from minidalle2.clip import CLIP
from minidalle2.dalle2 import Sampling
from minidalle2.diffusion.sampling import Noise
from minidalle2.prior import nearest
from minidalle2.tokenizer import Tokenizer
from minidalle2.worlds.world import World

BATCH = 50  # captions at a time
COUNTS = (1, 2, 4, 8)  # of candidates to choose from
SCALES = (0.0, 1.0, 1.5, 2.0, 4.0)  # of guidance; Karlo, a public unCLIP, ships 4


@dataclass
class Pairs:
    """Pictures and their captions, as CLIP sees them."""

    z_i: Tensor  # (B, E), unit length
    z_t: Tensor  # (B, E), unit length
    tokens: Tensor  # (B, T)


@torch.no_grad()
def embedded(
    world: World, clip: CLIP, tokenizer: Tokenizer, n: int, seed: int, split: str
) -> Pairs:
    """n pairs of a split; the last batch is cut short."""
    generator, device = torch.Generator().manual_seed(seed), next(clip.parameters()).device
    z_i, captions = [], []
    for start in range(0, n, 500):
        images, texts = world.captioned(min(500, n - start), generator, split)
        z_i.append(clip.encode_image(images.to(device)))
        captions += texts
    tokens = tokenizer.cut(captions).to(device)
    return Pairs(torch.cat(z_i), clip.encode_text(tokens), tokens)


@torch.no_grad()
def draw(
    prior: AnyPrior, pairs: Pairs, n: int, guidance: float, steps: int = Sampling.prior_steps
) -> tuple[Tensor, float]:
    """→ n candidates for each caption (B, n, E), and the milliseconds that a caption took. The
    noise of caption b is that of seed b for every prior."""
    device, parts, started = pairs.z_t.device, [], time.perf_counter()
    for start in range(0, len(pairs.z_t), BATCH):
        rows = slice(start, start + BATCH)
        seeds = list(range(len(pairs.z_t)))[rows]
        x_T = Noise(seeds)(n, prior.noise_size).to(device)
        z = prior.candidates(pairs.z_t[rows], pairs.tokens[rows], x_T, steps, guidance)
        parts.append(z.cpu())  # which also waits for the device
    spent = time.perf_counter() - started
    return torch.cat(parts).to(device), 1_000 * spent / len(pairs.z_t)


def diversity(z: Tensor) -> float | None:
    """(B, n, E) → mean cosine of two candidates of one caption: 1 where all are alike; of one
    candidate None."""
    n = z.shape[1]
    if n == 1:
        return None
    cosines = z @ z.mT  # (B, n, n), the diagonal is 1
    return ((cosines.sum((1, 2)) - n) / (n * (n - 1))).mean().item()


def similarity_row(
    name: str, z: Tensor, pairs: Pairs, guidance: float | None = None, ms: float | None = None
) -> dict:
    """Means over all candidates (B, n, E), each taken for itself."""

    def cosine(other: Tensor) -> float:
        return (z * other[:, None]).sum(-1).mean().item()

    return {
        "prior": name, "guidance": guidance, "to true": cosine(pairs.z_i),
        "to text": cosine(pairs.z_t), "to unrelated": cosine(pairs.z_t.roll(1, 0)),
        "diversity": diversity(z), "ms": ms,
    }  # fmt: skip


def best_of_n_rows(
    name: str, z: Tensor, pairs: Pairs, counts: tuple[int, ...] = COUNTS
) -> list[dict]:
    """Of the first n of the candidates (B, ≥n, E) the one nearest to z_t, as in section 2.2."""
    rows = []
    for n in counts:
        best = z[torch.arange(len(z)), nearest(z[:, :n], pairs.z_t)[:, 0]]
        true, text = ((best * other).sum(-1).mean().item() for other in (pairs.z_i, pairs.z_t))
        rows.append({"prior": name, "n": n, "to true": true, "to text": text})
    return rows


def guidance_rows(
    name: str, prior: AnyPrior, pairs: Pairs, n: int, scales: tuple[float, ...] = SCALES
) -> list[dict]:
    """A similarity row a scale: the paper says that guiding the prior hurts, others guide much."""
    rows = []
    for scale in scales:
        z, ms = draw(prior, pairs, n, scale)
        rows.append(similarity_row(name, z, pairs, scale, ms))
    return rows
