"""The autoregressive prior: text embedding and caption → image embedding, number by number.

z_t (B, E) and tokens (B, T) → z_i (B, E). Paper: section 2.2. z_i is represented by its K first
principal components. Each component is quantised into N buckets. A causal transformer reads the
caption, z_t and the bucket of the cosine z_i·z_t. Then it predicts one component after another, in
the order of their variance, as a language model predicts words.
Left out: the paper's separate text encoder before the transformer.
Letters: B batch, T tokens, E embedding, D width, K components, N buckets, M training pairs.
"""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor, nn

from minidalle2.blocks.transformer import Transformer, causal_mask
from minidalle2.blocks.validation import require, require_positive
from minidalle2.diffusion.guidance import drop_mask, guide
from minidalle2.prior import TEXT_DROP
from minidalle2.priors.causal_cache import Cache, read_on
from minidalle2.priors.pca import PCA
from minidalle2.priors.quantisation import dequantise, edges_by_quantile, edges_by_range, quantise
from minidalle2.tokenizer import PAD, empty_captions_like

VARIANCE_KEPT = 0.999  # by the components; 0.99 in the paper, but here few components keep more


@dataclass
class AutoregressivePriorConfig:
    vocab_size: int = 512
    context_length: int = 64  # most tokens of a caption
    clip_embedding: int = 128  # E
    components: int = 28  # K; training replaces it by the number that keeps VARIANCE_KEPT
    buckets: int = 128  # N, of each component and of z_i·z_t
    width: int = 128
    layers: int = 4
    heads: int = 4

    def __post_init__(self):
        require_positive(self, "vocab_size context_length clip_embedding width heads")
        require(self.buckets >= 2, f"quantisation needs 2 buckets or more, not {self.buckets}")
        require(
            1 <= self.components <= self.clip_embedding,
            f"an embedding of {self.clip_embedding} numbers has 1 to {self.clip_embedding} "
            f"components, not {self.components}",
        )


