"""GLIDE: it ignores z_i everywhere, and its training starts from the decoder."""

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from tiny_model import perturbed, save_tiny

from minidalle2 import decoder as decoder_module
from minidalle2.clip import CLIP, CLIPConfig
from minidalle2.commands.release import release
from minidalle2.decoder import Decoder, DecoderConfig, decoder_loss
from minidalle2.storage.checkpoints import CheckpointError, load_model, save_model, save_tokenizer
from minidalle2.tokenizer import empty_captions_like
from minidalle2.training import stages
from minidalle2.training.glide import (
    CaptionOnly,
    Glide,
    fed_with_text,
    load_glide,
    without_embedding,
)
from minidalle2.training.jobs import Job
from minidalle2.training.recipes import PROFILES, recipe_of
from minidalle2.training.world import Sizes
from minidalle2.worlds.emoji.world import Emoji
from minidalle2.worlds.shapes.world import Shapes

TEXTS = ["a red circle", "a large green star above a red square", "a"]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def glide(decoder, clip) -> Glide:
    return fed_with_text(decoder, clip.text_tower).eval()


@pytest.fixture
def caption_only(decoder) -> CaptionOnly:
    return without_embedding(decoder)


@pytest.fixture
def reading_as_clip(decoder, clip) -> Decoder:
    """The decoder with CLIP's text encoder in the place of its own."""
    other = copy.deepcopy(decoder)
    other.text_encoder.load_state_dict(clip.text_tower.encoder.state_dict())
    return other


def unit(seed: int, n: int = 3) -> torch.Tensor:
    return F.normalize(torch.randn(n, 12, generator=seeded(seed)), dim=1)


def test_both_answer_alike_whatever_z_i_is(decoder, glide, caption_only, tokenizer):
    tokens, x_t = tokenizer(TEXTS), torch.randn(3, 3, 32, 32)
    t = torch.full((3,), 500)

    def answer(model, z_i, scale):
        return model.denoiser(z_i, tokens, scale)(x_t, t)

    for blind in (glide, caption_only):
        for scale in (0, 1, 3):
            assert torch.equal(answer(blind, unit(1), scale), answer(blind, unit(2), scale))
        # Guidance is left with the caption to guide by.
        assert (answer(blind, unit(1), 3) - answer(blind, unit(1), 1)).abs().max() > 1e-3
    assert (answer(decoder, unit(1), 1) - answer(decoder, unit(2), 1)).abs().max() > 1e-3


def test_without_embedding_is_the_decoder_with_z_i_dropped(decoder, caption_only, tokenizer):
    with torch.no_grad():
        decoder.null_image += 0.3  # a null of zeros could be forgotten unnoticed
        caption_only.null_image += 0.3
    x_t, t, keep = torch.randn(3, 3, 32, 32), torch.tensor([5, 300, 999]), torch.zeros(3).bool()
    text = decoder.encode_text(tokenizer(TEXTS), keep)
    dropped = decoder(x_t, t, decoder.image_condition(unit(1), ~keep), *text)
    seen = caption_only(x_t, t, caption_only.image_condition(unit(1), keep), *text)
    assert torch.equal(seen, dropped)
    kept = decoder(x_t, t, decoder.image_condition(unit(1), keep), *text)
    assert (kept - dropped).abs().max() > 1e-3
    assert not caption_only.training and caption_only.config is decoder.config


def test_glide_begins_as_the_decoder_fed_with_z_t(glide, reading_as_clip, clip, tokenizer):
    """Captions end at different places, and some are dropped."""
    x_t, t, keep = torch.randn(3, 3, 32, 32), torch.tensor([5, 300, 999]), torch.zeros(3).bool()
    for drop in (keep, torch.tensor([False, True, False])):
        tokens = tokenizer(TEXTS)
        text = glide.encode_text(tokens, drop)
        z_t = clip.encode_text(torch.where(drop[:, None], empty_captions_like(tokens), tokens))
        seat = reading_as_clip.image_condition(z_t, keep)
        expected = reading_as_clip(x_t, t, seat, *reading_as_clip.encode_text(tokens, drop))
        assert torch.allclose(glide(x_t, t, unit(1), *text), expected, atol=1e-5)


def test_it_trains_as_the_decoder_does_with_fewer_captions_dropped(
    decoder, glide, reading_as_clip, clip, tokenizer, monkeypatch
):
    """The same random numbers: with z_t for z_i and nothing dropped, both losses are one."""
    assert (glide.caption_drop, decoder.caption_drop) == (0.2, 0.5)
    images, tokens = torch.rand(3, 3, 32, 32) * 2 - 1, tokenizer(TEXTS)
    loss = decoder_loss(glide, (images, unit(1), tokens), seeded(3)).item()
    assert loss == decoder_loss(glide, (images, unit(2), tokens), seeded(3)).item()
    assert loss != decoder_loss(decoder, (images, unit(1), tokens), seeded(3)).item()
    monkeypatch.setattr(decoder_module, "IMAGE_DROP", 0.0)
    glide.caption_drop = reading_as_clip.caption_drop = 0.0
    ours = decoder_loss(glide, (images, unit(1), tokens), seeded(3)).item()
    z_t = clip.encode_text(tokens)
    theirs = decoder_loss(reading_as_clip, (images, z_t, tokens), seeded(3)).item()
    assert ours == pytest.approx(theirs, rel=1e-5)


