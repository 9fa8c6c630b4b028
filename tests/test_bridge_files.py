"""Layouts of checkpoints that people have: the bridge reads them, or says what they are instead."""

import json
import os
import zipfile
from collections import OrderedDict, defaultdict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tiny_clip import JSON, SIZES, Archive, tiny_clip
from torch import Tensor, nn

from minidalle2.bridge import peer
from minidalle2.bridge.checkpoint import read_checkpoint
from minidalle2.bridge.clip_config import config_of_json
from minidalle2.bridge.clip_files import MARKS as CLIP_MARKS
from minidalle2.bridge.clip_files import load_clip
from minidalle2.bridge.decoder import MARKS as DECODER_MARKS
from minidalle2.bridge.decoder import averaged
from minidalle2.bridge.files import only_file
from minidalle2.bridge.openai_clip import OpenAICLIPConfig
from minidalle2.bridge.peer import fill_peer, reject, section
from minidalle2.bridge.prior import MARKS as PRIOR_MARKS
from minidalle2.bridge.prior import check_name
from minidalle2.bridge.recognise import A_PRIOR
from minidalle2.bridge.state_dict import find_network
from minidalle2.storage.checkpoints import CheckpointError

WEIGHTS = tiny_clip().state_dict()
NAME, MARK = CLIP_MARKS[1], CLIP_MARKS[0]  # tensors by which a CLIP is found


def write(folder: Path, saved: object, name: str = "weights.pt") -> Path:
    torch.save(saved, folder / name)
    (folder / "open_clip_config.json").write_text(json.dumps(JSON))
    return folder


def below(prefix: str, weights: dict = WEIGHTS) -> dict[str, Tensor]:
    return {prefix + name: value for name, value in weights.items()}


def other(number: float) -> dict[str, Tensor]:
    """Weights of another CLIP: all numbers are the same."""
    return {name: torch.full_like(value, number) for name, value in WEIGHTS.items()}


class Namespace:  # an object of a class that torch's own reader does not know
    def __init__(self, **settings):
        self.__dict__ |= settings


class Settings(dict):  # as Lightning's AttributeDict
    pass


OPTIMIZER = {
    "state": {0: {"step": torch.tensor(5.0), "exp_avg": torch.ones(3)}},
    "param_groups": [{"lr": 1e-4, "params": [0, 1]}],
}
LIGHTNING = {
    "epoch": 3,
    "global_step": 1000,
    "pytorch-lightning_version": "2.4.0",
    "state_dict": below("model.clip."),
    "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 4}}}},
    "callbacks": {Namespace: {"best_model_path": Path("x"), "best_model_score": torch.tensor(0.3)}},
    "optimizer_states": [OPTIMIZER],
    "lr_schedulers": [None],
    "hparams_name": "config",
    "hyper_parameters": Settings(clip=Namespace(width=64), words=defaultdict(list, a=[1])),
}


