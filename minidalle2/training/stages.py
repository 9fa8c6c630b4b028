"""The training stages: what each stage trains, on which data.

The stages are trained one after another. Each loads the earlier ones from the folder of the run:
tokenizer → clip → priors and decoder → glide. `image_tower` extends a trained CLIP, and
commands/release.py then ships the extended one. The upsamplers and the judge need no earlier stage.
A stage starts from random weights, or from pretrained weights (pretrained.py).
"""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from minidalle2.clip import CLIP, CLIPConfig, contrast
from minidalle2.dalle2 import save_sampling
from minidalle2.decoder import CHANNELS, Decoder, DecoderConfig
from minidalle2.diffusion.sampling import Noise, clip_to_image, ddim, last
from minidalle2.priors.kinds import PRIORS, PriorKind, no_draws
from minidalle2.storage.checkpoints import (
    CheckpointError,
    load_model,
    load_tokenizer,
    save_tokenizer,
)
from minidalle2.storage.pictures import save_png, to_uint8
from minidalle2.storage.progress import doing, each
from minidalle2.storage.records import write_record
from minidalle2.tokenizer import Tokenizer
from minidalle2.training import second_tower
from minidalle2.training.alignment import AlignedDecoder, aligned_draws, aligned_loss_at
from minidalle2.training.degradation import blur, bsr
from minidalle2.training.embedded import Batches, embed
from minidalle2.training.glide import fed_with_text
from minidalle2.training.jobs import AnyJob, ContrastiveJob, Job, onto, rows_of
from minidalle2.training.lineage import begin, recorded
from minidalle2.training.loop import fit
from minidalle2.training.precision import half_precision
from minidalle2.training.pretrained import check_weights, pretrained, take_tokenizer
from minidalle2.training.recipe import Recipe
from minidalle2.training.recipes import recipe_of
from minidalle2.training.run import Step
from minidalle2.training.world import ALL_ROWS, World
from minidalle2.upsampler import Upsampler, UpsamplerConfig, upsampler_draws, upsampler_loss_at

ALL = ("tokenizer", "clip", "prior", "decoder", "upsampler64", "upsampler128")  # `train all`
PRIOR_STAGES = {kind.stage: kind for kind in PRIORS.values()}
# The stages that are not part of `train all` follow.
STAGES = (*dict.fromkeys((*ALL, "judge", *PRIOR_STAGES, "glide", "image_tower")),)
CAPTIONS = 20_000  # for the tokenizer
EMBEDDED = 120_000  # pictures and captions for a prior; more in a long training
SHEETS = 8  # sample sheets over a training
STEPS_OF_A_SHEET = 20  # a shorter training draws fewer sheets, because a sheet costs some steps


@dataclass
class Setting:
    """What all stages of a run share."""

    world: World
    folder: Path  # of the run, with a subfolder for each stage
    device: torch.device
    prefetch: Callable[[Batches], Batches] = lambda batches: batches  # may make batches ahead
    weights: Path | None = None  # the folder of pretrained weights from which networks start

    @property
    def tokenizer(self) -> Tokenizer:
        path = self.folder / "tokenizer.json"
        if not path.is_file():
            raise CheckpointError(
                f"there is no tokenizer in {self.folder}; `train tokenizer` comes first"
            )
        return load_tokenizer(path)

    @property
    def clip(self) -> CLIP:
        clip = load_model(self.folder / "clip", "clip", CLIPConfig, CLIP)
        return clip.to(self.device).requires_grad_(False)

    def network(self, stage: str, new: Callable[[], nn.Module]) -> Any:
        """The pretrained network of a stage; without pretrained weights, `new()`."""
        return pretrained(stage, self.weights) if self.weights else new()


