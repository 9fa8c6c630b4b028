"""A run's folder → weights to ship."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from tiny_model import MODELS, save_tiny

from minidalle2.commands.release import release
from minidalle2.dalle2 import DALLE2
from minidalle2.storage.checkpoints import CheckpointError


def test_eight_bits_and_nothing_that_only_training_needs(tiny_dalle2, tmp_path):
    run = save_tiny(tiny_dalle2, tmp_path / "run")
    (run / "decoder" / "training.safetensors").write_bytes(b"optimizers")
    megabytes = release(run, tmp_path / "weights")
    files = sorted(path for path in (tmp_path / "weights").rglob("*") if path.is_file())
    names = {str(path.relative_to(tmp_path / "weights")) for path in files}
    kept = {f"{stage}/{name}" for stage in MODELS for name in ("config.json", "model.safetensors")}
    assert {name.replace("\\", "/") for name in names} == kept | {"tokenizer.json"}
    assert megabytes == pytest.approx(sum(path.stat().st_size for path in files) / 1e6)
    for stage in MODELS:
        tensors = load_file(tmp_path / "weights" / stage / "model.safetensors").values()
        assert {tensor.dtype for tensor in tensors} == {torch.float16, torch.float32, torch.int8}


def test_what_is_shipped_is_nearly_the_same(tiny_dalle2, tmp_path):
    run = save_tiny(tiny_dalle2, tmp_path / "run")
    release(run, tmp_path / "weights")
    shipped = DALLE2.load(tmp_path / "weights")
    for stage in MODELS:
        before = getattr(tiny_dalle2, stage).state_dict()
        for name, tensor in getattr(shipped, stage).state_dict().items():
            error = (tensor - before[name]).square().mean() / before[name].square().mean()
            assert error < 1e-4, name  # 40 dB


def test_how_weights_are_sampled_is_shipped(tiny_dalle2, few_steps, tmp_path):
    """Without sampling.json in the run, the default holds, and no file says so."""
    release(save_tiny(tiny_dalle2, tmp_path / "run"), tmp_path / "default")
    assert not (tmp_path / "default" / "sampling.json").exists()
    own = replace(tiny_dalle2, sampling=replace(few_steps, decoder_guided_above=0.5))
    release(save_tiny(own, tmp_path / "own"), tmp_path / "weights")
    assert DALLE2.load(tmp_path / "weights").sampling == own.sampling


def test_emoji_weights_come_with_their_licences(tiny_dalle2, tmp_path):
    release(save_tiny(tiny_dalle2, tmp_path / "run"), tmp_path / "emoji")
    credits = (tmp_path / "emoji" / "LICENSES" / "ATTRIBUTION.md").read_text(encoding="utf-8")
    assert "OpenMoji" in credits and "CC BY-SA 4.0" in credits
    release(tmp_path / "run", tmp_path / "other")
    assert not (tmp_path / "other" / "LICENSES").exists()


def test_a_broken_run_is_not_released(tiny_dalle2, tmp_path):
    run = save_tiny(tiny_dalle2, tmp_path / "run")
    (run / "prior" / "model.safetensors").write_bytes(b"half")
    with pytest.raises(CheckpointError, match="truncated"):
        release(run, tmp_path / "weights")
