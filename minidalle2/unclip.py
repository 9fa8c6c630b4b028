"""The whole unCLIP: text → tokens → text embedding → image embeddings → 32 → 64 → 128 px.

Each stage is a function that returns its result. `UnCLIP.generate` calls them one after another.
Paper: figure 2. Loading weights and running a part of the stages: dalle2.py.
Letters: B prompts, T tokens, E embedding, n candidates, k drawings of each prompt.
"""

from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from minidalle2.clip import CLIP
from minidalle2.decoder import CHANNELS, Decoder
from minidalle2.diffusion.sampling import Noise, clip_to_image, ddim, last
from minidalle2.tokenizer import Tokenizer, as_texts, clean
from minidalle2.upsampler import Upsampler


class AnyPrior(Protocol):
    """What UnCLIP needs of a prior: text embedding and caption → candidates of z_i."""

    noise_size: int  # how many standard normal numbers determine one candidate

    def candidates(
        self, z_t: Tensor, tokens: Tensor, x_T: Tensor, steps: int, guidance: float
    ) -> Tensor:
        """z_t (B, E), tokens (B, T), x_T (B, n, noise_size) → (B, n, E), unit length.

        The same x_T must give the same candidates."""


@dataclass
class Sampling:
    """How each stage is sampled."""

    candidates: int = 16  # n, draws of z_i; the paper draws 2 and keeps the one nearest to z_t
    prior_steps: int = 10  # of the diffusion prior
    prior_guidance: float = 1.5
    decoder_steps: int = 12
    decoder_guidance: float = 2.0
    decoder_guided_above: float = 0.0  # share of T below which the decoder is not guided
    drawings: int = 8  # k, drawn at 32 px from the k nearest candidates; CLIP selects one of them
    upsampler64_steps: int = 6
    upsampler128_steps: int = 4


@dataclass
class StartingNoise:
    """x_T of each stage. A field that is None is drawn from the seeds."""

    prior: Tensor | None = None  # (B, n, noise_size of the prior)
    decoder: Tensor | None = None  # (B, k, 3, 32, 32)
    upsampler64: Tensor | None = None  # (B, 3, 64, 64)
    upsampler128: Tensor | None = None  # (B, 3, 128, 128)


@dataclass(eq=False)
class Generation:
    """The result of each stage; None for stages that did not run."""

    prompts: list[str]
    tokens: Tensor  # (B, T)
    text_embedding: Tensor  # z_t (B, E), unit length
    candidates: Tensor | None = None  # (B, n, E), unit length
    image_embeddings: Tensor | None = None  # z_i (B, k, E): the k candidates nearest to z_t
    drawings: Tensor | None = None  # (B, k, 3, 32, 32) in [-1, 1], one of each image embedding
    selected_embedding: Tensor | None = None  # z_i (B, E) of the selected drawing
    image32: Tensor | None = None  # (B, 3, 32, 32), the selected drawing
    image64: Tensor | None = None  # (B, 3, 64, 64)
    image128: Tensor | None = None  # (B, 3, 128, 128)


