"""What each stage trains on: its model, its data and a sheet that shows how it is doing.

The stages train one after another; each loads what the earlier ones left in the run's folder:
tokenizer → clip → the priors, decoder → glide; clip → image_tower, which then takes CLIP's place;
the upsamplers and the judge need none.
"""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
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
from minidalle2.glide import fed_with_text
from minidalle2.pca import PCA
from minidalle2.pictures import save_png, to_uint8
from minidalle2.prior import Prior, prior_loss
from minidalle2.regression_prior import RegressionPrior, regression_loss
from minidalle2.tokenizer import Tokenizer
from minidalle2.training.accumulation import accumulated, clip_loss_of_all
from minidalle2.training.ahead import Ahead, Draw, See, workers_for
from minidalle2.training.alignment import AlignedDecoder, aligned_loss
from minidalle2.training.checkpoints import CheckpointError, load_model
from minidalle2.training.distributed import is_first, processes, share, wait_for_all
from minidalle2.training.embedded import Embedded, embed
from minidalle2.training.execution import ONE_PASS, Execution, prepare
from minidalle2.training.feeding import captions_of, own_captioned, own_pairs
from minidalle2.training.graph import Graphed
from minidalle2.training.locked_text import locked_loss, locked_loss_of_all, with_second_tower
from minidalle2.training.loop import Loss, Recipe, Step, fit, whole
from minidalle2.training.precision import half_precision
from minidalle2.training.recipes import recipe_of
from minidalle2.training.sizes import sizes_of
from minidalle2.upsampler import Upsampler, UpsamplerConfig, upsampler_loss
from minidalle2.worlds.world import World

ALL = ("tokenizer", "clip", "prior", "decoder", "upsampler64", "upsampler128")  # `train all`
# not of `train all`:
STAGES = (*ALL, "judge", "autoregressive_prior", "regression_prior", "glide", "image_tower")
CAPTIONS = 20_000  # that the tokenizer is trained on
EMBEDDED = 120_000  # pictures and captions that a prior learns from; more for a long training
SHEETS = 8  # sample sheets over a training


@dataclass
class Job:
    """A stage made ready. A batch is drawn on the CPU, by any process, then seen on the device."""

    model: nn.Module
    draw: Draw
    see: See
    loss: Loss
    sheet: Callable[[nn.Module], Tensor] | None = None  # → pictures (N, 3, S, S) in [-1, 1]
    core: Callable[[nn.Module], nn.Module] = whole  # the part of the model that is kept
    # for a loss that is no mean over samples: how it is computed in so many parts
    in_parts: Callable[[int], Loss] | None = None
    recordable: bool = True  # as a CUDA graph

    def data(self, n: int, generator: torch.Generator) -> Any:
        return self.see(self.draw(n, generator))


def onto(device: torch.device) -> See:
    return lambda batch: tuple(part.to(device) for part in batch)


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
    if device.type == "cuda" and processes() == 1 and execution == ONE_PASS and job.recordable:
        loss = Graphed(loss, _longest_caption(folder))
    if minutes is not None:
        recipe = replace(recipe, minutes=minutes, restarts=())
    data = Ahead(job.draw, job.see, workers_for(world, device))
    steps = fit(job.model, data, loss, recipe, folder / stage, stage, job.core)
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
    config = replace(sizes_of(world.name).clip, vocab_size=tokenizer.vocab_size)
    draw = partial(own_pairs, world, tokenizer)
    return Job(CLIP(config), draw, onto(device), clip_loss, in_parts=clip_loss_of_all)


