"""Any prompt, config, checkpoint or tokenizer: a picture or one sentence, in bounded memory."""

import json
import random
import shutil
import time
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_model import MODELS as CLASSES
from tiny_model import save_tiny
from torch import nn

from minidalle2.clip import CLIP, CLIPConfig
from minidalle2.commands.cli import main
from minidalle2.storage.checkpoints import CheckpointError, load_model, load_tokenizer, save_model
from minidalle2.tokenizer import LONGEST, PromptTooLong
from minidalle2.training.loop import fit
from minidalle2.training.recipe import Recipe


def fuzz(examples: int) -> settings:
    """The folder of weights is the same for all examples, and whole again after each."""
    return settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))


MODELS = tuple(CLASSES)
FILES = (
    "tokenizer.json",
    *(f"{m}/{f}" for m in MODELS for f in ("config.json", "model.safetensors")),
)


@pytest.fixture
def weights(tiny_dalle2, few_steps, tmp_path) -> Path:
    tiny_dalle2.sampling = few_steps
    return save_tiny(tiny_dalle2, tmp_path / "weights")


@pytest.fixture
def draws(weights, tmp_path, capsys):
    """Draws a prompt with the weights as they are: a picture, or one sentence and no traceback."""

    def run(prompt: str = "a red circle", size: int = 32) -> int:
        command = ["draw", "--weights", str(weights), "--size", str(size), "--device", "cpu"]
        code = main([*command, "--out", str(tmp_path / "out"), "--", prompt])
        said = capsys.readouterr().err
        assert (code, said.count("\n")) in ((0, 0), (2, 1)), said
        assert code == 0 or said.startswith("minidalle2: ")
        return code

    return run


@fuzz(25)
@given(prompt=st.text(max_size=80) | st.text("a .\u200b\u202e\x00\n\ufffd\U0001f600", max_size=80))
def test_any_prompt(draws, prompt):
    draws(prompt)


@pytest.mark.parametrize("text", ["a" * 3_000_000, "ab " * 1_000_000, "\u7ea2" * 500_000])
def test_a_prompt_of_megabytes_is_refused_at_once(tokenizer, text):
    """Encoding one takes minutes."""
    started = time.process_time()
    with pytest.raises(PromptTooLong, match="has at least [0-9,]+ tokens, but the model reads"):
        tokenizer([text])
    assert len(tokenizer.cut([text])[0]) == tokenizer.context_length
    assert time.process_time() - started < 2


def test_the_bound_refuses_no_text_that_fits(tokenizer):
    longest = max((tokenizer.bytes_of(i) for i in range(tokenizer.vocab_size)), key=len)
    for n in range(1, 80):
        text = longest.decode() * n
        fits = len(tokenizer.encode(text)) + 2 <= tokenizer.context_length
        try:
            assert tokenizer([text]).shape[1] <= tokenizer.context_length and fits
        except PromptTooLong:
            assert not fits


def test_merges_that_double_are_refused(tmp_path):
    """Sixty of them would make a token of 2⁶⁰ bytes."""
    merges = [[3, 3], *([i, i] for i in range(259, 319))]
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps({"merges": merges, "words": []}))
    with pytest.raises(CheckpointError, match=f"token of more than {LONGEST:,} bytes"):
        load_tokenizer(path)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 70) | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=4,
)
SIZES = (0, 1, 3, 7, 10**4, 10**6, 10**9, 10**15)  # near what is there, and far too much


@fuzz(60)
@given(data=st.data(), stage=st.sampled_from(MODELS))
def test_any_value_in_a_config(draws, weights, data, stage):
    """One that fits no weights, needs too much memory, or fits and can't be drawn with."""
    path = weights / stage / "config.json"
    whole = path.read_text()
    content = json.loads(whole)
    name = data.draw(st.sampled_from(sorted(content["config"])))
    value = content["config"][name]
    others = st.sampled_from(SIZES) | json_values
    if isinstance(value, list):
        others |= st.lists(st.sampled_from(SIZES), min_size=1, max_size=3)
    content["config"][name] = data.draw(others)
    path.write_text(json.dumps(content))
    try:
        draws(size=data.draw(st.sampled_from((32, 128))))
    finally:
        path.write_text(whole)