@pytest.mark.parametrize(
    "saved",
    [
        WEIGHTS,
        {"state_dict": WEIGHTS, "epoch": 3, "name": "x", "optimizer": OPTIMIZER, "scaler": None},
        {"model": WEIGHTS, "optimizer": OPTIMIZER, "rng": np.zeros(3)},
        {"model_state_dict": WEIGHTS, "loss": 0.1, "args": SimpleNamespace(lr=1)},
        {"ema": WEIGHTS, "model": other(2)},
        {"model": other(2), "ema_state_dict": below("module.")},
        {"model": other(2), "model_ema": WEIGHTS, "ema": {"copy": WEIGHTS}},
        {"ema": below("ema_model.") | below("online_model.", other(2)) | {"step": torch.tensor(1)}},
        {
            "model": WEIGHTS | {NAME: torch.ones(64)},
            "ema": {NAME: WEIGHTS[NAME], MARK: WEIGHTS[MARK]},
        },
        {"checkpoint": {"trainer": {"net": {"state_dict": WEIGHTS}}}, "state_dict": None},
        [WEIGHTS],
        below("module."),
        below("_orig_mod."),
        below("module._orig_mod."),
        {"state_dict": below("_orig_mod.module.model.clip.")},
        {k.replace("visual.", "visual._orig_mod."): v for k, v in WEIGHTS.items()},
        {
            k.replace("resblocks.", "resblocks._checkpoint_wrapped_module."): v
            for k, v in WEIGHTS.items()
        },
        below("module._fsdp_wrapped_module."),
        {"module": WEIGHTS, "optimizer": OPTIMIZER},
        below("clip.clip.") | {"net.learned_query": torch.ones(3)},
        WEIGHTS | {"epoch": 3, "name": "x", "nothing": None, "settings": {"a": {}}, "l": [1]},
        OrderedDict(WEIGHTS) | {"optimizer": OPTIMIZER},
        {k: nn.Parameter(v) for k, v in WEIGHTS.items()},
        LIGHTNING,
    ],
)
def test_a_clip_is_found_under_keys_and_prefixes(tmp_path, saved):
    loaded = load_clip(write(tmp_path, saved)).state_dict()
    assert set(loaded) == set(WEIGHTS)
    assert all(torch.equal(loaded[name], WEIGHTS[name]) for name in WEIGHTS)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("safe", [True, False])
def test_other_precisions_become_float32(tmp_path, dtype, safe):
    saved = {name: value.to(dtype) for name, value in WEIGHTS.items()}
    write(tmp_path, saved)
    if safe:
        (tmp_path / "weights.pt").unlink()
        save_file(saved, tmp_path / "open_clip_model.safetensors", {"format": "pt"})
    loaded = load_clip(tmp_path).state_dict()
    assert all(value.dtype == torch.float32 for value in loaded.values())
    assert all(torch.equal(loaded[name], saved[name].float()) for name in WEIGHTS)


@pytest.mark.parametrize("name", ["last.ckpt", "WEIGHTS.PT", "weights.safetensors"])
def test_the_content_says_how_a_file_is_read(tmp_path, name):
    write(tmp_path, WEIGHTS, name)  # also a file of torch.save that is called safetensors
    assert torch.equal(load_clip(tmp_path).state_dict()[NAME], WEIGHTS[NAME])
    save_file(WEIGHTS, tmp_path / name)
    assert torch.equal(load_clip(tmp_path).state_dict()[NAME], WEIGHTS[NAME])


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_views_and_shared_storages_keep_their_values(tmp_path, protocol):
    base = torch.arange(12.0).view(3, 4)
    saved = {
        "t": base.T,
        "part": base[1:, 2],
        "none": base[:0],
        "scalar": base[2, 3],
        "b": base > 3,
    }
    torch.save(saved, tmp_path / "x.pt", pickle_protocol=protocol)
    content = read_checkpoint(tmp_path).content
    assert all(torch.equal(content[name], saved[name]) for name in saved)


def test_the_format_of_torch_before_1_6(tmp_path):
    write(tmp_path, {})
    torch.save({"model": WEIGHTS}, tmp_path / "weights.pt", _use_new_zipfile_serialization=False)
    assert torch.equal(load_clip(tmp_path).state_dict()[NAME], WEIGHTS[NAME])
    whole = (tmp_path / "weights.pt").read_bytes()
    for length in (100, 5000, len(whole) - 50):
        (tmp_path / "weights.pt").write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match="can't be read .*; download it again"):
            load_clip(tmp_path)
    saved = {"model": WEIGHTS, "args": Namespace()}
    torch.save(saved, tmp_path / "weights.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(CheckpointError, match="before 1.6, and contains an object of .*Namespace"):
        load_clip(tmp_path)


# Files in several parts


def test_the_parts_of_a_checkpoint_are_joined(tmp_path):
    names = sorted(WEIGHTS)
    (tmp_path / "open_clip_config.json").write_text(json.dumps(JSON))
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {}}')
    for i in range(2):
        part = {name: WEIGHTS[name] for name in names[i::2]}
        save_file(part, tmp_path / f"model-0000{i + 1}-of-00002.safetensors")
    (tmp_path / "open_clip_config.json").rename(tmp_path / "config.json")
    loaded = load_clip(tmp_path).state_dict()
    assert all(torch.equal(loaded[name], WEIGHTS[name]) for name in WEIGHTS)
    assert only_file(tmp_path, (".json",), "config").name == "config.json"
    save_file(WEIGHTS, tmp_path / "model-00002-of-00002.safetensors")
    with pytest.raises(CheckpointError, match="can't be joined .* occurs twice"):
        load_clip(tmp_path)
    (tmp_path / "model-00002-of-00002.safetensors").rename(tmp_path / "model-00003-of-00003.bin")
    with pytest.raises(CheckpointError, match="should hold exactly one file of weights"):
        load_clip(tmp_path)


