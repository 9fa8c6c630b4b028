"""How far a picture is from the training pictures: measure, threshold, and what commands say."""

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from tiny_model import save_tiny

from minidalle2.clip import CLIP, CLIPConfig
from minidalle2.commands import familiarity
from minidalle2.commands.cli import main
from minidalle2.commands.familiarity import FILE, comparison, load_threshold, write_threshold
from minidalle2.commands.options import weights_of
from minidalle2.commands.release import release
from minidalle2.dalle2 import WEIGHTS
from minidalle2.decoder import Decoder, DecoderConfig
from minidalle2.manipulations.familiarity import restored
from minidalle2.storage.checkpoints import CheckpointError, load_model
from minidalle2.storage.pictures import load_square
from minidalle2.worlds.catalogue import open_world


def small(image: Image.Image, path) -> torch.Tensor:
    image.save(path)
    return F.avg_pool2d(load_square(path, 128).float() / 127.5 - 1, 4)


def foreign(folder) -> dict[str, torch.Tensor]:
    """Pictures that no world drew: a red circle, a transparent triangle, something like a photo."""
    circle = Image.new("RGB", (300, 200), "white")
    ImageDraw.Draw(circle).ellipse((60, 10, 240, 190), fill=(255, 0, 0))
    triangle = Image.new("RGBA", (200, 200), (0, 0, 0, 0))
    ImageDraw.Draw(triangle).polygon([(100, 10), (10, 190), (190, 190)], fill=(0, 0, 255, 255))
    noise = torch.randint(256, (6, 6, 3), generator=torch.Generator().manual_seed(0))
    photo = Image.frombytes("RGB", (6, 6), bytes(noise.flatten().tolist()))
    photo = photo.resize((90, 90), Image.Resampling.BICUBIC)
    made = {"circle": circle, "triangle": triangle, "photo": photo}
    return {name: small(image, folder / f"{name}.png") for name, image in made.items()}


@pytest.mark.parametrize("name", ["shapes", "emoji"])
def test_it_tells_foreign_pictures_from_training_pictures(name, tmp_path):
    """Other training pictures than those that the threshold was measured on."""
    folder, threshold = WEIGHTS / name, load_threshold(WEIGHTS / name)
    clip = load_model(folder / "clip", "clip", CLIPConfig, CLIP)
    decoder = load_model(folder / "decoder", "decoder", DecoderConfig, Decoder)
    known, _ = open_world(name).captioned(32, torch.Generator().manual_seed(1))
    assert (restored(clip, decoder, known) >= threshold).sum() >= 31
    others = foreign(tmp_path)
    decibels = restored(clip, decoder, torch.stack(list(others.values())))
    found = dict(zip(others, decibels.tolist(), strict=True))
    assert max(found.values()) < threshold - 2, found


def test_a_picture_has_the_same_number_alone_and_together(tiny_dalle2):
    images = torch.rand(3, 3, 32, 32) * 2 - 1
    clip, decoder = tiny_dalle2.clip, tiny_dalle2.decoder
    together = restored(clip, decoder, images)
    torch.testing.assert_close(restored(clip, decoder, images[1:2]), together[1:2])
    assert together.shape == (3,) and together.unique().numel() == 3


def test_a_badly_trained_decoder_restores_badly(tiny_dalle2):
    for parameter in tiny_dalle2.decoder.parameters():
        torch.nn.init.constant_(parameter, 5.0)
    images = torch.rand(2, 3, 32, 32) * 2 - 1
    assert (restored(tiny_dalle2.clip, tiny_dalle2.decoder, images) < 5).all()


def test_the_threshold_is_a_quantile_of_training_pictures(tiny_dalle2, tmp_path, monkeypatch):
    monkeypatch.setattr(familiarity, "restored", lambda clip, decoder, images: images[:, 0, 0, 0])

    class Known:
        def captioned(self, n, generator):
            return torch.linspace(0, 100, n)[:, None, None, None].expand(n, 3, 32, 32), []

    weights = save_tiny(tiny_dalle2, tmp_path / "w")
    assert load_threshold(weights) is None
    assert write_threshold(weights, Known()) == load_threshold(weights) == 1.0
    assert json.loads((weights / FILE).read_text())["pictures"] == 512


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"decibels": "x"}', '{"decibels": null}'])
def test_a_broken_threshold_is_one_sentence(tmp_path, text):
    (tmp_path / FILE).write_text(text)
    with pytest.raises(CheckpointError, match=FILE):
        load_threshold(tmp_path)


def test_what_the_comparison_says():
    lines = comparison(["a.png", "b.png"], [13.74, 42.1], 39.1)
    assert lines[0].startswith("a.png (13.7 dB) is far from what the model knows; results may")
    assert lines[1] == "b.png (42.1 dB) is in the range of the training pictures"
    assert "99% of the training pictures have 39.1 dB or more" in lines[2] and len(lines) == 3
    assert "no threshold is known" in comparison(["a.png"], [], None)[0]


@pytest.mark.parametrize("threshold", [None, 99.0])
def test_the_commands_say_it(tiny_dalle2, few_steps, tmp_path, capsys, threshold):
    tiny_dalle2.sampling = few_steps
    weights = save_tiny(tiny_dalle2, tmp_path / "w")
    if threshold:
        (weights / FILE).write_text(json.dumps({"decibels": threshold}))
    Image.new("RGB", (40, 40), "red").save(tmp_path / "a.png")
    mask = Image.new("L", (40, 40))
    mask.paste(255, (20, 0, 40, 40))
    mask.save(tmp_path / "mask.png")
    commands = {
        "vary": ["-n", "1"],
        "blend": ["--text", "a star", "--frames", "2"],
        "edit": ["--from", "a star", "--to", "a red circle", "--frames", "1"],
        "inpaint": ["--mask", str(tmp_path / "mask.png"), "-n", "1"],
    }
    for command, words in commands.items():
        words = [command, str(tmp_path / "a.png"), *words, "--steps", "2", "--size", "32"]
        options = ["--weights", str(weights), "--device", "cpu", "--out", str(tmp_path / command)]
        assert main([*words, *options]) == 0
        said = capsys.readouterr().out
        assert ("a.png (" in said and "far from what" in said) == bool(threshold), command
        assert ("no threshold is known" in said) == (threshold is None), command


def test_a_release_carries_no_threshold_of_other_weights(tiny_dalle2, tmp_path):
    weights = tmp_path / "weights"
    weights.mkdir()
    (weights / FILE).write_text('{"decibels": 1.0}')
    run = save_tiny(tiny_dalle2, tmp_path / "run")
    release(run, weights)
    assert load_threshold(weights) is None
    (run / FILE).write_text('{"decibels": 2.0}')
    release(run, weights)
    assert load_threshold(weights) == 2.0


def test_the_wheel_has_the_thresholds():
    project = (WEIGHTS.parents[1] / "pyproject.toml").read_text("utf-8")
    assert f'"weights/*/{FILE}"' in project
    assert all((folder / FILE).is_file() for folder in WEIGHTS.iterdir())


def test_the_name_of_shipped_weights_finds_their_threshold(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_threshold(weights_of("shapes", Path("emoji"))) == load_threshold(WEIGHTS / "emoji")