class AutoregressivePrior(nn.Module):
    """Predicts the bucket of each component from the caption, z_t, z_i·z_t and the earlier ones."""

    def __init__(self, config: AutoregressivePriorConfig):
        super().__init__()
        self.config = config
        e, k, n, width = config.clip_embedding, config.components, config.buckets, config.width
        self.token_embedding = nn.Embedding(config.vocab_size, width)
        self.position = nn.Parameter(torch.randn(config.context_length, width) * 0.02)
        self.text_projection = nn.Linear(e, width)
        self.null_text = nn.Parameter(torch.zeros(e))
        self.similarity_embedding = nn.Embedding(n + 1, width)  # the last row: text dropped
        self.bucket_embedding = nn.Embedding(n, width)
        # Position embeddings of z_t, z_i·z_t and all components but the last, which is never read.
        self.slot = nn.Parameter(torch.randn(1 + k, width) * 0.02)
        self.transformer = Transformer(width, config.layers, config.heads)
        self.out = nn.Linear(width, n)
        for table in (self.token_embedding, self.similarity_embedding, self.bucket_embedding):
            nn.init.normal_(table.weight, std=0.02)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)
        # Properties of CLIP's embeddings. `measure` sets them, and the checkpoint contains them.
        self.register_buffer("mean", torch.zeros(e))
        self.register_buffer("components", torch.eye(k, e))
        self.register_buffer("edges", torch.linspace(-1, 1, n + 1).repeat(k, 1))
        self.register_buffer("similarity_edges", torch.linspace(-1, 1, n + 1)[None])

    @property
    def noise_size(self) -> int:
        """How many normal numbers determine a candidate: one for z_i·z_t, one per component."""
        return 1 + self.config.components

    # z_i ⇄ buckets

    def measure(self, z_i: Tensor, z_t: Tensor) -> float:
        """Sets components and buckets from z_i, z_t (M, E) of pictures and their captions.

        z_i and z_t have unit length. Called once, before training. Returns the share of the
        variance of z_i that the components lose. The buckets of a component have equal widths, so
        that the error is at most half a bucket everywhere. The buckets of z_i·z_t lie between
        quantiles, so that the upper half of the buckets holds the upper half of the pairs. No
        bucket of z_i·z_t is ever converted back to a number.
        """
        pca = PCA.fit(z_i, self.config.components)
        self.mean.copy_(pca.mean)
        self.components.copy_(pca.components)
        self.edges.copy_(edges_by_range(pca.project(z_i), self.config.buckets))
        similarity = (z_i * z_t).sum(-1, keepdim=True)
        self.similarity_edges.copy_(edges_by_quantile(similarity, self.config.buckets))
        return pca.error(z_i)

    def encode(self, z_i: Tensor) -> Tensor:
        """(B, E) → (B, K) buckets."""
        with torch.autocast(z_i.device.type, enabled=False):  # bfloat16 would give wrong buckets
            return quantise((z_i - self.mean) @ self.components.T, self.edges)

    def encode_similarity(self, z_i: Tensor, z_t: Tensor) -> Tensor:
        """z_i, z_t (B, E) → (B,) the buckets of z_i·z_t.

        Used in training, where z_i is known. In sampling, `draw` chooses the bucket.
        """
        return quantise((z_i * z_t).sum(-1, keepdim=True), self.similarity_edges)[:, 0]

    def decode(self, buckets: Tensor) -> Tensor:
        """Buckets of the first k components (…, k), 0 ≤ k ≤ K → z_i (…, E), unit length.

        Each of the k components gets the middle of its bucket, and each other component its mean.
        So `decode(buckets[..., :k])` with growing k shows how z_i emerges from coarse to fine.
        """
        *rows, k = buckets.shape
        with torch.autocast(self.mean.device.type, enabled=False):
            middles = dequantise(buckets.flatten(0, -2), self.edges[:k])
            z = F.normalize(self.mean + middles @ self.components[:k], dim=-1)
        return z.reshape(*rows, -1)

    # The network

    def forward(
        self, known: Tensor, similarity: Tensor, z_t: Tensor, tokens: Tensor, drop: Tensor
    ) -> Tensor:
        """Buckets of the first k < K components (B, k) → logits of k+1 components (B, k+1, N).

        The logits of a component depend on the components before it only. similarity (B,) is the
        bucket of z_i·z_t, z_t (B, E) has unit length, tokens (B, T). Where `drop` (B,) is True, all
        three are dropped, because all three contain information about the text.
        """
        x, real = self.prefix(similarity, z_t, tokens, drop)  # (B, T+2, D), (B, T+2)
        x = torch.cat((x, self.embed(known, 0)), dim=1)  # (B, T+2+k, D)
        real = F.pad(real, (0, known.shape[1]), value=True)[:, None, None]
        x = self.transformer(x, causal_mask(x.shape[1], x.device) & real)
        return self.out(x[:, tokens.shape[1] + 1 :]).float()

    def prefix(
        self, similarity: Tensor, z_t: Tensor, tokens: Tensor, drop: Tensor
    ) -> tuple[Tensor, Tensor]:
        """→ the inputs before the components (B, T+2, D), and a mask (B, T+2), False at padding."""
        tokens = torch.where(drop[:, None], empty_captions_like(tokens), tokens)
        z_t = torch.where(drop[:, None], self.null_text, z_t * self.config.clip_embedding**0.5)
        similarity = similarity.masked_fill(drop, self.config.buckets)
        text = self.token_embedding(tokens) + self.position[: tokens.shape[1]]
        two = torch.stack((self.text_projection(z_t), self.similarity_embedding(similarity)), dim=1)
        real = F.pad(tokens != PAD, (0, 2), value=True)
        return torch.cat((text, two + self.slot[:2]), dim=1), real

    def embed(self, buckets: Tensor, first: int) -> Tensor:
        """Buckets (B, k) of k components, starting with component `first` → inputs (B, k, D)."""
        return self.bucket_embedding(buckets) + self.slot[2 + first : 2 + first + buckets.shape[1]]

    # Sampling

    def candidates(
        self,
        z_t: Tensor,
        tokens: Tensor,
        x_T: Tensor,
        steps: int,
        guidance: float,
        temperature: float = 1.0,
        percentile: float = 0.5,
    ) -> Tensor:
        """Noise x_T (B, n, 1+K) → n candidates of z_i for each caption (B, n, E), unit length.

        `steps` is ignored. Only the diffusion prior has a number of steps.
        """
        return self.decode(self.draw(z_t, tokens, x_T, guidance, temperature, percentile))

    def draw(
        self,
        z_t: Tensor,
        tokens: Tensor,
        x_T: Tensor,
        guidance: float,
        temperature: float = 1.0,
        percentile: float = 0.5,
    ) -> Tensor:
        """Like `candidates`, but returns the buckets (B, n, K).

        z_i·z_t is drawn from the part of its training distribution above `percentile`. In the paper
        0.5, the upper half, was best.
        """
        n = x_T.shape[1]
        chance = normal_cdf(rearrange(x_T, "b n k -> (b n) k"))
        buckets = self.sample(
            repeat(z_t, "b e -> (b n) e", n=n),
            repeat(tokens, "b t -> (b n) t", n=n),
            above(percentile, chance[:, 0], self.config.buckets),
            chance[:, 1:],
            guidance,
            temperature,
        )
        return rearrange(buckets, "(b n) k -> b n k", n=n)

    @torch.no_grad()
    def sample(
        self,
        z_t: Tensor,
        tokens: Tensor,
        similarity: Tensor,
        chance: Tensor,
        guidance: float,
        temperature: float = 1.0,
    ) -> Tensor:
        """→ buckets (B, K). chance (B, K), in [0, 1], determines which bucket is drawn."""
        twice = 1 if guidance == 1 else 2  # with guidance, each row is read with and without text
        drop = torch.arange(twice, device=z_t.device).repeat_interleave(len(z_t)) == 1
        x, real = self.prefix(
            similarity.repeat(twice), z_t.repeat(twice, 1), tokens.repeat(twice, 1), drop
        )
        mask = causal_mask(x.shape[1], x.device) & real[:, None, None]
        caches = [Cache(x.shape[1] + chance.shape[1]) for _ in self.transformer.blocks]
        chosen = []
        for k in range(chance.shape[1]):
            if k > 0:  # the prefix is read once, then one component at a time
                x = self.embed(chosen[-1].repeat(twice)[:, None], k - 1)
                real = F.pad(real, (0, 1), value=True)
                mask = real[:, None, None]
            logits = self.out(read_on(self.transformer, x, caches, mask)[:, -1]).float()
            if twice == 2:
                logits = guide(*logits.chunk(2), guidance)
            chosen.append(pick(logits / temperature, chance[:, k]))
        return torch.stack(chosen, dim=1)


