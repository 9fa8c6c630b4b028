"""Checkpoints: what is written is read back, and whatever is wrong is said in one sentence."""

import io
import json
import pickletools
import re
from dataclasses import dataclass, field, fields, replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from minidalle2.clip import CLIP, CLIPConfig
from minidalle2.decoder import Decoder, DecoderConfig
from minidalle2.storage import checkpoints
from minidalle2.storage.checkpoints import (
    FORMAT_VERSION,
    CheckpointError,
    config_from_dict,
    load_model,
    read_tensors,
    save_model,
    write_json,
    write_tensors,
)
from minidalle2.storage.eight_bits import SCALE, pack


@pytest.fixture
def folder(clip, tmp_path):
    save_model(tmp_path / "clip", "clip", clip)
    return tmp_path / "clip"


def load(folder) -> CLIP:
    return load_model(folder, "clip", CLIPConfig, CLIP)


def refusal(folder) -> str:
    """The sentence with which a checkpoint is refused."""
    with pytest.raises(CheckpointError) as error:
        load(folder)
    message = str(error.value)
    assert "\n" not in message and str(folder) in message
    return message


def edit(folder, change) -> None:
    content = json.loads((folder / "config.json").read_text())
    change(content)
    (folder / "config.json").write_text(json.dumps(content))


def test_round_trip_is_exact(clip, tmp_path):
    save_model(tmp_path, "clip", clip.train())
    loaded = load(tmp_path)
    assert loaded.config == clip.config and not loaded.training
    for name, tensor in clip.state_dict().items():
        assert torch.equal(tensor, loaded.state_dict()[name])
    images, tokens = torch.rand(2, 3, 32, 32), torch.tensor([[1, 5, 2], [1, 2, 0]])
    assert torch.equal(clip.eval()(images, tokens), loaded(images, tokens))


def test_config_json_holds_every_constructor_argument(clip, folder):
    content = json.loads((folder / "config.json").read_text())
    config = json.loads(json.dumps(vars(clip.config)))  # tuples are lists there
    assert content == {"format_version": FORMAT_VERSION, "stage": "clip", "config": config}
    assert config.keys() == {f.name for f in fields(CLIPConfig)}


def test_eight_bits_take_a_quarter_and_load_as_float32(clip, tmp_path):
    save_model(tmp_path / "whole", "clip", clip)
    save_model(tmp_path / "packed", "clip", clip, pack)
    sizes = [(tmp_path / n / "model.safetensors").stat().st_size for n in ("whole", "packed")]
    assert sizes[1] < 0.5 * sizes[0]  # of so small a model the header is much
    loaded = load(tmp_path / "packed").state_dict()
    for name, tensor in clip.state_dict().items():
        assert loaded[name].dtype == torch.float32
        assert (loaded[name] - tensor).abs().max() <= tensor.abs().max() / 250, name


def test_half_precision_loads_as_float32(clip, tmp_path):
    """What was shipped before there were 8 bits."""
    half = {name: tensor.half() for name, tensor in clip.state_dict().items()}
    save_model(tmp_path, "clip", clip, lambda tensors: half)
    for name, tensor in load(tmp_path).state_dict().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, half[name].float())


def test_eight_bits_without_their_scale(clip, tmp_path):
    save_model(tmp_path, "clip", clip, pack)
    tensors, metadata = read_tensors(tmp_path / "model.safetensors")
    name = next(name for name in tensors if name.endswith(SCALE))
    write_tensors(tmp_path / "model.safetensors", tensors | {name: tensors[name][1:]}, metadata)
    assert "no scale for each of its rows" in refusal(tmp_path)
    del tensors[name]
    write_tensors(tmp_path / "model.safetensors", tensors, metadata)
    assert "no scale for each of its rows" in refusal(tmp_path)


def test_nothing_is_pickled(folder):
    for path in folder.iterdir():
        content = path.read_bytes()
        assert content[:1] == b"{" or content[8:9] == b"{"  # JSON, or safetensors' JSON header
        with pytest.raises(ValueError):
            pickletools.dis(content, out=io.StringIO())


def test_missing(folder, tmp_path):
    assert "no clip checkpoint" in refusal(tmp_path / "nowhere")
    (folder / "model.safetensors").unlink()
    assert "there is no checkpoint" in refusal(folder)


@pytest.mark.parametrize("kept", [0, 5, 200, -1])
def test_truncated(folder, kept):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    assert "truncated or not a safetensors file" in refusal(folder)


def test_foreign_stage(folder):
    edit(folder, lambda content: content.update(stage="prior"))
    assert "'prior' checkpoint, not a 'clip' one" in refusal(folder)


@pytest.mark.parametrize("content", ["", "not json", "[1, 2]", "{}", '"text"', "\x00\x01"])
def test_foreign_config(folder, content):
    (folder / "config.json").write_text(content)
    assert "is not a minidalle2 config" in refusal(folder)


def test_foreign_weights(folder):
    pickled = b"\x80\x02}q\x00." * 50  # as .pt files are
    (folder / "model.safetensors").write_bytes(pickled)
    assert "not a safetensors file" in refusal(folder)


