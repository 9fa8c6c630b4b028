"""What each stage trains on: its model, its data and a sheet that shows how it is doing.

The stages train one after another; each loads what the earlier ones left in the run's folder:
tokenizer → clip → the priors, decoder → glide; the upsamplers and the judge need none.
"""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from minidalle2.autoregressive_prior import (
    VARIANCE_KEPT, AutoregressivePrior, autoregressive_prior_loss,
)  # fmt: skip
from minidalle2.clip import CLIP, CLIPConfig, clip_loss
from minidalle2.decoder import Decoder, DecoderConfig
from minidalle2.degradation import blur, bsr
from minidalle2.diffusion.sampling import Noise, clip_to_image, ddim, last
from minidalle2.evaluation.judging import judge_of
from minidalle2.glide import Glide, fed_with_text
from minidalle2.pca import PCA
from minidalle2.pictures import save_png, to_uint8
from minidalle2.prior import Prior, prior_loss
from minidalle2.regression_prior import RegressionPrior, regression_loss
from minidalle2.tokenizer import Tokenizer
from minidalle2.training.accumulation import accumulated, clip_loss_of_all
from minidalle2.training.alignment import AlignedDecoder, aligned_loss
from minidalle2.training.checkpoints import CheckpointError, load_model
from minidalle2.training.distributed import is_first, share, wait_for_all
from minidalle2.training.execution import ONE_PASS, Execution, prepare
from minidalle2.training.feeding import captions_of, own_captioned, own_pairs
from minidalle2.training.loop import Data, Loss, Recipe, Step, fit, half_precision, whole
from minidalle2.training.recipes import recipe_of
from minidalle2.training.sizes import sizes_of
from minidalle2.upsampler import Upsampler, UpsamplerConfig, upsampler_loss
from minidalle2.worlds.world import World

ALL = ("tokenizer", "clip", "prior", "decoder", "upsampler64", "upsampler128")  # `train all`
STAGES = (*ALL, "judge", "autoregressive_prior", "regression_prior", "glide")  # not of `train all`
CAPTIONS = 20_000  # that the tokenizer is trained on
CACHED = 120_000  # pictures and captions whose embeddings the prior learns from
SHEETS = 8  # sample sheets over a training


@dataclass
class Job:
    """A stage made ready: the loop needs the first three, the eye the fourth."""

    model: nn.Module
    data: Data
    loss: Loss
    sheet: Callable[[nn.Module], Tensor] | None = None  # → pictures (N, 3, S, S) in [-1, 1]
    core: Callable[[nn.Module], nn.Module] = whole  # the part of the model that is kept
    # for a loss that is no mean over samples: how it is computed in so many parts
    in_parts: Callable[[int], Loss] | None = None