@dataclass(eq=False)
class UnCLIP:
    """A tokenizer and five networks on one device, and how they are sampled by default.

    `dataclasses.replace(model, prior=other)` gives the same model with another part.
    """

    tokenizer: Tokenizer
    clip: CLIP
    prior: AnyPrior
    decoder: Decoder
    upsampler64: Upsampler
    upsampler128: Upsampler
    sampling: Sampling = field(default_factory=Sampling)

    @property
    def device(self) -> torch.device:
        return next(self.clip.parameters()).device

    @torch.no_grad()
    def generate(
        self,
        prompts: str | list[str],
        seeds: list[int] | None = None,
        sampling: Sampling | None = None,
        noise: StartingNoise | None = None,
    ) -> Generation:
        """Draws one picture of each prompt. `seeds` (default 0, 1, …) determine all noise.

        A picture depends on its own prompt and seed only. Raises ValueError for an empty prompt,
        PromptTooLong for a prompt with too many tokens.
        """
        sampling, prompts = sampling or self.sampling, as_texts(prompts)
        noise = self.starting_noise(check_seeds(prompts, seeds), sampling, noise)
        tokens = self.tokenize(prompts)
        made = Generation(prompts, tokens, self.clip.encode_text(tokens))
        made.candidates = self.imagine(made.text_embedding, tokens, noise.prior, sampling)
        k = noise.decoder.shape[1]
        made.image_embeddings = nearest(made.candidates, made.text_embedding, k)
        made.drawings = self.draw(made.image_embeddings, tokens, noise.decoder, sampling)
        selected = most_faithful(self.clip, made.drawings, made.image_embeddings)
        made.selected_embedding = pick(made.image_embeddings, selected)
        made.image32 = pick(made.drawings, selected)
        made.image64 = self.upsample64(made.image32, noise.upsampler64, sampling)
        made.image128 = self.upsample128(made.image64, noise.upsampler128, sampling)
        return made

    def tokenize(self, prompts: str | list[str]) -> Tensor:
        """B prompts → tokens (B, T). Raises ValueError and PromptTooLong as `generate`."""
        return self.tokenizer([clean(prompt) for prompt in as_texts(prompts)]).to(self.device)

    @torch.no_grad()
    def imagine(
        self, text_embedding: Tensor, tokens: Tensor, x_T: Tensor, sampling: Sampling
    ) -> Tensor:
        """z_t (B, E), tokens (B, T), x_T (B, n, noise_size) → candidates of z_i (B, n, E)."""
        steps, guidance = sampling.prior_steps, sampling.prior_guidance
        return self.prior.candidates(text_embedding, tokens, x_T, steps, guidance)

    @torch.no_grad()
    def draw(
        self, image_embeddings: Tensor, tokens: Tensor, x_T: Tensor, sampling: Sampling
    ) -> Tensor:
        """z_i (B, k, E), tokens (B, T), x_T (B, k, 3, 32, 32) → drawings (B, k, 3, 32, 32)."""
        k = image_embeddings.shape[1]
        denoise = self.decoder.denoiser(
            image_embeddings.flatten(0, 1),
            tokens.repeat_interleave(k, dim=0),
            sampling.decoder_guidance,
            sampling.decoder_guided_above,
        )
        diffusion, steps = self.decoder.diffusion, sampling.decoder_steps
        states = ddim(diffusion, denoise, x_T.flatten(0, 1), steps, clip_to_image)
        return last(states).view_as(x_T)

    @torch.no_grad()
    def upsample64(self, image32: Tensor, x_T: Tensor, sampling: Sampling) -> Tensor:
        """(B, 3, 32, 32), x_T (B, 3, 64, 64) → (B, 3, 64, 64) in [-1, 1]."""
        return upsample(self.upsampler64, image32, x_T, sampling.upsampler64_steps)

    @torch.no_grad()
    def upsample128(self, image64: Tensor, x_T: Tensor, sampling: Sampling) -> Tensor:
        """(B, 3, 64, 64), x_T (B, 3, 128, 128) → (B, 3, 128, 128) in [-1, 1]."""
        return upsample(self.upsampler128, image64, x_T, sampling.upsampler128_steps)

    def starting_noise(
        self, seeds: list[int], sampling: Sampling, given: StartingNoise | None = None
    ) -> StartingNoise:
        """x_T of every stage from one seed per picture, on the device. Given fields are kept.

        Each stage has its own stream of random numbers. Therefore a stage that starts alone has
        the same noise as in the full sequence.
        """
        size = self.decoder.config.image_size
        shapes = {
            "prior": (sampling.candidates, self.prior.noise_size),
            "decoder": (sampling.drawings, CHANNELS, size, size),
        }
        for stage in ("upsampler64", "upsampler128"):
            upsampler = getattr(self, stage)
            side = upsampler.config.size if upsampler else 1  # published weights may lack one
            shapes[stage] = (CHANNELS, side, side)
        noise = {}
        for stream, (stage, shape) in enumerate(shapes.items()):
            x_T = getattr(given, stage, None)
            x_T = stage_noise(seeds, stream)(*shape) if x_T is None else x_T
            noise[stage] = x_T.to(self.device)
        return StartingNoise(**noise)


def stage_noise(seeds: list[int], stream: int) -> Noise:
    """The noise of one stage: streams 0 to 3 are prior, decoder, upsampler64 and upsampler128."""
    return Noise([4 * int(seed) + stream for seed in seeds])


def upsample(upsampler: Upsampler, low: Tensor, x_T: Tensor, steps: int) -> Tensor:
    """(B, 3, S, S), x_T (B, 3, 2S, 2S) → (B, 3, 2S, 2S) in [-1, 1]."""
    denoise = upsampler.denoiser(low.to(x_T.device))
    return last(ddim(upsampler.diffusion, denoise, x_T, steps, clip_to_image))


def nearest(candidates: Tensor, text_embedding: Tensor, k: int = 1) -> Tensor:
    """(B, n, E), (B, E) → (B, k, E): the candidates with the highest cosines to z_t, best first.

    Section 2.2. If k > n, the order starts again at the first.
    """
    order = (candidates * text_embedding[:, None]).sum(-1)
    order = order.argsort(dim=1, descending=True, stable=True)
    chosen = order[:, torch.arange(k, device=order.device) % order.shape[1]]  # (B, k)
    return candidates[torch.arange(len(chosen), device=chosen.device)[:, None], chosen]


def most_faithful(clip: CLIP, drawings: Tensor, image_embeddings: Tensor) -> Tensor:
    """(B, k, 3, S, S), (B, k, E) → (B,): which drawing shows its own z_i best, as CLIP sees it.

    The caption is not used. DALL·E 1 selects by the text, but an image embedding contains more.
    """
    seen = clip.encode_image(drawings.flatten(0, 1)).view_as(image_embeddings)
    return (seen * image_embeddings).sum(-1).argmax(1)


def pick(values: Tensor, index: Tensor) -> Tensor:
    """(B, k, …), (B,) → (B, …): row by row, the value with that index."""
    return values[torch.arange(len(index), device=index.device), index]


def check_seeds(prompts: list[str], seeds: list[int] | None) -> list[int]:
    """The seeds, by default 0, 1, … Raises ValueError unless each prompt has one."""
    seeds = list(range(len(prompts))) if seeds is None else seeds
    if len(seeds) != len(prompts) or not prompts:
        raise ValueError(f"{len(seeds)} seeds for {len(prompts)} prompts; give one seed for each")
    return seeds