def test_a_missing_part_is_named(tmp_path):
    for i in (1, 3):
        torch.save({}, tmp_path / f"pytorch_model-0000{i}-of-00003.bin")
    with pytest.raises(CheckpointError, match="lacks part 2 of the 3 parts of pytorch_model"):
        read_checkpoint(tmp_path)
    (tmp_path / "pytorch_model-00003-of-00003.bin").unlink()
    with pytest.raises(CheckpointError, match="lacks part 2 of the 3"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["a.pt", "b.pt"], "holds a.pt, b.pt; keep the one that you want"),
        (["__0_0.distcp", ".metadata"], "format_utils dcp_to_torch"),
        (["last.ckpt/__0_0.distcp"], "dcp_to_torch .*last.ckpt .*model.pt`"),
        (["zero_to_fp32.py", "latest"], "DeepSpeed in .* with the script zero_to_fp32.py"),
        (["last.ckpt/checkpoint/zero_pp_rank_0_mp_rank_00_optim_states.pt"], "DeepSpeed in .*last"),
        (["model.onnx"], "no such file .it holds model.onnx.; put the file of weights there"),
        ([], "holds no such file .it holds nothing."),
    ],
)
def test_a_folder_without_exactly_one_file(tmp_path, names, said):
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(CheckpointError, match=said):
        read_checkpoint(tmp_path)


# Files that are something else


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty; download it again"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1", "Git LFS .*git lfs pull"),
        (b"\n<!DOCTYPE html><html>", "is a web page; open the link in a browser"),
        (b'{"error": "not found"}', "is a text in JSON"),
        (b"\x1f\x8b\x08", "is a packed file .*unpack it"),
        (b"GGUF\x03", "llama.cpp"),
        (b"\x89HDF\r\n", "Keras"),
        (b"\x80\x04}\x94.", "a pickle, but not of torch.save"),
        (b"anything else", "can't be read as a checkpoint .*download it again"),
    ],
)
def test_a_file_of_another_kind(tmp_path, content, said):
    (tmp_path / "weights.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match=said):
        read_checkpoint(tmp_path)


def test_a_broken_safetensors_file(tmp_path):
    save_file(WEIGHTS, tmp_path / "x.safetensors")
    whole = (tmp_path / "x.safetensors").read_bytes()
    for length in (len(whole) - 5, 300):
        (tmp_path / "x.safetensors").write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match="can't be read .*download it again"):
            read_checkpoint(tmp_path)