def image_tower_job(world: World, folder: Path, device: torch.device, recipe: Recipe) -> Job:
    """A second image tower for the CLIP that is there, of which all else stays."""
    draw, earlier = partial(own_pairs, world, _tokenizer(folder)), _clip(folder, device)
    if earlier.config.image_widths:
        raise CheckpointError(
            f"the CLIP in {folder / 'clip'} has an image tower of convolutions already, as that of "
            "the shapes has from the start; train image_tower beside a transformer alone, such as "
            "`train clip --world emoji` makes"
        )

    @torch.no_grad()
    def see(batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        images, tokens = onto(device)(batch)
        with half_precision(device):
            return images, tokens, earlier.encode_text(tokens), earlier.encode_image(images)

    clip = with_second_tower(earlier, sizes_of(world.name).image_tower)
    return Job(clip, draw, see, locked_loss, in_parts=locked_loss_of_all, recordable=False)


def prior_job(world: World, folder: Path, device: torch.device, recipe: Recipe) -> Job:
    """CLIP is frozen by now, so its embeddings are computed once."""
    embedded = _embedded(world, folder, device, recipe)
    config = replace(sizes_of(world.name).prior, vocab_size=_tokenizer(folder).vocab_size)
    return Job(Prior(config), embedded.draw, onto(device), prior_loss)


def autoregressive_prior_job(
    world: World, folder: Path, device: torch.device, recipe: Recipe
) -> Job:
    """As many components as CLIP's embeddings need; the model measures them before it trains."""
    embedded = _embedded(world, folder, device, recipe)
    config = replace(
        sizes_of(world.name).autoregressive_prior,
        vocab_size=_tokenizer(folder).vocab_size,
        components=len(PCA.keeping(embedded.z_i, VARIANCE_KEPT).variance),
    )
    prior = AutoregressivePrior(config)
    prior.measure(embedded.z_i, embedded.z_t)
    return Job(prior, embedded.draw, onto(device), autoregressive_prior_loss)


def regression_prior_job(world: World, folder: Path, device: torch.device, recipe: Recipe) -> Job:
    embedded = _embedded(world, folder, device, recipe)
    prior = RegressionPrior(sizes_of(world.name).regression_prior)
    return Job(prior, embedded.draw, onto(device), regression_loss)


def decoder_job(world: World, folder: Path, device: torch.device, recipe: Recipe) -> Job:
    """The text encoder starts as CLIP's, then trains with the rest."""
    tokenizer, clip = _tokenizer(folder), _clip(folder, device)
    decoder = Decoder(replace(sizes_of(world.name).decoder, vocab_size=tokenizer.vocab_size))
    decoder.text_encoder.load_state_dict(clip.text_tower.encoder.state_dict())
    return _drawing_job(world, tokenizer, clip, device, decoder)


def glide_job(world: World, folder: Path, device: torch.device, recipe: Recipe) -> Job:
    """The decoder's job for the twin that never sees z_i. It starts with the decoder's weights and
    CLIP's text tower: so it has had all of their training, and its own."""
    decoder = load_model(folder / "decoder", "decoder", DecoderConfig, Decoder)
    clip = _clip(folder, device)
    twin = fed_with_text(decoder, clip.text_tower)
    return _drawing_job(world, _tokenizer(folder), clip, device, twin)


def _drawing_job(
    world: World, tokenizer: Tokenizer, clip: CLIP, device: torch.device, decoder: Decoder
) -> Job:
    """Pictures with their own z_i and CLIP's view of their patches."""

    def draw(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        images, captions = own_captioned(world, n, generator)
        return images, tokenizer.cut(captions)

    @torch.no_grad()
    def see(batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        images, tokens = onto(device)(batch)
        with half_precision(device):
            z_i, patches = clip.encode_patches(images)
        return images, z_i, tokens, patches

    images, captions = world.captioned(32, torch.Generator().manual_seed(2))
    _, z_i, tokens, _ = see((images, tokenizer.cut(captions)))

    @torch.no_grad()
    def sheet(model: Decoder) -> Tensor:
        x_T = Noise(list(range(32)))(3, 32, 32).to(device)
        denoise = model.denoiser(z_i, tokens, scale=2.0)
        return last(ddim(model.diffusion, denoise, x_T, 20, clip_to_image, lowest=model.lowest))

    model = AlignedDecoder(decoder, clip.config.patch_width)
    return Job(model, draw, see, aligned_loss, sheet, core=lambda model: model.decoder)


def upsampler_job(world: World, size: int, device: torch.device) -> Job:
    """Quarter-size crops and their degraded halves."""
    schedule, degrade = ("cosine", blur) if size == 64 else ("linear", bsr)

    def crops(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        high = world.crops(n, generator, size)
        low = degrade(nn.functional.avg_pool2d(high, 2), generator)
        return high, low

    def draw(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        return share(crops(n, generator))

    high, low = onto(device)(crops(16, torch.Generator().manual_seed(2)))

    @torch.no_grad()
    def sheet(model: Upsampler) -> Tensor:
        x_T = Noise(list(range(16)))(*high.shape[1:]).to(device)
        drawn = last(ddim(model.diffusion, model.denoiser(low), x_T, 6, clip_to_image))
        enlarged = nn.functional.interpolate(low, scale_factor=2, mode="bicubic")
        return torch.cat((enlarged, drawn, high))  # what it is given, makes, should make

    model = Upsampler(UpsamplerConfig(size, schedule))
    return Job(model, draw, onto(device), upsampler_loss, sheet)


def judge_job(world: World, folder: Path, device: torch.device, recipe: Recipe) -> Job:
    """Raises ValueError for a world that has no judge."""
    judge = judge_of(world.name)

    def draw(n: int, generator: torch.Generator) -> Any:
        return share(judge.judge_data(n, generator))

    return Job(
        judge.Judge(judge.JudgeConfig()),
        draw,
        lambda batch: batch,
        judge.judge_loss,
        recordable=False,
    )


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
    "image_tower": image_tower_job,
}


def _save_sheet(pictures: Tensor, path: Path) -> None:
    """(N, 3, S, S) → rows of eight."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_png(rearrange(to_uint8(pictures), "(r c) k h w -> k (r h) (c w)", c=8).cpu(), path)


def _embedded(world: World, folder: Path, device: torch.device, recipe: Recipe) -> Embedded:
    """No more than the world has; each is taken some six to ten times."""
    taken = recipe.steps * recipe.batch_size
    n = min(taken // 6, max(EMBEDDED, taken // 10), world.enough)
    return embed(world, _clip(folder, device), _tokenizer(folder), n)


def _tokenizer(folder: Path) -> Tokenizer:
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise CheckpointError(f"there is no tokenizer in {folder}; `train tokenizer` comes first")
    return Tokenizer.load(path)


def _longest_caption(folder: Path) -> int:
    """In tokens; 0 where there is no tokenizer, for stages that read no captions."""
    there = (folder / "tokenizer.json").is_file()
    return _tokenizer(folder).context_length if there else 0


def _clip(folder: Path, device: torch.device) -> CLIP:
    return load_model(folder / "clip", "clip", CLIPConfig, CLIP).to(device).requires_grad_(False)
