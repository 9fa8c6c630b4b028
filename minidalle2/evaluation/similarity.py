"""Compares the candidates of a prior with the image embeddings that they should match.

All similarities are cosines. A good prior is as similar to the true z_i as the caption allows. It
is as similar to z_t as the z_i of real pictures are, but not more. The z_t of an unrelated caption
is the control. `minidalle2.commands.compare_priors` prints the rows. Letters: B captions, T tokens,
E embedding, n candidates.
"""

import time
from dataclasses import dataclass

import torch
from torch import Tensor

from minidalle2.clip import CLIP
from minidalle2.dalle2 import Sampling
from minidalle2.diffusion.sampling import Noise
from minidalle2.evaluation.work import prior_work
from minidalle2.storage.progress import doing, each, working
from minidalle2.tokenizer import Tokenizer
from minidalle2.training.world import World
from minidalle2.unclip import AnyPrior, nearest

BATCH = 50  # captions at a time
COUNTS = (1, 2, 4, 8)  # numbers of candidates
SCALES = (0.0, 1.0, 1.5, 2.0, 4.0)  # of guidance; Karlo, a public unCLIP, uses 4


@dataclass
class Pairs:
    """CLIP's embeddings of pictures and their captions."""

    z_i: Tensor  # (B, E), unit length
    z_t: Tensor  # (B, E), unit length
    tokens: Tensor  # (B, T)


@torch.no_grad()
def embedded(
    world: World, clip: CLIP, tokenizer: Tokenizer, n: int, seed: int, split: str
) -> Pairs:
    """Returns n pairs of a split. Captions with too many tokens are cut."""
    generator, device = torch.Generator().manual_seed(seed), next(clip.parameters()).device
    z_i, captions = [], []
    for start in each(range(0, n, 500), f"embedding {n} pictures"):
        images, texts = world.captioned(min(500, n - start), generator, split)
        z_i.append(clip.encode_image(images.to(device)))
        captions += texts
    with doing(f"embedding {n} captions"):
        tokens = tokenizer.cut(captions).to(device)
        return Pairs(torch.cat(z_i), clip.encode_text(tokens), tokens)


@torch.no_grad()
def draw(
    prior: AnyPrior,
    pairs: Pairs,
    n: int,
    guidance: float,
    steps: int = Sampling.prior_steps,
    activity: str = "imagining",
) -> tuple[Tensor, float]:
    """→ n candidates for each caption (B, n, E), and the milliseconds for one caption.

    Caption b has the noise of seed b, which is the same for every prior. `activity` is for the
    progress bar.
    """
    device, parts, started = pairs.z_t.device, [], time.perf_counter()
    with working(activity, prior_work(prior, n * len(pairs.z_t), steps, guidance)):
        for start in range(0, len(pairs.z_t), BATCH):
            rows = slice(start, start + BATCH)
            seeds = list(range(len(pairs.z_t)))[rows]
            x_T = Noise(seeds)(n, prior.noise_size).to(device)
            z = prior.candidates(pairs.z_t[rows], pairs.tokens[rows], x_T, steps, guidance)
            parts.append(z.cpu())  # the copy waits until the device has finished
    spent = time.perf_counter() - started
    return torch.cat(parts).to(device), 1_000 * spent / len(pairs.z_t)


def diversity(z: Tensor) -> float | None:
    """(B, n, E) → the mean cosine of two candidates of one caption; None for n = 1.

    1 means that all candidates of a caption are equal.
    """
    n = z.shape[1]
    if n == 1:
        return None
    cosines = z @ z.mT  # (B, n, n), the diagonal is 1
    return ((cosines.sum((1, 2)) - n) / (n * (n - 1))).mean().item()


def similarity_row(
    name: str, z: Tensor, pairs: Pairs, guidance: float | None = None, ms: float | None = None
) -> dict:
    """A row of means over all candidates (B, n, E): cosines, diversity and time."""

    def cosine(other: Tensor) -> float:
        return (z * other[:, None]).sum(-1).mean().item()

    return {
        "prior": name,
        "guidance": guidance,
        "to true": cosine(pairs.z_i),
        "to text": cosine(pairs.z_t),
        "to unrelated": cosine(pairs.z_t.roll(1, 0)),
        "diversity": diversity(z),
        "ms": ms,
    }


def best_of_n_rows(
    name: str, z: Tensor, pairs: Pairs, counts: tuple[int, ...] = COUNTS
) -> list[dict]:
    """A row for each n in `counts`: cosines of the best of the first n candidates.

    The best is the candidate nearest to z_t, as in section 2.2. `z` is (B, m, E) with m ≥
    max(counts).
    """
    rows = []
    for n in counts:
        best = nearest(z[:, :n], pairs.z_t)[:, 0]  # (B, E)
        true, text = ((best * other).sum(-1).mean().item() for other in (pairs.z_i, pairs.z_t))
        rows.append({"prior": name, "n": n, "to true": true, "to text": text})
    return rows


def guidance_rows(
    name: str, prior: AnyPrior, pairs: Pairs, n: int, scales: tuple[float, ...] = SCALES
) -> list[dict]:
    """A similarity row for each guidance scale.

    The paper says that guidance of the prior hurts. Other implementations use strong guidance.
    """
    rows = []
    for scale in scales:
        z, ms = draw(prior, pairs, n, scale, activity=f"{name}, guidance {scale:g}")
        rows.append(similarity_row(name, z, pairs, scale, ms))
    return rows