def test_a_zip_archive_that_torch_did_not_write(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.pt", "w") as archive:
        archive.writestr("weights/model.pt", b"x")
    with pytest.raises(CheckpointError, match="zip archive, but not one of torch.save"):
        read_checkpoint(tmp_path)


# Content that is no CLIP


MODULE = nn.Sequential(nn.Linear(2, 3))
HALF = {name: value for name, value in WEIGHTS.items() if name.startswith("visual.")}


@pytest.mark.parametrize(
    ("saved", "said"),
    [
        (
            MODULE,
            r"whole pickled module .torch.nn.*Sequential.*weights_only=False\)\.state_dict\(\)",
        ),
        (
            {"model": MODULE, "epoch": 1},
            r"under \['model'\].*weights_only=False\)\['model'\]\.state",
        ),
        ({"a": {"module": MODULE}}, r"under \['a'\]\['module'\]"),
        ({}, "contains an empty dict and no state dict"),
        ([], "contains an empty list and no state dict"),
        (None, "contains None and no state dict"),
        (torch.ones(3), "contains one tensor without a name"),
        ({"state_dict": None}, "contains no tensors, only 'state_dict': None"),
        (
            {"epoch": 3, "state_dict": {}},
            "'epoch': a value of type int, 'state_dict': an empty dict",
        ),
        (Namespace(a=1), "contains an object of test_bridge_files.Namespace and no state dict"),
        ({"optimizer": OPTIMIZER}, "holds the state of an optimizer; save the state dict"),
        ({"a": torch.ones(1), "b": torch.ones(1)}, "no CLIP that is known: .* such as 'a', 'b'"),
        (list(WEIGHTS.values()), "holds tensors without names; save the state dict"),
        ({"a": WEIGHTS, "b": other(2)}, "2 different networks .* under 'a', 'b'; save the one"),
        (below("student.") | below("teacher.", other(1)), "under 'student.', 'teacher.'"),
        (
            WEIGHTS | below("module.", other(2)),
            "weights.pt has the tensor .* twice, once as 'module",
        ),
        ({"net.learned_query": torch.ones(2)}, "a prior .*into the folder prior, and .* CLIP here"),
        ({"model": {"unets.0.w": torch.ones(2)}}, "a decoder of .* put it into the folder decoder"),
        (HALF, "the image tower of a CLIP; save the whole CLIP"),
        ({NAME: torch.ones(2)}, "the text tower of a CLIP; save the whole CLIP"),
        ({"vision_model.x": torch.ones(1)}, "Hugging Face's layout; take the open_clip file"),
        ({"visual.layer1.0.x": torch.ones(1), NAME: torch.ones(1)}, "a CLIP with a ResNet"),
        ({"visual.trunk.x": torch.ones(1)}, "an image tower of timm"),
        ({"text.transformer.x": torch.ones(1)} | HALF, "a CLIP with custom_text"),
        ({"base.lora_A.weight": torch.ones(1)}, "an adapter .LoRA."),
        ({"model.diffusion_model.x": torch.ones(1)}, "a network of Stable Diffusion"),
    ],
)
def test_what_is_no_clip_is_recognised(tmp_path, saved, said):
    with pytest.raises(CheckpointError, match=said) as caught:
        load_clip(write(tmp_path, saved))
    assert "StandIn" not in str(caught.value) and "\n" not in str(caught.value)


def test_a_clip_in_the_folder_of_a_prior(tmp_path):
    with pytest.raises(CheckpointError, match="holds a CLIP; put it into the folder clip, and the"):
        find_network(read_checkpoint(write(tmp_path, WEIGHTS)), PRIOR_MARKS, A_PRIOR)


def test_the_remedy_for_a_pickled_module_works(tmp_path):
    clip = tiny_clip()
    with pytest.raises(CheckpointError) as caught:
        load_clip(write(tmp_path, {"model": clip}))
    path = new_path = tmp_path / "weights.pt"
    exec(str(caught.value).split("`")[1], {"torch": torch, "path": path, "new_path": new_path})
    assert torch.equal(load_clip(tmp_path).ln_final.weight, clip.ln_final.weight)


SCALE = "logit_scale"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({SCALE: 3}, "has a value of type int under 'logit_scale', not a plain tensor"),
        ({"visual.proj": None}, "has None under 'visual.proj', not a plain tensor"),
        ({NAME: np.ones(64)}, "has a NumPy array under 'ln_final.weight', not a plain"),
        (
            {"text_projection": torch.ones(64, 20).to_sparse()},
            "has a sparse tensor under 'text_projection'",
        ),
        (
            {"visual.proj": torch.ones(128, 20, device="meta")},
            "without numbers .device meta. under 'visual.proj'",
        ),
        ({NAME: torch.ones(64, dtype=torch.int8)}, "'ln_final.weight' as torch.int8; quantised"),
        ({NAME: torch.full((64,), torch.nan)}, "'ln_final.weight' that are not finite"),
        ({NAME: torch.full((64,), torch.inf).half()}, "'ln_final.weight' that are not finite"),
        ({"text_projection": torch.ones(64)}, r"'text_projection' in the shape \(64,\)"),
        ({NAME: torch.ones(63)}, r"first 'ln_final.weight' \(expected \(64,\), found \(63,\)\)"),
        ({"transformer.resblocks.0.ls_1.gamma": torch.ones(64)}, "the network .* no such tensor"),
    ],
)
def test_entries_that_are_no_weights(tmp_path, change, said):
    with pytest.raises(CheckpointError, match=said):
        load_clip(write(tmp_path, WEIGHTS | change))


