"""The U-Net: silent at first, every row by itself, pads unseen."""

import pytest
import torch
from torch import nn

from minidalle2.blocks.unet import ContextAttention, ResBlock, UNet, UNetConfig

CONFIG = UNetConfig(
    3, 6, widths=(8, 16), blocks=(1, 2), attention=(True, True), embedding=20, context=12
)


@pytest.fixture
def unet() -> UNet:
    """With noise on all weights, as it would be after some training."""
    unet = UNet(CONFIG)
    with torch.no_grad():
        for parameter in unet.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return unet.requires_grad_(False)


@pytest.fixture
def inputs() -> dict[str, torch.Tensor]:
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [1, 0, 0, 0, 0]]).bool()
    return {
        "x": torch.randn(3, 3, 16, 16),
        "embedding": torch.randn(3, 20),
        "context": torch.randn(3, 5, 12),
        "mask": mask,
    }


@pytest.mark.parametrize("size", [(16, 16), (32, 32), (8, 24)])
@pytest.mark.parametrize("attention", [(True, True), (False, True), (False, False)])
@pytest.mark.parametrize("patch", [1, 2])
def test_shapes(attention, size, patch):
    """(B, C, H, W), (B, D), (B, K, D'), (B, K) → (B, C', H, W), wide pictures too."""
    config = UNetConfig(4, 5, (8, 16), (1, 2), attention, patch, embedding=20, context=12)
    context = (torch.randn(2, 7, 12), torch.ones(2, 7).bool()) if any(attention) else ()
    out = UNet(config)(torch.randn(2, 4, *size), torch.randn(2, 20), *context)
    assert out.shape == (2, 5, *size)


@pytest.mark.parametrize("widths, blocks", [((8,), (1,)), ((8, 16, 24), (2, 1, 2))])
def test_any_depth(widths, blocks):
    unet = UNet(UNetConfig(3, 3, widths, blocks, (False,) * len(widths), embedding=20))
    assert unet(torch.randn(1, 3, 16, 16), torch.randn(1, 20)).shape == (1, 3, 16, 16)


def test_silent_at_first(inputs):
    """e-46: the fresh network answers exactly zero, so the first loss of eps or v is 1."""
    assert (UNet(CONFIG)(**inputs) == 0).all()


def test_residual_branches_are_silent_at_first(inputs):
    """e-46: a fresh block is its skip, a fresh attention the identity."""
    x = torch.randn(3, 8, 4, 4)
    assert torch.equal(ResBlock(8, 8, 20)(x, inputs["embedding"]), x)
    attention = ContextAttention(8, 12, 64)
    assert torch.equal(attention(x, inputs["context"], inputs["mask"]), x)


@pytest.mark.parametrize("name", ["x", "embedding", "context", "mask"])
def test_every_input_matters_for_its_own_row(unet, inputs, name, only_row_changes):
    """e-20: no row sees another's picture, embedding or context."""
    value = {"mask": torch.tensor([1, 0, 1, 0, 1]).bool()}.get(
        name, torch.randn(inputs[name][1].shape)
    )
    only_row_changes(unet, inputs, name, value)


@pytest.mark.parametrize("training", [True, False])
def test_batch_independence(unet, inputs, training):
    """GroupNorm, not BatchNorm: a row alone, or in another order, has the same answer."""
    assert not any(isinstance(m, nn.BatchNorm2d | nn.Dropout) for m in unet.modules())
    together = unet.train(training)(**inputs)
    alone = unet(**{name: value[2:] for name, value in inputs.items()})
    shuffled = unet(**{name: value[[2, 0, 1]] for name, value in inputs.items()})
    torch.testing.assert_close(together[2:], alone, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(together[[2, 0, 1]], shuffled, atol=1e-4, rtol=1e-4)


def test_pads_are_not_seen(unet, inputs):
    """e-23: what masked context tokens hold, and how many there are, changes nothing."""
    changed = torch.where(inputs["mask"][..., None], inputs["context"], torch.full((), 7.0))
    longer = {
        **inputs,
        "context": torch.cat((inputs["context"], torch.randn(3, 4, 12)), dim=1),
        "mask": torch.cat((inputs["mask"], torch.zeros(3, 4).bool()), dim=1),
    }
    expected = unet(**inputs)
    torch.testing.assert_close(unet(**{**inputs, "context": changed}), expected)
    torch.testing.assert_close(unet(**longer), expected)


def test_every_weight_is_used(inputs):
    """No part of the network hangs loose: after some steps every parameter has a gradient."""
    unet = UNet(CONFIG)
    with torch.no_grad():
        for parameter in unet.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    unet(**inputs).square().mean().backward()
    idle = [name for name, p in unet.named_parameters() if p.grad is None or not p.grad.any()]
    assert idle == []


@pytest.mark.parametrize("channels, heads", [(96, 3), (64, 2), (32, 1), (16, 1)])
def test_heads_are_of_the_width_asked_for(channels, heads):
    """As many as fit, and one at least."""
    assert ContextAttention(channels, 12, 32).heads == heads


def test_skips_carry_detail(unet, inputs):
    """Both levels contribute: detail finer than the lowest level's pixels reaches the output."""
    checkers = (torch.arange(16) % 2 * 2 - 1.0).expand(16, 16)
    low = unet(**{**inputs, "x": inputs["x"] * 0})
    fine = unet(**{**inputs, "x": (checkers * 0.5).expand(3, 3, 16, 16)})
    assert (fine - low).abs().max() > 1e-3


def test_inputs_are_not_mutated(unet, inputs):
    """e-10"""
    copies = {name: value.clone() for name, value in inputs.items()}
    unet(**inputs)
    assert all(torch.equal(copies[name], inputs[name]) for name in inputs)


def test_bfloat16_answers_in_float32(unet, inputs):
    """e-48: products in bfloat16, the answer in float32 and near the exact one."""
    exact = unet(**inputs)
    with torch.autocast("cpu", torch.bfloat16):
        rough = unet(**inputs)
    assert rough.dtype == torch.float32
    assert (rough - exact).abs().max() < 0.1 * exact.abs().max()
