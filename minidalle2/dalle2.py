"""The whole machine: text → tokens → text embedding → image embedding → 32 → 64 → 128 px.

`generate` keeps every intermediate, starts after any stage that you bring the result of, and stops
after any stage you name. Paper: figure 2.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from minidalle2.any_prior import AnyPrior, prior_of
from minidalle2.clip import CLIP, CLIPConfig
from minidalle2.decoder import CHANNELS, Decoder, DecoderConfig
from minidalle2.diffusion.sampling import Noise, clip_to_image, ddim, last
from minidalle2.memory import keep_freed_memory
from minidalle2.prior import Prior, PriorConfig, nearest
from minidalle2.tokenizer import Tokenizer
from minidalle2.training.checkpoints import CheckpointError, load_model
from minidalle2.upsampler import Upsampler, UpsamplerConfig

STAGES = ("text_embedding", "image_embedding", "image32", "image64", "image128")
MODELS = {
    "clip": (CLIPConfig, CLIP),
    "prior": (PriorConfig, Prior),
    "decoder": (DecoderConfig, Decoder),
    "upsampler64": (UpsamplerConfig, Upsampler),
    "upsampler128": (UpsamplerConfig, Upsampler),
}
WEIGHTS = Path(__file__).parent / "weights"  # the committed weights, a folder a world


@dataclass
class Sampling:
    """How each stage is sampled."""

    candidates: int = 16  # draws of z_i; the paper draws 2 and decodes the one nearest to z_t
    prior_steps: int = 10  # of the diffusion prior; the other takes one for each component
    prior_guidance: float = 1.5
    decoder_steps: int = 12
    decoder_guidance: float = 2.0
    drawings: int = 8  # at 32 px, of the candidates nearest to z_t; CLIP keeps the most faithful
    upsampler64_steps: int = 6
    upsampler128_steps: int = 4


@dataclass
class Generation:
    """What each stage made; None where `generate` did not get to it or started after it."""

    prompts: list[str]
    tokens: Tensor  # (B, T)
    text_embedding: Tensor  # z_t (B, E), unit length
    candidates: Tensor | None = None  # (B, n, E), unit length
    image_embedding: Tensor | None = None  # z_i (B, E), unit length, that the picture is drawn from
    drawings: Tensor | None = None  # (B, k, 3, 32, 32) in [-1, 1], nearest candidate first
    image32: Tensor | None = None  # (B, 3, 32, 32), one of the drawings
    image64: Tensor | None = None
    image128: Tensor | None = None


@dataclass
class StartingNoise:
    """x_T of each stage, in place of the noise that the seeds would give."""

    prior: Tensor | None = None  # (B, n, noise_size of the prior; of diffusion's E)
    decoder: Tensor | None = None  # (B, k, 3, 32, 32)
    upsampler64: Tensor | None = None  # (B, 3, 64, 64)
    upsampler128: Tensor | None = None  # (B, 3, 128, 128)


def refuse_unless(config: dict, needed: dict, where: Path) -> None:
    """Raises CheckpointError where a config has another value of something than is needed."""
    for name, value in needed.items():
        if config.get(name, value) != value:
            raise CheckpointError(
                f"{where} has {name} {config[name]}, but with what lies beside it {value} is "
                "needed; train it with that"
            )


class DALLE2:
    """A tokenizer and the five networks, all on one device. From then on the process keeps the
    memory that it has once needed."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        clip: CLIP,
        prior: AnyPrior,
        decoder: Decoder,
        upsampler64: Upsampler,
        upsampler128: Upsampler,
    ):
        keep_freed_memory()
        self.tokenizer = tokenizer
        self.clip, self.prior, self.decoder = clip, prior, decoder
        self.upsampler64, self.upsampler128 = upsampler64, upsampler128

    def check_fit(self, folder: Path, prior_stage: str = "prior") -> None:
        """Raises CheckpointError where the stages in `folder` come from different trainings."""
        needed = {
            "vocab_size": self.tokenizer.vocab_size,
            "clip_embedding": self.clip.config.embedding,
            "image_size": 32,
        }
        stages = {"clip": self.clip, prior_stage: self.prior, "decoder": self.decoder}
        for stage, model in stages.items():
            config = vars(model.config)
            # Positions beyond those that the tokenizer fills do no harm.
            positions = max(self.tokenizer.context_length, config.get("context_length", 0))
            refuse_unless(config, needed | {"context_length": positions}, folder / stage)
        for size in (64, 128):
            stage = f"upsampler{size}"
            refuse_unless(vars(getattr(self, stage).config), {"size": size}, folder / stage)

    @classmethod
    def load(
        cls, folder: Path, device: torch.device | str = "cpu", prior: str = "diffusion"
    ) -> "DALLE2":
        """From a folder with tokenizer.json and a checkpoint folder a stage; `prior` is one of
        PRIORS."""
        path = folder / "tokenizer.json"
        if not path.is_file():
            raise CheckpointError(
                f"there are no weights in {folder} (no tokenizer.json); train them with "
                "`minidalle2 train all`, or check the path"
            )
        stages = {name: (name, *classes) for name, classes in MODELS.items()}
        stages["prior"] = prior_of(folder, prior)
        models = [load_model(folder / stage[0], *stage).to(device) for stage in stages.values()]
        dalle2 = cls(Tokenizer.load(path), *models)
        dalle2.check_fit(folder, stages["prior"][0])
        return dalle2

    @property
    def device(self) -> torch.device:
        return next(self.clip.parameters()).device

    @torch.no_grad()
    def generate(
        self,
        prompts: list[str],
        seeds: list[int] | None = None,
        sampling: Sampling | None = None,
        noise: StartingNoise | None = None,
        stop_after: str = "image128",
        image_embedding: Tensor | None = None,
        image32: Tensor | None = None,
        image64: Tensor | None = None,
    ) -> Generation:
        """Draw one picture a prompt; `seeds` (one a prompt, default 0, 1, …) decide all noise.

        A given `image_embedding`, `image32` or `image64` is taken for that stage's result, and the
        stages before it are skipped. `stop_after` is one of STAGES. A picture depends on its own
        prompt and seed only, not on the others of the batch. Raises ValueError for an empty prompt,
        PromptTooLong for one beyond the context.
        """
        if stop_after not in STAGES:
            raise ValueError(f"unknown stage {stop_after!r}; stop after one of {', '.join(STAGES)}")
        sampling, noise = sampling or Sampling(), noise or StartingNoise()
        seeds = list(range(len(prompts))) if seeds is None else seeds
        if len(seeds) != len(prompts) or not prompts:
            raise ValueError(
                f"{len(seeds)} seeds for {len(prompts)} prompts; give one seed a prompt"
            )
        made = self._read(prompts)
        steps = STAGES[: STAGES.index(stop_after) + 1]
        made.image_embedding, made.image32, made.image64 = image_embedding, image32, image64
        decoded = image32 is not None or image64 is not None
        if "image_embedding" in steps and made.image_embedding is None and not decoded:
            self._imagine(made, seeds, sampling, noise)
        if "image32" in steps and not decoded:
            self._decode(made, seeds, sampling, noise)
        if "image64" in steps and made.image64 is None:
            size = self.upsampler64.config.size
            x_T = _given_or_drawn(noise.upsampler64, seeds, 2, (CHANNELS, size, size))
            made.image64 = _enlarge(self.upsampler64, made.image32, x_T, sampling.upsampler64_steps)
        if "image128" in steps:
            size = self.upsampler128.config.size
            x_T = _given_or_drawn(noise.upsampler128, seeds, 3, (CHANNELS, size, size))
            made.image128 = _enlarge(
                self.upsampler128, made.image64, x_T, sampling.upsampler128_steps
            )
        return made

    def _read(self, prompts: list[str]) -> Generation:
        """text → tokens → text embedding."""
        tokens = self.tokenizer([clean(prompt) for prompt in prompts]).to(self.device)
        return Generation(prompts, tokens, self.clip.encode_text(tokens))

    def _imagine(
        self, made: Generation, seeds: list[int], sampling: Sampling, noise: StartingNoise
    ) -> None:
        """text embedding → image embedding."""
        shape = (sampling.candidates, self.prior.noise_size)
        x_T = _given_or_drawn(noise.prior, seeds, 0, shape).to(self.device)
        made.candidates = self.prior.candidates(
            made.text_embedding, made.tokens, x_T, sampling.prior_steps, sampling.prior_guidance
        )
        best = nearest(made.candidates, made.text_embedding)
        made.image_embedding = _pick(made.candidates, best)[:, 0]

    def _decode(
        self, made: Generation, seeds: list[int], sampling: Sampling, noise: StartingNoise
    ) -> None:
        """image embedding (and tokens) → 32 px: several drawings, of which CLIP picks one.

        z_t has chosen among the prior's candidates, as in the paper. Of what the decoder made of
        the best of them, CLIP keeps the drawing that shows most faithfully what it was drawn from:
        a mix-up is easier seen than avoided. (DALL·E 1 chose by the text; a picture tells more.)
        """
        size = self.decoder.config.image_size
        shape = (sampling.drawings, CHANNELS, size, size)
        x_T = _given_or_drawn(noise.decoder, seeds, 1, shape).to(self.device)
        n, z_t = x_T.shape[1], made.text_embedding
        if made.candidates is None:  # z_i was given
            z_i = made.image_embedding.to(self.device)[:, None].expand(-1, n, -1)
        else:
            z_i = _pick(made.candidates, nearest(made.candidates, z_t, n))  # (B, n, E)
        denoise = self.decoder.denoiser(
            z_i.flatten(0, 1), made.tokens.repeat_interleave(n, dim=0), sampling.decoder_guidance
        )
        states = ddim(
            self.decoder.diffusion, denoise, x_T.flatten(0, 1), sampling.decoder_steps,
            clip_to_image, lowest=self.decoder.lowest,
        )  # fmt: skip
        flat = last(states)
        best = most_faithful(self.clip.encode_image(flat).view_as(z_i), z_i)
        made.drawings = flat.view_as(x_T)
        made.image32 = _pick(made.drawings, best)[:, 0]
        if made.candidates is not None:  # a given z_i stays the very one that was given
            made.image_embedding = _pick(z_i, best)[:, 0]