def train_stage(
    stage: str,
    world: World,
    folder: Path,
    profile: str,
    device: torch.device,
    minutes: float | None = None,
    execution: Execution = ONE_PASS,
) -> Iterator[Step]:
    """Train one stage into folder/stage, yielding its steps; goes on where it was interrupted."""
    if stage == "tokenizer":
        if is_first():
            folder.mkdir(parents=True, exist_ok=True)
            train_tokenizer(world).save(folder / "tokenizer.json")
        wait_for_all()
        return
    recipe = recipe_of(world.name, profile, stage)
    torch.manual_seed(recipe.seed)
    job = JOBS[stage](world, folder, device, recipe)
    job.model.to(device, memory_format=torch.channels_last)
    prepare(job.model, execution)
    loss = job.in_parts(execution.parts) if job.in_parts else accumulated(job.loss, execution.parts)
    if minutes is not None:
        recipe = replace(recipe, minutes=minutes, restarts=())
    steps = fit(job.model, job.data, loss, recipe, folder / stage, stage, job.core)
    with closing(steps):  # so that it saves before an error in a sheet is told
        for step in steps:
            yield step
            if job.sheet and is_first() and step.step % max(1, step.total // SHEETS) == 0:
                samples = folder / stage / "samples"
                _save_sheet(job.sheet(step.average), samples / f"{step.step:06}.png")
    wait_for_all()  # until the first has saved what the next stage loads


def train_tokenizer(world: World) -> Tokenizer:
    captions = captions_of(world, CAPTIONS, torch.Generator().manual_seed(0))
    return Tokenizer.train(captions, sizes_of(world.name).vocabulary)


def clip_job(world: World, folder: Path, device: torch.device, recipe: Recipe) -> Job:
    tokenizer = _tokenizer(folder)

    def data(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        images, tokens = own_pairs(world, tokenizer, n, generator)
        return images.to(device), tokens.to(device)

    config = replace(sizes_of(world.name).clip, vocab_size=tokenizer.vocab_size)
    return Job(CLIP(config), data, clip_loss, in_parts=clip_loss_of_all)


def prior_job(world: World, folder: Path, device: torch.device, recipe: Recipe) -> Job:
    """CLIP is frozen by now, so its embeddings are computed once."""
    data, _, _ = _embeddings(world, folder, device, recipe)
    config = replace(sizes_of(world.name).prior, vocab_size=_tokenizer(folder).vocab_size)
    return Job(Prior(config), data, prior_loss)


def autoregressive_prior_job(
    world: World, folder: Path, device: torch.device, recipe: Recipe
) -> Job:
    """As many components as CLIP's embeddings need; the model measures them before it trains."""
    data, z_i, z_t = _embeddings(world, folder, device, recipe)
    config = replace(
        sizes_of(world.name).autoregressive_prior,
        vocab_size=_tokenizer(folder).vocab_size,
        components=len(PCA.keeping(z_i, VARIANCE_KEPT).variance),
    )
    prior = AutoregressivePrior(config)
    prior.measure(z_i, z_t)
    return Job(prior, data, autoregressive_prior_loss)


def regression_prior_job(world: World, folder: Path, device: torch.device, recipe: Recipe) -> Job:
    data, _, _ = _embeddings(world, folder, device, recipe)
    return Job(RegressionPrior(sizes_of(world.name).regression_prior), data, regression_loss)


def decoder_job(
    world: World, folder: Path, device: torch.device, recipe: Recipe, kind: type[Decoder] = Decoder
) -> Job:
    """Pictures with their own z_i and CLIP's view of their patches. The text encoder starts as
    CLIP's, then trains with the rest."""
    tokenizer, clip = _tokenizer(folder), _clip(folder, device)
    config = replace(sizes_of(world.name).decoder, vocab_size=tokenizer.vocab_size)
    decoder = kind(config)
    decoder.text_encoder.load_state_dict(clip.text_tower.encoder.state_dict())

    @torch.no_grad()
    def seen(images: Tensor, captions: list[str]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        images = images.to(device)
        with half_precision(device):
            z_i, patches = clip.encode_patches(images)
        return images, z_i, tokenizer.cut(captions).to(device), patches

    def data(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return seen(*own_captioned(world, n, generator))

    _, z_i, tokens, _ = seen(*world.captioned(32, torch.Generator().manual_seed(2)))

    @torch.no_grad()
    def sheet(model: Decoder) -> Tensor:
        x_T = Noise(list(range(32)))(3, 32, 32).to(device)
        denoise = model.denoiser(z_i, tokens, scale=2.0)
        return last(ddim(model.diffusion, denoise, x_T, 20, clip_to_image))

    model = AlignedDecoder(decoder, clip.config.width)
    return Job(model, data, aligned_loss, sheet, core=lambda model: model.decoder)


def glide_job(world: World, folder: Path, device: torch.device, recipe: Recipe) -> Job:
    """The decoder's job for the twin that never sees z_i. It starts with the decoder's weights and
    CLIP's text tower: so it has had all of their training, and its own."""
    job = decoder_job(world, folder, device, recipe, Glide)
    decoder = load_model(folder / "decoder", "decoder", DecoderConfig, Decoder)
    start = fed_with_text(decoder, _clip(folder, torch.device("cpu")).text_tower)
    job.core(job.model).load_state_dict(start.state_dict())
    return job


def upsampler_job(world: World, size: int, device: torch.device) -> Job:
    """Quarter-size crops and their degraded halves."""
    schedule, degrade = ("cosine", blur) if size == 64 else ("linear", bsr)

    def crops(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        high = world.crops(n, generator, size)
        low = degrade(nn.functional.avg_pool2d(high, 2), generator)
        return high.to(device), low.to(device)

    def data(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        return share(crops(n, generator))

    high, low = crops(16, torch.Generator().manual_seed(2))

    @torch.no_grad()
    def sheet(model: Upsampler) -> Tensor:
        x_T = Noise(list(range(16)))(*high.shape[1:]).to(device)
        drawn = last(ddim(model.diffusion, model.denoiser(low), x_T, 6, clip_to_image))
        enlarged = nn.functional.interpolate(low, scale_factor=2, mode="bicubic")
        return torch.cat((enlarged, drawn, high))  # what it is given, makes, should make

    return Job(Upsampler(UpsamplerConfig(size, schedule)), data, upsampler_loss, sheet)


def judge_job(world: World, folder: Path, device: torch.device, recipe: Recipe) -> Job:
    """Raises ValueError for a world that has no judge."""
    judge = judge_of(world.name)

    def data(n: int, generator: torch.Generator) -> Any:
        return share(judge.judge_data(n, generator))

    return Job(judge.Judge(judge.JudgeConfig()), data, judge.judge_loss)


JOBS: dict[str, Callable[[World, Path, torch.device, Recipe], Job]] = {
    "clip": clip_job,
    "prior": prior_job,
    "decoder": decoder_job,
    "upsampler64": lambda world, folder, device, recipe: upsampler_job(world, 64, device),
    "upsampler128": lambda world, folder, device, recipe: upsampler_job(world, 128, device),
    "judge": judge_job,
    "autoregressive_prior": autoregressive_prior_job,
    "regression_prior": regression_prior_job,
    "glide": glide_job,
}


def _save_sheet(pictures: Tensor, path: Path) -> None:
    """(N, 3, S, S) → rows of eight."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_png(rearrange(to_uint8(pictures), "(r c) k h w -> k (r h) (c w)", c=8).cpu(), path)


def _embeddings(
    world: World, folder: Path, device: torch.device, recipe: Recipe
) -> tuple[Data, Tensor, Tensor]:
    """What a prior learns from: its batches (z_i, z_t, tokens), and all the z_i and z_t (N, E)
    that they are taken from."""
    tokenizer, clip = _tokenizer(folder), _clip(folder, device)
    generator = torch.Generator().manual_seed(1)
    wanted = min(CACHED, recipe.steps * recipe.batch_size, world.enough)
    thousands = -(-wanted // 1_000)
    parts = [_embedded(world, clip, tokenizer, 1_000, generator) for _ in range(thousands)]
    z_i, z_t = (torch.cat([part[k] for part in parts]) for k in (0, 1))
    captions = [caption for part in parts for caption in part[2]]

    def data(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        rows = share(torch.randint(len(captions), (n,), generator=generator))
        tokens = tokenizer.cut([captions[row] for row in rows.tolist()])
        return z_i[rows].to(device), z_t[rows].to(device), tokens.to(device)

    return data, z_i, z_t


@torch.no_grad()
def _embedded(
    world: World, clip: CLIP, tokenizer: Tokenizer, n: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, list[str]]:
    """→ z_i (n, E), z_t (n, E), captions, on the CPU."""
    images, captions = world.captioned(n, generator)
    device = next(clip.parameters()).device
    with half_precision(device):
        z_i, z_t = (
            clip.encode_image(images.to(device)),
            clip.encode_text(tokenizer.cut(captions).to(device)),
        )
    return z_i.cpu(), z_t.cpu(), captions


def _tokenizer(folder: Path) -> Tokenizer:
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise CheckpointError(f"there is no tokenizer in {folder}; `train tokenizer` comes first")
    return Tokenizer.load(path)


def _clip(folder: Path, device: torch.device) -> CLIP:
    return load_model(folder / "clip", "clip", CLIPConfig, CLIP).to(device).requires_grad_(False)