@pytest.mark.parametrize("name", ["text_projection", "visual.proj", "ln_final.bias"])
def test_a_missing_tensor_is_named(tmp_path, name):
    saved = {k: v for k, v in WEIGHTS.items() if k != name}
    with pytest.raises(CheckpointError, match=f"'{name}'.* take the open_clip file"):
        load_clip(write(tmp_path, saved))


# Code in files


class Trap:
    def __reduce__(self):
        return os.mkdir, (Trap.path,)


def test_a_file_with_code_gives_its_weights_and_runs_nothing(tmp_path):
    Trap.path = str(tmp_path / "made by the file")
    saved = {"model": WEIGHTS, Trap(): 1, "hooks": [Trap(), {Trap(): Trap()}]}
    loaded = load_clip(write(tmp_path, saved))
    assert torch.equal(loaded.state_dict()[NAME], WEIGHTS[NAME])
    assert not Path(Trap.path).exists()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_code_of_a_torchscript_archive_is_not_run(tmp_path):
    class Loud(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.ones(2))

        @torch.jit.export
        def __getstate__(self):
            return self.w, self.training

        @torch.jit.export
        def __setstate__(self, state: tuple[Tensor, bool]):
            raise AssertionError("this ran")

        def forward(self) -> int:
            return 1

    archive = Archive(tiny_clip())
    archive.loud = Loud()
    torch.jit.script(archive).save(tmp_path / "x.pt")
    assert "loud" not in str(list(read_checkpoint(tmp_path).content))
    assert load_clip(tmp_path).config.quick_gelu


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_attributes_of_a_torchscript_archive_are_no_weights(tmp_path):
    archive = Archive(tiny_clip())
    archive.transformer.resblocks.mask = torch.ones(9, 9)  # a constant, as OpenAI's blocks have
    torch.jit.script(archive).save(tmp_path / "x.pt")
    expected = torch.jit.load(tmp_path / "x.pt").state_dict()
    content = read_checkpoint(tmp_path).content
    assert set(content) == set(expected)
    assert all(torch.equal(content[name], expected[name]) for name in expected)


# Settings of open_clip's config


BIG_G = {"image_hidden": 630, "text_hidden": 200}  # widths 128 and 64


def rewritten(part: str | None, **settings) -> str:
    content = json.loads(json.dumps(JSON))
    place = content["model_cfg"]
    if part == "preprocess_cfg":
        place = content[part]
    elif part:
        place = place[part]
    place.update(settings)
    return json.dumps(content)


