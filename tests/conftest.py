"""Shared by the tests: threads, and a whole DALL·E 2 that is too small to draw well."""

import os
from types import SimpleNamespace

import pytest
import torch
from recorded_bars import recorder
from tiny_model import perturbed
from torch import nn
from tqdm import tqdm

from minidalle2.clip import CLIP, CLIPConfig
from minidalle2.dalle2 import DALLE2, Sampling
from minidalle2.decoder import Decoder, DecoderConfig
from minidalle2.prior import Prior, PriorConfig
from minidalle2.priors.autoregressive_prior import AutoregressivePrior, AutoregressivePriorConfig
from minidalle2.tokenizer import Tokenizer
from minidalle2.upsampler import Upsampler, UpsamplerConfig

if "OMP_NUM_THREADS" not in os.environ:
    torch.set_num_threads(min(2, os.cpu_count() or 1))  # on tiny tensors more threads only wait

CAPTIONS = [
    "a red circle",
    "a small blue square",
    "a large green star above a red square",
    "a blue circle left of a green triangle",
    "a sign that says star",
]

LONGEST = (  # files that take half a minute or more, the longest first
    "test_weights.py",
    "test_emoji_weights.py",
    "11_text_to_image.ipynb",
    "test_learning_speed.py",
    "test_install.py",
    "08_autoregressive_prior.ipynb",
    "09_decoder.ipynb",
    "16_text_to_emoji.ipynb",
    "17_your_own_folder.ipynb",
    "test_browser.py",
    "test_nbgrader.py",
    "test_bug_museum.py",
    "test_distributed.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Starts the longest files first, so that the two processes of `dev.py test` end together."""
    place = {name: i for i, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.name, len(LONGEST)))


@pytest.fixture(autouse=True)
def same_randomness_alone_and_together() -> None:
    torch.manual_seed(0)


@pytest.fixture
def bars(monkeypatch) -> type[tqdm]:
    """The progress bars of this test."""
    bars = recorder()
    monkeypatch.setattr("minidalle2.storage.progress.tqdm", bars)
    return bars


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(CAPTIONS, vocab_size=300)


@pytest.fixture(scope="session")
def configs(tokenizer: Tokenizer) -> SimpleNamespace:
    """A config a stage; no two widths agree where a mix-up could hide."""
    text = {"vocab_size": tokenizer.vocab_size, "context_length": tokenizer.context_length}
    return SimpleNamespace(
        clip=CLIPConfig(
            **text, patch_size=8, embedding=12, width=16, heads=2, image_layers=1, text_layers=1
        ),
        prior=PriorConfig(**text, clip_embedding=12, width=24, layers=2, heads=2),
        autoregressive_prior=AutoregressivePriorConfig(
            **text, clip_embedding=12, components=7, buckets=16, width=24, layers=2, heads=2
        ),
        decoder=DecoderConfig(
            **text,
            clip_embedding=12,
            widths=(8, 16),
            blocks=(1, 1),
            attention=(False, True),
            embedding=20,
            text_width=16,
            text_layers=1,
            text_heads=2,
        ),
        upsampler64=UpsamplerConfig(64, "cosine", widths=(8, 16), blocks=(1, 1), embedding=20),
        upsampler128=UpsamplerConfig(128, "linear", widths=(8, 16), blocks=(1, 1), embedding=20),
    )


@pytest.fixture
def clip(configs: SimpleNamespace) -> CLIP:
    return perturbed(CLIP(configs.clip))


@pytest.fixture
def prior(configs: SimpleNamespace) -> Prior:
    return perturbed(Prior(configs.prior))


@pytest.fixture
def autoregressive_prior(configs: SimpleNamespace) -> AutoregressivePrior:
    """Measured on 400 embeddings, of which some components vary more than others."""
    model = perturbed(AutoregressivePrior(configs.autoregressive_prior))
    generator = torch.Generator().manual_seed(0)
    z_i = torch.randn(400, 12, generator=generator) * torch.logspace(0, -1, 12)
    z_t = z_i + 0.5 * torch.randn(400, 12, generator=generator)
    model.measure(*(nn.functional.normalize(z, dim=1) for z in (z_i, z_t)))
    return model


@pytest.fixture
def decoder(configs: SimpleNamespace) -> Decoder:
    return perturbed(Decoder(configs.decoder))


@pytest.fixture
def upsampler(configs: SimpleNamespace) -> Upsampler:
    return perturbed(Upsampler(configs.upsampler64))


@pytest.fixture
def tiny_dalle2(tokenizer, configs, clip, prior, decoder, upsampler) -> DALLE2:
    """Untrained and tiny, but every stage answers to all of its inputs."""
    last = perturbed(Upsampler(configs.upsampler128))
    return DALLE2(tokenizer, clip, prior, decoder, upsampler, last)


@pytest.fixture
def few_steps() -> Sampling:
    return Sampling(
        candidates=3,
        prior_steps=3,
        prior_guidance=1.5,
        decoder_steps=3,
        drawings=2,
        upsampler64_steps=2,
        upsampler128_steps=2,
    )


@pytest.fixture
def only_row_changes():
    """Checks that changing one row of one input changes that row of the output and no other."""

    def check(function, inputs: dict, name: str, value, row: int = 1) -> None:
        changed = inputs[name].clone()
        changed[row] = value
        before, after = function(**inputs), function(**{**inputs, name: changed})
        difference = (after - before).abs().flatten(1).amax(1)
        others = torch.arange(len(difference)) != row
        assert difference[row] > 1e-4, f"row {row} of the output does not see {name}"
        assert difference[others].max() < 1e-5, f"{name} of row {row} leaks into other rows"

    return check