def test_the_model_draws_with_glide(tiny_dalle2, glide, few_steps):
    one = replace(few_steps, drawings=1)
    blind = replace(tiny_dalle2, decoder=glide)

    def draw(model, seed):
        z_i = unit(seed, 2)
        made = model.generate(TEXTS[:2], [4, 5], one, stop_after="image32", image_embeddings=z_i)
        return made.image32

    assert torch.equal(draw(blind, 1), draw(blind, 2))
    assert (draw(tiny_dalle2, 1) - draw(tiny_dalle2, 2)).abs().max() > 1e-3
    whole = blind.generate(TEXTS[:2], [4, 5], one)  # the prior runs, but changes nothing
    assert whole.image128.shape == (2, 3, 128, 128)
    assert torch.equal(whole.image32, draw(blind, 1))
    assert blind.clip is tiny_dalle2.clip and tiny_dalle2.decoder is not glide


def test_glide_is_kept_beside_the_decoder(tiny_dalle2, configs, tmp_path):
    run = save_tiny(tiny_dalle2, tmp_path / "run")
    with pytest.raises(CheckpointError, match="no GLIDE in .*`minidalle2 train glide --out"):
        load_glide(run, tiny_dalle2)
    save_model(run / "glide", "glide", perturbed(Glide(configs.decoder)))
    release(run, tmp_path / "weights")
    loaded = load_glide(tmp_path / "weights", tiny_dalle2)
    assert isinstance(loaded.decoder, Glide) and not loaded.decoder.training
    assert loaded.clip is tiny_dalle2.clip and type(tiny_dalle2.decoder) is Decoder
    other = replace(configs.decoder, embedding=24)
    save_model(run / "glide", "glide", Glide(other))
    with pytest.raises(CheckpointError, match="not fit the decoder.*embedding=24.*train it again"):
        load_glide(run, tiny_dalle2)


@pytest.fixture
def folder(configs, tokenizer, tmp_path):
    """A tokenizer, and a tiny CLIP with 8 patches a side."""
    save_tokenizer(tokenizer, tmp_path / "tokenizer.json")
    clip = perturbed(CLIP(replace(configs.clip, patch_size=4)))
    save_model(tmp_path / "clip", "clip", clip)
    return tmp_path


@pytest.fixture
def of_8_px(configs) -> DecoderConfig:
    """A tiny decoder with a level of 8 px, which CLIP's patches are compared with."""
    attention = (False, False, True)
    return replace(configs.decoder, widths=(8, 8, 8), blocks=(1, 1, 1), attention=attention)


def job_of(stage: str, folder: Path, config: DecoderConfig) -> Job:
    world = Shapes()
    world.sizes = Sizes(decoder=config)
    setting = stages.Setting(world, folder, torch.device("cpu"))
    return stages.make_job(stage, setting, recipe_of(world.recipes, "laptop", stage))


def test_glide_has_the_design_of_the_decoder_beside_it(folder, configs, of_8_px):
    decoder = job_of("decoder", folder, of_8_px).model.decoder
    save_model(folder / "decoder", "decoder", decoder)
    glides = job_of("glide", folder, configs.decoder)
    assert glides.kept(glides.model).config == decoder.config != configs.decoder


def test_the_stage_goes_on_from_the_decoder_without_z_i(folder, of_8_px):
    with pytest.raises(CheckpointError, match="no decoder checkpoint"):
        job_of("glide", folder, of_8_px)
    ours = job_of("decoder", folder, of_8_px)
    perturbed(ours.model)
    save_model(folder / "decoder", "decoder", ours.model.decoder)
    glides = job_of("glide", folder, of_8_px)
    assert isinstance(glides.kept(glides.model), Glide)
    assert type(ours.kept(ours.model)) is Decoder
    started = glides.kept(glides.model).state_dict()
    decoders = ours.model.decoder.state_dict()
    clips = load_model(folder / "clip", "clip", CLIPConfig, CLIP).text_tower
    reading = {k for k in started if k.startswith("text_encoder.")}
    assert started.keys() - decoders.keys() == {"projection.weight"}
    assert torch.equal(started["projection.weight"], clips.projection.weight)
    for k in decoders:
        came = clips.state_dict()[k.removeprefix("text_")] if k in reading else decoders[k]
        assert torch.equal(started[k], came), k
    batch, same = (job.data(4, seeded(1)) for job in (ours, glides))
    assert all(torch.equal(a, b) for a, b in zip(batch, same, strict=True))
    images, z_i, tokens, patches = batch
    others = (images, z_i.roll(1, 0), tokens, patches)

    def change(job) -> float:
        first, second = (job.loss(job.model, given, seeded(2)).item() for given in (batch, others))
        return abs(first - second)

    assert change(glides) == 0 and change(ours) > 1e-6


@pytest.mark.parametrize("profile", PROFILES)
def test_there_is_a_recipe_for_each_world(profile):
    for world in (Shapes, Emoji):
        glides, decoders = (
            recipe_of(world.recipes, profile, stage) for stage in ("glide", "decoder")
        )
        assert glides.steps <= decoders.steps
    assert "glide" in stages.STAGES and "glide" not in stages.ALL