def train_stage(
    stage: str,
    world: World,
    folder: Path,
    profile: str,
    device: torch.device,
    minutes: float | None = None,
    weights: Path | None = None,
) -> Iterator[Step]:
    """Trains one stage into folder/stage, or resumes it. Yields its steps.

    It starts from the pretrained `weights`, a folder, or else from random weights. Raises
    CheckpointError if an earlier stage is missing, or if an earlier stage, the data or the
    pretrained weights have changed.
    """
    if stage == "tokenizer":
        make_tokenizer(world, folder, weights)
        return
    record = begin(stage, world, folder, weights)
    recipe = planned_recipe(world, profile, stage, minutes)
    job = make_job(stage, Setting(world, folder, device, weights=weights), recipe)
    steps = fit(job.model, job.data, job.loss, recipe, folder / stage, stage, job.kept)
    yield from with_sheets(recorded(steps, record, stage, folder), job, folder / stage)


def make_tokenizer(world: World, folder: Path, weights: Path | None = None) -> None:
    """Writes tokenizer.json, and sampling.json if the world is not sampled in the default way.

    With pretrained `weights`, both files are copied. A tokenizer that is there is kept, because
    another one would give all captions other ids.
    """
    if (folder / "tokenizer.json").is_file():
        return
    folder.mkdir(parents=True, exist_ok=True)
    if weights:
        take_tokenizer(weights, folder)
        return
    record, tokenizer = begin("tokenizer", world, folder), train_tokenizer(world)
    save_sampling(folder, world.sampling)
    write_record(record, "tokenizer", folder)
    save_tokenizer(tokenizer, folder / "tokenizer.json")


def train_tokenizer(world: World) -> Tokenizer:
    with doing("reading captions"):
        captions = world.training_captions(CAPTIONS, torch.Generator().manual_seed(0))
    bar = partial(each, activity="learning tokens")
    return Tokenizer.train(captions, world.sizes.vocabulary, bar=bar)


def planned_recipe(world: World, profile: str, stage: str, minutes: float | None) -> Recipe:
    recipe = recipe_of(world.recipes, profile, stage)
    return recipe if minutes is None else replace(recipe, minutes=minutes, restarts=())


def make_job(stage: str, setting: Setting, recipe: Recipe) -> AnyJob:
    """The job of a stage, with its model on the device. Seeds torch's global generator.

    Raises ValueError or CheckpointError if the stage can't start from the pretrained weights.
    """
    if setting.weights:
        check_weights((stage,), setting.weights, setting.folder)
    torch.manual_seed(recipe.seed)
    if stage in PRIOR_STAGES:
        job = prior_job(PRIOR_STAGES[stage], setting, recipe)
    else:
        job = JOBS[stage](setting)
    job.model.to(setting.device, memory_format=torch.channels_last)
    return job


def with_sheets(steps: Iterator[Step], job: AnyJob, folder: Path) -> Iterator[Step]:
    """The same steps. Now and then a sheet of pictures is written to folder/samples."""
    with closing(steps):  # so that the weights are saved before an error in a sheet is reported
        for step in steps:
            yield step
            if job.sheet and sheet_is_due(step.step, step.total):
                with doing("drawing a sheet of samples"):
                    sheet = job.sheet(step.average)
                save_sheet(sheet, folder / "samples" / f"{step.step:06}.png")