def test_the_mlp_ratio_of_vit_big_g(tmp_path):
    clip = tiny_clip(OpenAICLIPConfig(**{**vars(SIZES), **BIG_G}))
    write(tmp_path, clip.state_dict())
    content = json.loads(rewritten("vision_cfg", mlp_ratio=4.9231))  # int(128 * 4.9231) = 630
    content["model_cfg"]["text_cfg"]["mlp_ratio"] = 3.14
    (tmp_path / "open_clip_config.json").write_text(json.dumps(content))
    loaded, images = load_clip(tmp_path), torch.rand(1, 3, 32, 32)
    assert (loaded.config.image_hidden, loaded.config.text_hidden) == (630, 200)
    clip.config.mean, clip.config.std = loaded.config.mean, loaded.config.std
    assert torch.equal(loaded.encode_image(images), clip.encode_image(images))
    content["model_cfg"]["text_cfg"]["mlp_ratio"] = 4.0
    (tmp_path / "open_clip_config.json").write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match="text_cfg.mlp_ratio 4.0, but .* have 3.125"):
        load_clip(tmp_path)


@pytest.mark.parametrize(
    ("part", "settings"),
    [
        (None, {"init_logit_scale": 2.6, "custom_text": False, "init_logit_bias": None}),
        ("vision_cfg", {"patch_dropout": 0.5, "mlp_ratio": 4.0, "head_width": 64}),
        ("vision_cfg", {"image_size": [32, 32], "pool_type": "tok", "timm_model_name": None}),
        ("vision_cfg", {"image_size": 37}),  # five pixels more than whole patches
        ("text_cfg", {"mlp_ratio": 4, "pool_type": "argmax", "hf_model_name": None, "pad_id": 0}),
        ("preprocess_cfg", {"size": [32, 32], "mode": "RGB", "resize_mode": "squash"}),
        ("preprocess_cfg", {"size": 32, "interpolation": "bilinear", "fill_color": 0}),
    ],
)
def test_settings_without_effect_and_with_an_effect(tmp_path, part, settings):
    path = tmp_path / "open_clip_config.json"
    path.write_text(rewritten(part, **settings))
    config = config_of_json(path, SIZES)
    assert config.interpolation == settings.get("interpolation", "bicubic")
    assert config.image_size == (37 if settings.get("image_size") == 37 else 32)


def test_the_interpolation_is_used(tmp_path):
    bicubic, images = load_clip(write(tmp_path, WEIGHTS)), torch.rand(1, 3, 50, 50)
    content = rewritten("preprocess_cfg", interpolation="bilinear")
    (tmp_path / "open_clip_config.json").write_text(content)
    assert not torch.equal(load_clip(tmp_path).encode_image(images), bicubic.encode_image(images))