def test_newer_format(folder):
    edit(folder, lambda content: content.update(format_version=FORMAT_VERSION + 1))
    message = refusal(folder)
    assert f"format {FORMAT_VERSION + 1}, newer than the {FORMAT_VERSION}" in message
    assert "update minidalle2" in message


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"image_widths": []}, {}),
        ({"image_widths": [8, 8, 8], "image_layers": 0}, {"layout_widths": (8, 8, 8)}),
        ({"image_widths": [8, 8, 8, 8]}, {"style_widths": (8, 8, 8, 8)}),
    ],
)
def test_format_1_of_clip(configs, tmp_path, old, new):
    """`image_widths` meant one of two image towers."""
    config = replace(configs.clip, **{"image_layers": old.get("image_layers", 1), **new})
    save_model(tmp_path, "clip", CLIP(config))

    def as_before(content):
        content["format_version"] = 1
        del content["config"]["layout_widths"], content["config"]["style_widths"]
        content["config"].update(old)

    edit(tmp_path, as_before)
    assert load(tmp_path).config == config
    edit(tmp_path, lambda content: content.update(format_version=FORMAT_VERSION))
    assert "unknown key 'image_widths'" in refusal(tmp_path)


def test_format_1_of_the_decoder(decoder, tmp_path):
    """Where guidance ends is an option of sampling now, so a config cannot say it any more."""
    save_model(tmp_path, "decoder", decoder)

    def guided_above(t: int):
        edit(tmp_path, lambda content: content.update(format_version=1))
        edit(tmp_path, lambda content: content["config"].update(guided_above=t))
        return load_model(tmp_path, "decoder", DecoderConfig, Decoder)

    assert guided_above(0).config == decoder.config
    with pytest.raises(CheckpointError, match=r"decoder_guided_above.*sampling\.json") as error:
        guided_above(500)
    assert "\n" not in str(error.value) and str(tmp_path) in str(error.value)


@pytest.mark.parametrize(
    "change",
    [
        {"format_version": "new"},
        {"format_version": None},
        {"config": [1]},
        {"config": None},
        {"config": {"width": "wide"}},
        {"config": {"width": {"of": 1}}},
        {"config": {"width": -4}},
        {"config": {"heads": 0}},
    ],
)
def test_nonsense_in_the_config(folder, change):
    edit(folder, lambda content: content.update(change))
    assert "config.json" in refusal(folder)


def test_unknown_config_key_lists_the_known_ones(folder):
    edit(folder, lambda content: content["config"].update(depth=7))
    message = refusal(folder)
    assert "'depth'" in message and all(name in message for name in vars(CLIPConfig()))


def test_weights_that_do_not_fit_the_config(folder):
    edit(folder, lambda content: content["config"].update(width=32))
    message = refusal(folder)
    assert "do not fit its config.json" in message and "expected" in message and "found" in message


def test_missing_and_foreign_tensors(folder):
    tensors = load_file(folder / "model.safetensors")
    tensors["aaa"] = torch.zeros(2)
    del tensors["log_scale"]
    save_file(tensors, folder / "model.safetensors")
    assert "2 tensors differ, first 'aaa' (expected None, found (2,))" in refusal(folder)


def fill_disk(tensors, path, metadata):
    """What save_file meets on a full disk, half-way."""
    path.write_bytes(b"half a file")
    raise OSError(28, "No space left on device")


def test_a_full_disk_leaves_the_previous_checkpoint(clip, folder, monkeypatch):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    monkeypatch.setattr(checkpoints, "save_file", fill_disk)
    with pytest.raises(CheckpointError) as error:
        save_model(folder, "clip", clip)
    assert re.search(r"No space left on device.*unchanged. Free some disk space", str(error.value))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_full_disk_while_writing_text(tmp_path, monkeypatch):
    write_json(tmp_path / "a.json", {"a": 1})

    def fail(file):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(CheckpointError, match="No space left"):
        write_json(tmp_path / "a.json", {"a": 2})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_folder_that_cannot_be_made(clip, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="could not save"):
        save_model(tmp_path / "file" / "clip", "clip", clip)


def test_no_moment_without_a_whole_checkpoint(clip, folder, monkeypatch):
    """The place is only ever changed by one rename of a finished file."""
    seen, replace = [], checkpoints.os.replace

    def look(source, target):
        whole = target.parent / "model.safetensors"
        seen.append((target.name, len(load_file(whole)), source.parent == target.parent))
        replace(source, target)

    monkeypatch.setattr(checkpoints.os, "replace", look)
    save_model(folder, "clip", clip)
    assert [entry[0] for entry in seen] == ["config.json", "model.safetensors"]
    assert len({entry[1] for entry in seen}) == 1 and all(entry[2] for entry in seen)
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]


@dataclass
class Inner:
    width: int = 1


@dataclass
class Outer:
    inner: Inner = field(default_factory=Inner)
    widths: tuple[int, ...] = (1,)


class Nested(nn.Module):
    def __init__(self, config: Outer):
        super().__init__()
        self.config = config
        self.weight = nn.Parameter(torch.zeros(config.inner.width))


def test_nested_configs_and_tuples_come_back(tmp_path):
    save_model(tmp_path, "nested", Nested(Outer(Inner(3), (4, 5))))
    assert load_model(tmp_path, "nested", Outer, Nested).config == Outer(Inner(3), (4, 5))
    with pytest.raises(CheckpointError, match="x has the unknown key 'height'; Inner knows: width"):
        config_from_dict(Outer, {"inner": {"height": 1}}, "x")