def most_faithful(drawn: Tensor, wanted: Tensor) -> Tensor:
    """(B, k, E) embeddings of drawings, (B, k, E) those that they were drawn from → (B, 1): the
    drawing that is nearest to its own."""
    return (drawn * wanted).sum(-1).argmax(1, keepdim=True)


def _pick(values: Tensor, index: Tensor) -> Tensor:
    """(B, n, …), (B, k) → (B, k, …): of each row those that its indices name."""
    return values[torch.arange(len(index), device=index.device)[:, None], index]


def _enlarge(upsampler: Upsampler, low: Tensor, x_T: Tensor, steps: int) -> Tensor:
    """S px → 2S px."""
    device = next(upsampler.parameters()).device
    denoise = upsampler.denoiser(low.to(device))
    return last(ddim(upsampler.diffusion, denoise, x_T.to(device), steps, clip_to_image))


def _given_or_drawn(
    given: Tensor | None, seeds: list[int], stage: int, shape: tuple[int, ...]
) -> Tensor:
    """Each stage has its own stream of a seed, so a stage started alone draws the same noise."""
    return Noise([4 * seed + stage for seed in seeds])(*shape) if given is None else given


def clean(prompt: str) -> str:
    """Lower case, single spaces, no final full stop, as the captions of training are.

    Raises ValueError for an empty prompt.
    """
    text = prompt.encode("utf-8", "replace").decode()  # half a character can reach us from a shell
    cleaned = " ".join(text.lower().split()).rstrip(". ")
    if not cleaned:
        raise ValueError("the prompt is empty; describe a picture, say 'a red circle'")
    return cleaned