@pytest.mark.parametrize(
    ("part", "settings", "said"),
    [
        (None, {"custom_text": True}, "'custom_text' with the value true, but .* needs false"),
        (None, {"multimodal_cfg": {}}, "'multimodal_cfg', which minidalle2 does not know"),
        (None, {"vision_cfg": 3}, "has 3 as vision_cfg, which should be an object"),
        (None, {"text_cfg": None}, "has None as text_cfg"),
        (None, {"quick_gelu": "true"}, "'true' as quick_gelu, which should be true or false"),
        ("vision_cfg", {"head_width": 0}, "0 as vision_cfg.head_width, .* divides the width 128"),
        ("vision_cfg", {"head_width": 48}, "48 as vision_cfg.head_width"),
        ("vision_cfg", {"mlp_ratio": "4"}, "'4' as vision_cfg.mlp_ratio, .* a positive number"),
        ("vision_cfg", {"mlp_ratio": 4.9231}, "vision_cfg.mlp_ratio 4.9231, but .* have 4;"),
        ("vision_cfg", {"layers": [3, 4, 6, 3]}, r"vision_cfg.layers \[3, 4, 6, 3\], but"),
        ("vision_cfg", {"image_size": [32, 40]}, "vision_cfg.image_size, .* side of a square"),
        ("vision_cfg", {"image_size": 64}, "vision_cfg.image_size 64, but the weights"),
        ("vision_cfg", {"ls_init_value": 0.1}, "'vision_cfg.ls_init_value' with the value 0.1"),
        ("vision_cfg", {"pool_type": "avg"}, 'vision_cfg.pool_type\' with the value "avg"'),
        ("vision_cfg", {"no_ln_pre": True}, "vision_cfg.no_ln_pre' with the value true"),
        ("vision_cfg", {"act_kwargs": {"a": 1}}, "vision_cfg.act_kwargs"),
        (
            "vision_cfg",
            {"mlp_ration": 4.0},
            "'vision_cfg.mlp_ration', which minidalle2 does not know",
        ),
        ("text_cfg", {"heads": 3}, "3 as text_cfg.heads, .* divides the width 64"),
        ("text_cfg", {"hf_tokenizer_name": "x"}, "text_cfg.hf_tokenizer_name"),
        ("text_cfg", {"tokenizer_kwargs": {"clean": "canonicalize"}}, "text_cfg.tokenizer_kwargs"),
        ("text_cfg", {"no_causal_mask": True}, "text_cfg.no_causal_mask"),
        ("text_cfg", {"vocab_size": "518"}, "text_cfg.vocab_size '518', but the weights"),
        ("preprocess_cfg", {"mean": [0.5, 0.5]}, "preprocess_cfg.mean, .* a list of three numbers"),
        ("preprocess_cfg", {"std": [0.5, 0, 0.5]}, "preprocess_cfg.std, .* numbers above 0"),
        ("preprocess_cfg", {"interpolation": "random"}, "'random' as .* bicubic or bilinear"),
        ("preprocess_cfg", {"size": 224}, "preprocess_cfg.size 224, but"),
        ("preprocess_cfg", {"mode": "L"}, "'preprocess_cfg.mode' with the value \"L\""),
        ("preprocess_cfg", {"means": 0}, "'preprocess_cfg.means', which minidalle2 does not know"),
    ],
)
def test_settings_that_are_not_supported_are_named(tmp_path, part, settings, said):
    path = tmp_path / "open_clip_config.json"
    path.write_text(rewritten(part, **settings))
    with pytest.raises(CheckpointError, match=said):
        config_of_json(path, SIZES)


def test_the_config_among_the_files_of_a_hub(tmp_path):
    write(tmp_path, WEIGHTS)
    for name in ("config.json", "preprocessor_config.json", "tokenizer.json", "vocab.json"):
        (tmp_path / name).write_text('{"model_type": "clip"}')
    assert torch.equal(load_clip(tmp_path).state_dict()[NAME], WEIGHTS[NAME])
    (tmp_path / "open_clip_config.json").rename(tmp_path / "other.json")
    with pytest.raises(
        CheckpointError, match="exactly one config .* holds config.json, other.json"
    ):
        load_clip(tmp_path)
    (tmp_path / "other.json").unlink()
    with pytest.raises(CheckpointError, match="no config of open_clip, .* keys are model_type"):
        load_clip(tmp_path)


# Priors and decoders, as far as they go without DALLE2-PyTorch


PRIOR = {"net.learned_query": torch.ones(3), "net.w": torch.zeros(2)}
TWICE = {name: 2 * value for name, value in PRIOR.items()}


@pytest.mark.parametrize(
    "saved",
    [
        {"model": PRIOR, "ema_model": TWICE, "version": "1.15.6"},
        {"model": PRIOR, "ema": below("ema_model.", TWICE) | below("online_model.", PRIOR)}
        | {"ema_model": TWICE},
        {"state_dict": below("prior.module.", TWICE), "epoch": 3, "callbacks": {}},
        {"model": None, "ema_model": TWICE},
        TWICE | {"step": torch.tensor(3), "epoch": 3},
    ],
)
def test_a_prior_is_found_under_keys_and_prefixes(tmp_path, saved):
    found = find_network(read_checkpoint(write(tmp_path, saved)), PRIOR_MARKS, A_PRIOR)
    assert all(torch.equal(found[name], TWICE[name]) for name in TWICE)


