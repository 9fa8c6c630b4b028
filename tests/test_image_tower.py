"""CLIP's second image tower, of convolutions, and its training against texts that stay."""

import json
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from tiny_model import save_tiny

from minidalle2.blocks.convolutional_towers import LayoutTower, StyleTower, mean_and_deviation
from minidalle2.clip import CLIP, CLIPConfig, ImageEnsemble, ImageTower, contrast
from minidalle2.commands.release import release
from minidalle2.scale.accumulation import contrasted
from minidalle2.storage.checkpoints import CheckpointError, load_model, save_model
from minidalle2.storage.eight_bits import pack
from minidalle2.tokenizer import END
from minidalle2.training import second_tower, stages
from minidalle2.training.second_tower import with_second_tower
from minidalle2.worlds.emoji.world import Emoji
from minidalle2.worlds.shapes.world import Shapes

WIDTHS = (8, 16, 24, 32)
CPU = torch.device("cpu")


def second_tower_loss(clip: CLIP, batch: second_tower.Batch, generator: torch.Generator):
    return second_tower.compare(clip, *second_tower.embed(clip, batch))


def job_of(folder):
    recipe = stages.planned_recipe(Shapes(), "smoke", "image_tower", None)
    return stages.make_job("image_tower", stages.Setting(Shapes(), folder, CPU), recipe)


@pytest.fixture
def tower() -> StyleTower:
    torch.manual_seed(0)
    return StyleTower(WIDTHS, embedding=12)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.fixture
def pair(clip) -> tuple[CLIP, CLIP]:
    """An earlier CLIP, and one with a second image tower."""
    torch.manual_seed(2)
    return clip, with_second_tower(clip, WIDTHS)


@pytest.fixture
def batch(clip, images):
    tokens = torch.randint(5, clip.config.vocab_size, (6, 5))
    tokens[:, -1] = END
    with torch.no_grad():
        return images, tokens, clip.encode_text(tokens), clip.encode_image(images)


# The tower


def test_shapes(tower, images):
    """(B, 3, 32, 32) → (B, E)."""
    assert tower(images).shape == (6, 12)


def test_mean_and_deviation_by_hand():
    x = torch.tensor([[[1.0, 3.0], [1.0, 3.0]], [[2.0, 2.0], [2.0, 2.0]]])[None]
    found = mean_and_deviation(x)
    expected = torch.tensor([[2.0, 2.0, (4 / 3) ** 0.5, 0.01]])
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    shuffled = x.flatten(2)[:, :, torch.tensor([2, 0, 3, 1])].view_as(x)
    assert torch.equal(mean_and_deviation(shuffled), found)  # where it is, is all the same


def test_an_empty_picture_has_a_gradient(tower):
    tower(torch.zeros(1, 3, 32, 32)).sum().backward()
    assert all(p.grad.isfinite().all() for p in tower.parameters())


def test_both_what_and_how_reach_the_embedding(tower, images):
    before = tower(images)
    for part in (tower.thing, tower.manner):
        weight = part[1].weight.data.clone()
        part[1].weight.data.zero_()
        assert (tower(images) - before).abs().max() > 1e-3
        part[1].weight.data.copy_(weight)


def test_the_config_says_which_tower(configs, tmp_path):
    clips = [CLIP(replace(configs.clip, style_widths=widths)) for widths in ((), WIDTHS)]
    assert [type(clip.image_tower) for clip in clips] == [ImageTower, ImageEnsemble]
    for clip in clips:
        save_model(tmp_path, "clip", clip)
        loaded = load_model(tmp_path, "clip", CLIPConfig, CLIP)
        assert type(loaded.image_tower) is type(clip.image_tower)
        assert loaded.config == clip.config
    save_model(tmp_path, "clip", clips[0])
    content = json.loads((tmp_path / "config.json").read_text())
    del content["config"]["style_widths"], content["config"]["layout_widths"]
    for first_format in ({}, {"image_widths": []}):  # before and after there was a choice
        content["format_version"] = 1
        older = content | {"config": content["config"] | first_format}
        (tmp_path / "config.json").write_text(json.dumps(older))
        assert load_model(tmp_path, "clip", CLIPConfig, CLIP).config == clips[0].config
    save_model(tmp_path, "clip", clips[1])
    content["config"]["image_widths"] = list(WIDTHS)
    (tmp_path / "config.json").write_text(json.dumps(content))
    assert load_model(tmp_path, "clip", CLIPConfig, CLIP).config == clips[1].config


# Its training


def test_all_but_the_second_tower_is_the_earlier_one(clip, batch):
    clip.log_scale.data.fill_(3.3)
    earlier, clip = clip, with_second_tower(clip, WIDTHS)
    images, tokens, _, _ = batch
    assert torch.equal(clip.encode_text(tokens), earlier.encode_text(tokens))
    assert torch.equal(clip.image_tower.first(images), earlier.image_tower(images))
    assert clip.log_scale.item() == earlier.log_scale.item()
    trained = {name for name, p in clip.named_parameters() if p.requires_grad}
    second = {
        f"image_tower.second.{name}" for name, _ in clip.image_tower.second.named_parameters()
    }
    assert trained == second | {"log_scale"}


def test_two_towers_are_averaged(pair, images):
    earlier, clip = pair
    first = earlier.encode_image(images)
    second = F.normalize(clip.image_tower.second(images), dim=-1)
    torch.testing.assert_close(clip.encode_image(images), F.normalize(first + second, dim=-1))
    z_i, patches = clip.encode_patches(images)
    assert torch.equal(z_i, clip.encode_image(images))
    assert torch.equal(patches, earlier.encode_patches(images)[1])


