"""Text embedding (and caption) → image embedding: the autoregressive prior.

z_t (B, E) and tokens (B, T) → z_i (B, E), written like a sentence of K words. Paper: section 2.2.
z_i becomes its principal components, largest first, each of them one of so many buckets. A causal
transformer reads the caption, z_t and the bucket of z_i·z_t, then says component after component.
Left out: a text encoder of its own, as the paper's has, before the transformer.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor, nn

from minidalle2.blocks.cache import Cache, read_on
from minidalle2.blocks.transformer import Transformer, causal_mask
from minidalle2.diffusion.guidance import drop_mask, guide
from minidalle2.pca import PCA
from minidalle2.prior import TEXT_DROP
from minidalle2.quantisation import dequantise, edges_by_quantile, edges_by_range, quantise
from minidalle2.tokenizer import PAD, empty_captions_like

VARIANCE_KEPT = 0.999  # by the components; the paper's 319 keep 99 %, but here they are few


@dataclass
class AutoregressivePriorConfig:
    vocab_size: int = 512
    context_length: int = 64  # most tokens of a caption
    clip_embedding: int = 128  # E
    components: int = 28  # K, of CLIP's E; training takes as many as keep VARIANCE_KEPT
    buckets: int = 128  # of each component, and of z_i·z_t
    width: int = 128
    layers: int = 4
    heads: int = 4


class AutoregressivePrior(nn.Module):
    """(caption, z_t, bucket of z_i·z_t, buckets of k components) → logits of the next: (B, N)."""

    def __init__(self, config: AutoregressivePriorConfig):
        super().__init__()
        self.config = config
        e, k, n, width = config.clip_embedding, config.components, config.buckets, config.width
        if not 1 <= k <= e:
            raise ValueError(f"an embedding of {e} numbers has 1 to {e} components, not {k}")
        self.token_embedding = nn.Embedding(config.vocab_size, width)
        self.position = nn.Parameter(torch.randn(config.context_length, width) * 0.02)
        self.text_projection = nn.Linear(e, width)
        self.null_text = nn.Parameter(torch.zeros(e))
        self.similarity_embedding = nn.Embedding(n + 1, width)  # the last: the text is dropped
        self.bucket_embedding = nn.Embedding(n, width)
        self.slot = nn.Parameter(torch.randn(1 + k, width) * 0.02)  # of z_t, z_i·z_t, components
        self.transformer = Transformer(width, config.layers, config.heads)
        self.out = nn.Linear(width, n)
        for table in (self.token_embedding, self.similarity_embedding, self.bucket_embedding):
            nn.init.normal_(table.weight, std=0.02)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)
        # What `measure` finds out about CLIP's embeddings; the checkpoint holds it all.
        self.register_buffer("mean", torch.zeros(e))
        self.register_buffer("components", torch.eye(k, e))
        self.register_buffer("edges", torch.linspace(-1, 1, n + 1).repeat(k, 1))
        self.register_buffer("similarity_edges", torch.linspace(-1, 1, n + 1)[None])

    @property
    def noise_size(self) -> int:
        """Standard normal numbers that decide one draw: one for z_i·z_t, one for each component."""
        return 1 + self.config.components

    # z_i ⇄ buckets

    def measure(self, z_i: Tensor, z_t: Tensor) -> float:
        """Take components and buckets from unit embeddings (N, E) of pictures and their captions,
        once, before training; → the share of the variance of z_i that the components lose.

        Components are cut by range, so none is ever off by more than half a bucket. z_i·z_t is cut
        by quantile: nobody needs its value back, and the top half of it is the upper buckets.
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
        with torch.autocast(z_i.device.type, enabled=False):  # bfloat16 would miss the bucket
            return quantise((z_i - self.mean) @ self.components.T, self.edges)

    def encode_similarity(self, z_i: Tensor, z_t: Tensor) -> Tensor:
        """→ (B,) the bucket of z_i·z_t: in training z_i is known, in sampling it is wished for."""
        return quantise((z_i * z_t).sum(-1, keepdim=True), self.similarity_edges)[:, 0]

    def decode(self, buckets: Tensor) -> Tensor:
        """The first k buckets (…, k), 0 ≤ k ≤ K → (…, E), unit length: their components at the
        middles of the buckets, all others at the mean. `decode(buckets[..., :k])` for growing k
        lets one see z_i come into being, coarse to fine."""
        *rows, k = buckets.shape
        with torch.autocast(self.mean.device.type, enabled=False):
            middles = dequantise(buckets.flatten(0, -2), self.edges[:k])
            z = F.normalize(self.mean + middles @ self.components[:k], dim=-1)
        return z.reshape(*rows, -1)

    # The network

    def forward(
        self, known: Tensor, similarity: Tensor, z_t: Tensor, tokens: Tensor, drop: Tensor
    ) -> Tensor:
        """known (B, k) buckets, k < K → logits (B, k+1, N): of each of them from those before it,
        and of the next. similarity (B,), z_t (B, E) unit, tokens (B, T); `drop` (B,) loses all
        three, because all three are about the text."""
        x, real = self.prefix(similarity, z_t, tokens, drop)  # (B, T+2, D), (B, T+2)
        x = torch.cat((x, self.embed(known, 0)), dim=1)  # (B, T+2+k, D)
        real = F.pad(real, (0, known.shape[1]), value=True)[:, None, None]
        x = self.transformer(x, causal_mask(x.shape[1], x.device) & real)
        return self.out(x[:, tokens.shape[1] + 1 :]).float()

    def prefix(
        self, similarity: Tensor, z_t: Tensor, tokens: Tensor, drop: Tensor
    ) -> tuple[Tensor, Tensor]:
        """→ what is read before the components (B, T+2, D), and where it is no padding (B, T+2)."""
        tokens = torch.where(drop[:, None], empty_captions_like(tokens), tokens)
        z_t = torch.where(drop[:, None], self.null_text, z_t * self.config.clip_embedding**0.5)
        similarity = similarity.masked_fill(drop, self.config.buckets)
        text = self.token_embedding(tokens) + self.position[: tokens.shape[1]]
        two = torch.stack((self.text_projection(z_t), self.similarity_embedding(similarity)), dim=1)
        real = F.pad(tokens != PAD, (0, 2), value=True)
        return torch.cat((text, two + self.slot[:2]), dim=1), real

    def embed(self, buckets: Tensor, first: int) -> Tensor:
        """Buckets (B, k) of the components from number `first` on → (B, k, D)."""
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
        """n draws of z_i for each caption, from noise x_T (B, n, 1+K) → (B, n, E), unit length;
        `steps` is the diffusion prior's: here each component is one."""
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
        """As `candidates` → their buckets (B, n, K). z_i·z_t is drawn from its training
        distribution above `percentile`; 0.5, the top half, did best in the paper."""
        n = x_T.shape[1]
        chance = normal_cdf(rearrange(x_T, "b n k -> (b n) k"))
        buckets = self.sample(
            repeat(z_t, "b e -> (b n) e", n=n), repeat(tokens, "b t -> (b n) t", n=n),
            above(percentile, chance[:, 0], self.config.buckets), chance[:, 1:],
            guidance, temperature,
        )  # fmt: skip
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
        """→ (B, K) buckets; chance (B, K), in [0, 1], picks each of them."""
        twice = 1 if guidance == 1 else 2  # guided, each row is read with its text and without
        drop = torch.arange(twice, device=z_t.device).repeat_interleave(len(z_t)) == 1
        x, real = self.prefix(
            similarity.repeat(twice), z_t.repeat(twice, 1), tokens.repeat(twice, 1), drop
        )
        mask = causal_mask(x.shape[1], x.device) & real[:, None, None]
        caches = [Cache(x.shape[1] + chance.shape[1]) for _ in self.transformer.blocks]
        chosen = []
        for k in range(chance.shape[1]):
            if k > 0:  # after the prefix, one component at a time
                x = self.embed(chosen[-1].repeat(twice)[:, None], k - 1)
                real = F.pad(real, (0, 1), value=True)
                mask = real[:, None, None]
            logits = self.out(read_on(self.transformer, x, caches, mask)[:, -1]).float()
            if twice == 2:
                logits = guide(*logits.chunk(2), guidance)
            chosen.append(pick(logits / temperature, chance[:, k]))
        return torch.stack(chosen, dim=1)