@pytest.mark.parametrize(
    ("name", "patch", "size"),
    [
        ("ViT-L/14", 14, 224),
        ("ViT-L/14@336px", 14, 336),
        ("ViT-B-32", 32, 224),
        ("ViT-bigG-14", 14, 224),
        ("ViT-H-14-quickgelu", 14, 224),
        ("ViT-H-14-378-quickgelu", 14, 378),
        ("ViT-B-16-plus-240", 16, 240),
        ("ViT-L-16-320", 16, 320),
    ],
)
def test_the_name_of_the_clip_in_a_config(name, patch, size):
    def clip(**sizes):
        return SimpleNamespace(config=SimpleNamespace(**sizes))

    check_name({"make": "openai", "model": name}, clip(patch_size=patch, image_size=size), "x")
    for wrong in ({"patch_size": 8, "image_size": size}, {"patch_size": patch, "image_size": 8}):
        with pytest.raises(
            CheckpointError, match=f"x names {name}, .* put the CLIP of the training"
        ):
            check_name({"model": name}, clip(**wrong), "x")
    for unknown in (None, {}, {"model": None}, {"model": "RN50"}, {"make": "x-clip"}, 3):
        check_name(unknown, clip(patch_size=8, image_size=8), "x")


@pytest.mark.parametrize(
    ("ema", "value"),
    [
        (None, 1),
        ({}, 1),
        ({"0.step": torch.tensor(1), "0.ema_model": None}, 1),
        ({DECODER_MARKS[0].replace("unets.0", "module.0.ema_model"): torch.full((2,), 7.0)}, 7),
    ],
)
def test_the_moving_averages_of_a_decoder(tmp_path, ema, value):
    saved = {"model": {DECODER_MARKS[0]: torch.ones(2), "unets.1.w": torch.ones(2)}, "ema": ema}
    found = averaged(read_checkpoint(write(tmp_path, saved)))
    assert found[DECODER_MARKS[0]].tolist() == [value, value]
    assert found["unets.1.w"].tolist() == [1, 1]


def test_two_sets_of_moving_averages(tmp_path):
    ema = {"0.ema_model.w": torch.ones(2)}
    saved = {"model": {DECODER_MARKS[0]: torch.ones(2)}, "ema": ema, "best": {"ema": ema}}
    with pytest.raises(CheckpointError, match="moving averages under 'ema', 'best/ema'"):
        averaged(read_checkpoint(write(tmp_path, saved)))


@pytest.mark.parametrize(
    ("version", "said"),
    [
        ("1.15.6", "1.15.6 saved the file and is installed, so the JSON belongs to another"),
        (
            "1.8.2",
            "1.8.2 saved the file, but 1.15.6 is installed: run `pip install dalle2-pytorch==",
        ),
        (None, "use the JSON that was published .*the file does not say its version"),
    ],
)
def test_the_remedy_depends_on_the_version(tmp_path, monkeypatch, version, said):
    monkeypatch.setattr(peer, "installed_version", lambda: "1.15.6")
    published = read_checkpoint(write(tmp_path, {"model": {}, "version": version}))
    with pytest.raises(CheckpointError, match=f"'bias' .it is missing in the file.; .*{said}"):
        fill_peer(nn.Linear(2, 3), {"weight": torch.ones(3, 2)}, published)


def test_settings_of_the_peer_that_are_not_supported():
    with pytest.raises(
        CheckpointError, match="'use_dynamic_thres' .* true, .* only false; do that"
    ):
        reject({"use_dynamic_thres": True}, {"use_dynamic_thres": False}, "x.json", "do that")
    reject({"vae": None, "channels": 3}, {"vae": [], "channels": 3}, "x.json", "do that")


@pytest.mark.parametrize("content", [{}, {"prior": 3}, {"prior": {"unets": []}}, {"unets": []}])
def test_a_config_without_the_network(content):
    with pytest.raises(CheckpointError, match="x.json describes no prior: .*'prior' nor .*'net'"):
        section(content, "prior", "net", "x.json")