def measured_prior(
    config: AutoregressivePriorConfig, z_i: Tensor, z_t: Tensor
) -> AutoregressivePrior:
    """An untrained prior for embeddings like z_i, z_t (M, E).

    It has as many components as keep VARIANCE_KEPT of the variance of z_i, and fitting buckets.
    """
    components = len(PCA.keeping(z_i, VARIANCE_KEPT).variance)
    prior = AutoregressivePrior(replace(config, components=components))
    prior.measure(z_i, z_t)
    return prior


def autoregressive_draws(
    prior: AutoregressivePrior, n: int, generator: torch.Generator
) -> tuple[Tensor]:
    """The random numbers of one training step: which texts to drop (n,)."""
    return (drop_mask(n, TEXT_DROP, generator),)


def autoregressive_prior_loss(
    prior: AutoregressivePrior, batch: tuple[Tensor, Tensor, Tensor], generator: torch.Generator
) -> Tensor:
    """The loss of a batch of (unit z_i, unit z_t, tokens) with fresh random numbers."""
    (drop,) = autoregressive_draws(prior, len(batch[0]), generator)
    return autoregressive_loss_at(prior, batch, (drop.to(batch[0].device),))


def autoregressive_loss_at(
    prior: AutoregressivePrior, batch: tuple[Tensor, Tensor, Tensor], draws: tuple[Tensor]
) -> Tensor:
    """The mean cross-entropy of the buckets of z_i, for given random numbers.

    The bucket of z_i·z_t is an input only and is not predicted.
    """
    (z_i, z_t, tokens), (drop,) = batch, draws
    buckets, similarity = prior.encode(z_i), prior.encode_similarity(z_i, z_t)
    logits = prior(buckets[:, :-1], similarity, z_t, tokens, drop)  # (B, K, N)
    return F.cross_entropy(logits.flatten(0, 1), buckets.flatten())


def pick(logits: Tensor, chance: Tensor) -> Tensor:
    """Logits (B, N), chance (B,) in [0, 1] → (B,): the bucket whose cumulative probability is the
    first to reach `chance`.

    This needs one random number per bucket. Similar numbers give neighbouring buckets.
    """
    reached = logits.softmax(-1).cumsum(-1)
    reached = reached / reached[:, -1:]  # because of rounding, the last one is not exactly 1
    return (reached < chance[:, None]).sum(-1)


def above(percentile: float, chance: Tensor, buckets: int) -> Tensor:
    """Chances (B,) in [0, 1] → (B,): equally probable buckets above `percentile`.

    Raises ValueError unless 0 ≤ percentile < 1.
    """
    if not 0 <= percentile < 1:
        raise ValueError(f"percentile must be from 0 to below 1, not {percentile}")
    share = percentile + (1 - percentile) * chance
    return (share * buckets).long().clamp(max=buckets - 1)


def normal_cdf(x: Tensor) -> Tensor:
    """Standard normal numbers → uniformly distributed numbers in [0, 1]."""
    return (1 + torch.erf(x / 2**0.5)) / 2