def test_the_loss_is_clips_and_the_distance_to_the_earlier_tower(pair, batch):
    _, clip = pair
    images, tokens, z_t, earlier = batch
    z_i = F.normalize(clip.image_tower.second(images), dim=-1)
    expected = contrast(clip, z_i, z_t, tokens) + 1 - (z_i * earlier).sum(1).mean()
    found = second_tower_loss(clip, batch, torch.Generator())
    torch.testing.assert_close(found, expected)
    there = second_tower_loss(clip, (images, tokens, z_t, z_i.detach()), torch.Generator())
    torch.testing.assert_close(found - there, 1 - F.cosine_similarity(z_i, earlier).mean())


@pytest.mark.parametrize("parts", [2, 3])
def test_parts_have_the_gradient_of_the_whole(pair, batch, parts):
    _, clip = pair
    found = []
    for loss in (second_tower_loss, contrasted(second_tower.embed, second_tower.compare, parts)):
        clip.zero_grad()
        value = loss(clip, batch, torch.Generator())
        value.backward()
        found.append(
            (value, {k: p.grad.clone() for k, p in clip.named_parameters() if p.requires_grad})
        )
    (whole, gradients), (value, in_parts) = found
    torch.testing.assert_close(value, whole)
    largest = max(g.abs().max() for g in gradients.values())
    assert largest > 1e-3
    for name, gradient in gradients.items():
        torch.testing.assert_close(in_parts[name], gradient, atol=1e-5 * largest, rtol=0)


@pytest.fixture
def folder(tiny_dalle2, tmp_path):
    return save_tiny(tiny_dalle2, tmp_path / "run")


def test_the_stage_leaves_all_else_and_takes_clips_place(folder, tiny_dalle2, tmp_path):
    steps = list(stages.train_stage("image_tower", Shapes(), folder, "smoke", CPU))
    assert len(steps) == 4
    assert "image_tower" in stages.STAGES and "image_tower" not in stages.ALL
    trained = load_model(folder / "image_tower", "image_tower", CLIPConfig, CLIP)
    earlier = tiny_dalle2.clip
    for kept, known in (
        (trained.text_tower, earlier.text_tower),
        (trained.image_tower.first, earlier.image_tower),
    ):
        for name, weight in known.state_dict().items():
            assert torch.equal(kept.state_dict()[name], weight), name
    release(folder, tmp_path / "weights")
    shipped = load_model(tmp_path / "weights" / "clip", "clip", CLIPConfig, CLIP)
    assert shipped.config == trained.config
    assert not (tmp_path / "weights" / "image_tower").exists()
    save_model(tmp_path / "packed", "clip", trained, pack)
    packed = load_model(tmp_path / "packed", "clip", CLIPConfig, CLIP).state_dict()
    assert all(torch.equal(w, packed[name]) for name, w in shipped.state_dict().items())


def test_a_second_tower_of_convolutions_is_refused(folder):
    with_two = with_second_tower(stages.Setting(Shapes(), folder, CPU).clip, WIDTHS)
    for clip in (with_two, CLIP(CLIPConfig(image_layers=0, layout_widths=(8, 8, 8)))):
        save_model(folder / "clip", "clip", clip)
        with pytest.raises(CheckpointError, match="has a convolutional image tower already"):
            job_of(folder)


def test_no_image_tower_at_all_is_refused():
    with pytest.raises(ValueError, match="exactly one of image_layers .* and layout_widths"):
        CLIPConfig(image_layers=0)


def test_both_convolutional_towers_at_once_are_refused():
    with pytest.raises(ValueError, match="exactly one of image_layers .* and layout_widths"):
        CLIPConfig(layout_widths=(8, 8, 8))
    with pytest.raises(ValueError, match="style_widths .* need image_layers, not layout_widths"):
        CLIPConfig(image_layers=0, layout_widths=(8, 8, 8), style_widths=WIDTHS)


def test_places_are_told_apart():
    """What stands left and right, exchanged, is the same on the average, but not in z_i."""
    torch.manual_seed(0)
    clip = CLIP(CLIPConfig(image_layers=0, layout_widths=(8, 16, 24)))
    assert type(clip.image_tower) is LayoutTower
    images = torch.rand(3, 3, 32, 32) * 2 - 1
    z_i, patches = clip.encode_patches(images)
    assert z_i.shape == (3, 128) and torch.equal(z_i, clip.encode_image(images))
    assert patches.shape == (3, 64, clip.image_tower.patch_width) == (3, 64, 16)
    torch.testing.assert_close(z_i.norm(dim=-1), torch.ones(3))
    rolled = clip.encode_image(images.roll(16, dims=3))
    assert (z_i * rolled).sum(-1).max() < 0.9


def test_the_shapes_have_convolutions_and_the_emoji_a_transformer():
    towers = {world.name: type(CLIP(world.sizes.clip).image_tower) for world in (Shapes, Emoji)}
    assert towers == {"shapes": LayoutTower, "emoji": ImageTower}


def test_the_stage_sees_what_clip_sees(folder, tiny_dalle2):
    job = job_of(folder)
    images, tokens, z_t, earlier = job.data(4, torch.Generator().manual_seed(0))
    clip = tiny_dalle2.clip
    torch.testing.assert_close(z_t, clip.encode_text(tokens), atol=2e-2, rtol=0)  # bfloat16
    torch.testing.assert_close(earlier, clip.encode_image(images), atol=2e-2, rtol=0)
    assert not z_t.requires_grad and not earlier.requires_grad


def test_it_learns(pair, batch):
    """From nothing to six pictures told apart, in few steps."""
    _, clip = pair
    optimizer = torch.optim.AdamW([p for p in clip.parameters() if p.requires_grad], 3e-3)
    losses = []
    for _ in range(30):
        loss = second_tower_loss(clip, batch, torch.Generator())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