def sheet_is_due(step: int, total: int) -> bool:
    """Whether a sheet is drawn after this step. The last step always draws one."""
    sheets = min(SHEETS, max(1, total // STEPS_OF_A_SHEET))
    return step * sheets // total > (step - 1) * sheets // total


def save_sheet(pictures: Tensor, path: Path) -> None:
    """(N, 3, S, S) in [-1, 1] → rows of eight."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_png(rearrange(to_uint8(pictures), "(r c) k h w -> k (r h) (c w)", c=8).cpu(), path)


# The jobs


def clip_job(setting: Setting) -> ContrastiveJob:
    tokenizer = setting.tokenizer
    config = replace(setting.world.sizes.clip, vocab_size=tokenizer.vocab_size)
    clip = setting.network("clip", lambda: CLIP(config))
    draw = partial(contrasting_batch, setting.world, tokenizer)
    return ContrastiveJob(clip, draw, onto(setting.device), embed_pairs, contrast)


def contrasting_batch(
    world: World, tokenizer: Tokenizer, n: int, generator: torch.Generator, rows: slice
) -> tuple[Tensor, Tensor]:
    """→ images (n, 3, 32, 32) and tokens (n, T) of a batch for CLIP, of which `rows`."""
    images, captions = world.contrasting(n, generator, rows)
    return images, tokenizer.cut(captions)


def embed_pairs(clip: CLIP, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """→ z_i and z_t (n, E), tokens (n, T), which say which captions are equal."""
    images, tokens = batch
    return clip.encode_image(images), clip.encode_text(tokens), tokens


def image_tower_job(setting: Setting) -> ContrastiveJob:
    """A second image tower for the CLIP in the folder. Raises CheckpointError if it cannot be."""
    draw = partial(contrasting_batch, setting.world, setting.tokenizer)
    earlier = setting.clip
    if earlier.config.layout_widths or earlier.config.style_widths:
        raise CheckpointError(
            f"the CLIP in {setting.folder / 'clip'} has a convolutional image tower already; "
            "image_tower extends a CLIP that has a transformer only, such as the one that "
            "`train clip --world emoji` makes"
        )

    @torch.no_grad()
    def see(batch: tuple[Tensor, Tensor]) -> second_tower.Batch:
        images, tokens = onto(setting.device)(batch)
        with half_precision(setting.device):
            return images, tokens, earlier.encode_text(tokens), earlier.encode_image(images)

    clip = second_tower.with_second_tower(earlier, setting.world.sizes.style_widths)
    return ContrastiveJob(
        clip, draw, see, second_tower.embed, second_tower.compare, recordable=False
    )


def prior_job(kind: PriorKind, setting: Setting, recipe: Recipe) -> Job:
    """CLIP is frozen, so its embeddings are computed once.

    On average, the training uses each embedding at least six times.
    """
    world, clip, tokenizer = setting.world, setting.clip, setting.tokenizer
    used = recipe.steps * recipe.batch_size
    n = min(used // 6, max(EMBEDDED, used // 10), world.enough)
    embedded = embed(world, clip, tokenizer, n, setting.prefetch)

    def new() -> Any:
        config = prior_config(kind, world, clip, tokenizer)
        with doing("measuring embeddings"):
            return kind.prepared(config, embedded.z_i, embedded.z_t)

    model = setting.network(kind.stage, new)
    check_embedding(kind.stage, model, clip)
    return Job(model, embedded.draw, onto(setting.device), kind.draws, kind.loss_at)


def prior_config(kind: PriorKind, world: World, clip: CLIP, tokenizer: Tokenizer) -> Any:
    """The config of a new prior: the world's, or else the default one."""
    config = world.sizes.priors.get(kind.stage)
    if config is None:
        config = kind.config(clip_embedding=clip.config.embedding)
    if "vocab_size" in {field.name for field in fields(config)}:
        config = replace(config, vocab_size=tokenizer.vocab_size)
    return config


def decoder_job(setting: Setting) -> Job:
    """A new decoder's text encoder starts with the weights of CLIP's, then trains with the rest."""
    clip, tokenizer = setting.clip, setting.tokenizer
    config = replace(setting.world.sizes.decoder, vocab_size=tokenizer.vocab_size)
    decoder = setting.network("decoder", lambda: Decoder(config))
    check_embedding("decoder", decoder, clip)
    if not setting.weights:  # a pretrained decoder has a trained text encoder
        decoder.text_encoder.load_state_dict(clip.text_tower.encoder.state_dict())
    return drawing_job(setting, tokenizer, clip, decoder)


def check_embedding(stage: str, model: Any, clip: CLIP) -> None:
    """Raises CheckpointError if the model of a stage needs embeddings of another length."""
    needed, given = model.config.clip_embedding, clip.config.embedding
    if needed != given:
        raise CheckpointError(
            f"{stage} needs embeddings of {needed} numbers, but the CLIP in this folder makes "
            f"{given}; start {stage} with --from from the weights from which that CLIP started, or "
            "choose another folder with --out"
        )


def glide_job(setting: Setting) -> Job:
    """GLIDE starts with the weights of the decoder and of CLIP's text tower.

    So it profits from their training in addition to its own.
    """
    decoder = load_model(setting.folder / "decoder", "decoder", DecoderConfig, Decoder)
    clip = setting.clip
    glide = setting.network("glide", lambda: fed_with_text(decoder, clip.text_tower))
    return drawing_job(setting, setting.tokenizer, clip, glide)


def drawing_job(setting: Setting, tokenizer: Tokenizer, clip: CLIP, decoder: Decoder) -> Job:
    """Trains a decoder on pictures with their z_i, their captions and CLIP's patch features."""
    world, device = setting.world, setting.device

    def draw(n: int, generator: torch.Generator, rows: slice) -> tuple[Tensor, Tensor]:
        images, captions = world.captioned(n, generator, rows=rows)
        return images, tokenizer.cut(captions)

    @torch.no_grad()
    def see(batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        images, tokens = onto(device)(batch)
        with half_precision(device):
            z_i, patches = clip.encode_patches(images)
        return images, z_i, tokens, patches

    _, z_i, tokens, _ = see(draw(32, torch.Generator().manual_seed(2), ALL_ROWS))

    @torch.no_grad()
    def sheet(model: Decoder) -> Tensor:
        size = model.config.image_size
        x_T = Noise(list(range(32)))(CHANNELS, size, size).to(device)
        denoise = model.denoiser(z_i, tokens, guidance=2.0)
        return last(ddim(model.diffusion, denoise, x_T, 20, clip_to_image))

    model = AlignedDecoder(decoder, clip.image_tower.patch_width)
    return Job(
        model, draw, see, aligned_draws, aligned_loss_at, sheet, kept=lambda model: model.decoder
    )


def upsampler_job(size: int, setting: Setting) -> Job:
    """Crops of a quarter of the size, and their degraded versions of half the resolution."""
    schedule, degrade = ("cosine", blur) if size == 64 else ("linear", bsr)
    side = size // 4

    def draw(n: int, generator: torch.Generator, rows: slice) -> tuple[Tensor, Tensor]:
        high = setting.world.crops(n, generator, size)
        low = degrade(nn.functional.avg_pool2d(high, 2), generator)
        return rows_of((high, low), rows)

    def draws(model: Upsampler, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        return upsampler_draws(model, (n, CHANNELS, side, side), generator)

    high, low = onto(setting.device)(draw(16, torch.Generator().manual_seed(2), ALL_ROWS))

    @torch.no_grad()
    def sheet(model: Upsampler) -> Tensor:
        x_T = Noise(list(range(16)))(*high.shape[1:]).to(setting.device)
        drawn = last(ddim(model.diffusion, model.denoiser(low), x_T, 6, clip_to_image))
        enlarged = nn.functional.interpolate(low, scale_factor=2, mode="bicubic")
        return torch.cat((enlarged, drawn, high))  # the input, the result, the truth

    model = setting.network(f"upsampler{size}", lambda: Upsampler(UpsamplerConfig(size, schedule)))
    return Job(model, draw, onto(setting.device), draws, upsampler_loss_at, sheet)


def judge_job(setting: Setting) -> Job:
    """Raises ValueError for a world that has no judge."""
    judge = setting.world.judge
    if judge is None:
        raise ValueError(
            f"the world {setting.world.name} has no judge, because nothing says what its pictures "
            "show; --world shapes or emoji would work"
        )

    def draw(n: int, generator: torch.Generator, rows: slice) -> tuple:
        return rows_of(judge.data(n, generator), rows)

    def loss_at(model: nn.Module, batch: tuple, draws: tuple) -> Tensor:
        return judge.loss(model, batch, torch.Generator())

    model = judge.model(judge.config())
    # The judge moves its batch to the device itself, which cannot be recorded.
    return Job(model, draw, lambda batch: batch, no_draws, loss_at, recordable=False)


JOBS: dict[str, Callable[[Setting], AnyJob]] = {
    "clip": clip_job,
    "decoder": decoder_job,
    "upsampler64": partial(upsampler_job, 64),
    "upsampler128": partial(upsampler_job, 128),
    "judge": judge_job,
    "glide": glide_job,
    "image_tower": image_tower_job,
}