def autoregressive_prior_loss(
    prior: AutoregressivePrior, batch: tuple[Tensor, Tensor, Tensor], generator: torch.Generator
) -> Tensor:
    """Mean cross-entropy of the buckets of z_i alone, for (unit z_i, unit z_t, tokens)."""
    z_i, z_t, tokens = batch
    buckets, similarity = prior.encode(z_i), prior.encode_similarity(z_i, z_t)
    drop = drop_mask(len(z_i), TEXT_DROP, generator).to(z_i.device)
    logits = prior(buckets[:, :-1], similarity, z_t, tokens, drop)  # (B, K, N)
    return F.cross_entropy(logits.flatten(0, 1), buckets.flatten())


def pick(logits: Tensor, chance: Tensor) -> Tensor:
    """(B, N), (B,) in [0, 1] → (B,): where the summed probabilities reach `chance`. Near chances
    pick near buckets, and one number from a seed is enough for each."""
    reached = logits.softmax(-1).cumsum(-1)
    reached = reached / reached[:, -1:]  # rounding leaves the last a little off 1
    return (reached < chance[:, None]).sum(-1)


def above(percentile: float, chance: Tensor, buckets: int) -> Tensor:
    """(B,) chances in [0, 1] → (B,) of equally likely buckets, of those above `percentile`."""
    if not 0 <= percentile < 1:
        raise ValueError(f"percentile {percentile} leaves nothing; it is from 0 to below 1")
    share = percentile + (1 - percentile) * chance
    return (share * buckets).long().clamp(max=buckets - 1)


def normal_cdf(x: Tensor) -> Tensor:
    """Standard normal numbers → uniform ones in [0, 1]."""
    return (1 + torch.erf(x / 2**0.5)) / 2