@pytest.mark.parametrize(
    ("stage", "change"),
    [
        ("clip", {"width": 2 * 10**5, "embedding": 10**5}),
        ("clip", {"image_layers": 10**9}),
        ("clip", {"image_size": 4000, "patch_size": 1}),
        ("prior", {"layers": 4000}),
        ("prior", {"timesteps": 10**9}),
        ("decoder", {"widths": [10**9, 16]}),
        ("decoder", {"blocks": [10**9, 1]}),
        ("decoder", {"context_length": 10**9}),
        ("upsampler64", {"blocks": [1, 4000]}),
    ],
)
def test_a_config_far_larger_than_its_weights(weights, configs, monkeypatch, stage, change):
    """It is refused before it takes memory or time: all its tensors are on the meta device."""
    path = weights / stage / "config.json"
    content = json.loads(path.read_text())
    content["config"] |= change
    path.write_text(json.dumps(content))
    filled, normal = [], nn.init.normal_

    def recorded(tensor, *args, **options):
        if not tensor.is_meta:
            filled.append(tensor.numel())
        return normal(tensor, *args, **options)

    monkeypatch.setattr(nn.init, "normal_", recorded)
    started = time.process_time()
    with pytest.raises(CheckpointError, match="config.json"):
        load_model(path.parent, stage, *CLASSES[stage])
    assert sum(filled) == 0 and time.process_time() - started < 10


@pytest.mark.parametrize(
    ("file", "name", "value"),
    [
        ("tokenizer.json", "context_length", 100),
        ("decoder/config.json", "image_size", 40),
        ("clip/config.json", "heads", 3),
        ("decoder/config.json", "timesteps", 1),
    ],
)
def test_what_fits_its_weights_but_not_the_rest(draws, weights, file, name, value):
    """No tensor has another shape with these, so that only drawing would go wrong."""
    content = json.loads((weights / file).read_text())
    content.get("config", content)[name] = value
    (weights / file).write_text(json.dumps(content))
    assert draws("a " * 60 if file == "tokenizer.json" else "a red circle") == 2


def broken(whole: bytes, rng: random.Random) -> bytes:
    """Bytes changed, cut out, doubled, or cut off."""
    data = bytearray(whole)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(min(len(data), rng.choice((16, 400, len(data)))) or 1)
        kind = rng.randrange(4)
        if kind == 0:
            data[at : at + 1] = bytes([rng.randrange(256)])
        elif kind == 1:
            del data[at : at + rng.randint(1, 60)]
        elif kind == 2:
            data[at:at] = data[at : at + rng.randint(1, 60)]
        else:
            del data[at + 1 :]
    return bytes(data)


@fuzz(80)
@given(seed=st.integers(0, 2**32), file=st.sampled_from(FILES))
def test_any_broken_file_of_the_weights(draws, weights, seed, file):
    path = weights / file
    whole = path.read_bytes()
    path.write_bytes(broken(whole, random.Random(seed)))
    try:
        draws()
    finally:
        path.write_bytes(whole)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"config":' * 100_000])
def test_json_that_is_nested_too_deeply(draws, weights, text):
    for file in ("tokenizer.json", "prior/config.json"):
        shutil.copy(weights / file, weights / "whole")
        (weights / file).write_text(text)
        assert draws() == 2
        shutil.copy(weights / "whole", weights / file)


def go_on(folder: Path, model: nn.Module) -> None:
    """One step of a training that another may have begun."""
    recipe = Recipe(steps=4, batch_size=2, warmup_steps=1)

    def loss(model, batch, generator):
        return sum((p**2).sum() for p in model.parameters())

    for _ in fit(model, lambda n, generator: None, loss, recipe, folder, "clip"):
        break


@pytest.mark.parametrize("file", ["training.safetensors"])
def test_any_broken_training(configs, tmp_path, file):
    torch.set_num_threads(1)
    go_on(tmp_path, CLIP(configs.clip))
    whole = (tmp_path / file).read_bytes()
    for seed in range(40):
        (tmp_path / file).write_bytes(broken(whole, random.Random(seed)))
        try:
            go_on(tmp_path, CLIP(configs.clip))
        except CheckpointError as error:
            assert str(tmp_path / file) in str(error) and "\n" not in str(error)


def test_a_training_of_another_model_is_refused(configs, tmp_path):
    """As after `train clip --resume` with another world."""
    go_on(tmp_path, CLIP(configs.clip))
    other = CLIPConfig(**{**vars(configs.clip), "vocab_size": 290})
    with pytest.raises(CheckpointError, match="another size .vocab_size 286, now 290."):
        go_on(tmp_path, CLIP(other))


def test_a_model_beside_metadata_that_is_missing(configs, tmp_path):
    go_on(tmp_path, CLIP(configs.clip))
    save_model(tmp_path, "clip", CLIP(configs.clip))
    shutil.copy(tmp_path / "model.safetensors", tmp_path / "training.safetensors")
    with pytest.raises(CheckpointError, match="does not fit its use here .*progress"):
        go_on(tmp_path, CLIP(configs.clip))
