"""The upsamplers: convolutions only, so any size and any place; aligned with the low picture."""

import pytest
import torch
import torch.nn.functional as F

from minidalle2.blocks.unet import ContextAttention
from minidalle2.diffusion.sampling import clip_to_image, ddim, last
from minidalle2.diffusion.schedule import cosine_betas, linear_betas
from minidalle2.upsampler import CHANNELS, Upsampler, upsampler_loss


@pytest.fixture
def inputs() -> dict[str, torch.Tensor]:
    return {
        "x_t": torch.randn(3, 3, 16, 16),
        "t": torch.tensor([10, 500, 999]),
        "low": torch.rand(3, 3, 8, 8) * 2 - 1,
    }


def nothing_seen(x: torch.Tensor) -> torch.Tensor:
    """What a U-Net that sees no detail answers."""
    return torch.zeros_like(x[:, :CHANNELS])


@pytest.mark.parametrize("size", [(4, 4), (8, 8), (32, 32), (12, 20)])
def test_any_size(upsampler, size):
    """(B, 3, S, S) → (B, 3, 2S, 2S) at sizes other than trained, wide ones too."""
    low = torch.rand(2, 3, *size)
    x_t = torch.randn(2, 3, 2 * size[0], 2 * size[1])
    assert upsampler(x_t, torch.tensor([5, 6]), low).shape == x_t.shape
    picture = last(ddim(upsampler.diffusion, upsampler.denoiser(low), x_t, 2, clip_to_image))
    assert picture.shape == x_t.shape and picture.abs().max() <= 1


@pytest.mark.parametrize("name", ["x_t", "t", "low"])
def test_every_input_matters_for_its_own_row(upsampler, inputs, name, only_row_changes):
    """e-20: conditioning sensitivity, row by row."""
    value = {"t": 20}.get(name, torch.rand(inputs[name][1].shape))
    only_row_changes(upsampler, inputs, name, value)


def test_no_attention(upsampler):
    """Table 3."""
    assert not any(isinstance(m, ContextAttention) for m in upsampler.modules())


@pytest.mark.parametrize(("dx", "dy"), [(4, 0), (0, 8), (4, -4)])
def test_translation(upsampler, dx, dy):
    """Trained on crops, used on whole pictures: a thing moved is enlarged alike where it went.

    The background is wide enough that neither place sees the border, and float64, because over a
    plain background the group norms enlarge what float32 rounds off.
    """
    embedding, side = torch.randn(1, 20).double(), 224
    upsampler.double().time_embedding.forward = lambda t: embedding
    thing, noise = torch.rand(3, 4, 4), torch.randn(3, 8, 8)
    outputs = []
    for x, y in ((100, 100), (100 + dx, 100 + dy)):
        x_t, low = (torch.full((1, 3, s, s), 0.2).double() for s in (side, side // 2))
        x_t[0, :, y : y + 8, x : x + 8] = noise
        low[0, :, y // 2 : y // 2 + 4, x // 2 : x // 2 + 4] = thing
        out = upsampler(x_t, torch.tensor([300]), low)
        outputs.append(out[0, :, y - 16 : y + 24, x - 16 : x + 24])
    torch.testing.assert_close(*outputs, atol=1e-5, rtol=0)
    assert outputs[0].std() > 0.01


def test_low_picture_is_aligned(upsampler, inputs, monkeypatch):
    """e-38: enlarged about the pixels' centres, beside x_t, in [-1, 1]."""
    seen = []
    monkeypatch.setattr(upsampler.unet, "forward", lambda x, _: seen.append(x) or nothing_seen(x))
    smooth = F.interpolate(torch.rand(3, 3, 2, 2), size=8, mode="bilinear")
    for low in (smooth, smooth.flip(2), smooth.flip(3)):
        upsampler(inputs["x_t"], inputs["t"], low)
    assert all(x.shape == (3, 6, 16, 16) and torch.equal(x[:, :3], inputs["x_t"]) for x in seen)
    plain, flipped, mirrored = (x[:, 3:] for x in seen)
    torch.testing.assert_close(plain.flip(2), flipped, atol=1e-5, rtol=0)
    torch.testing.assert_close(plain.flip(3), mirrored, atol=1e-5, rtol=0)
    torch.testing.assert_close(F.avg_pool2d(plain, 2), smooth, atol=0.03, rtol=0)


def test_overshoot_of_enlarging_is_clamped(upsampler, inputs, monkeypatch):
    """Bicubic goes beyond the values at edges; the network expects pixels in [-1, 1]."""
    seen = []
    monkeypatch.setattr(upsampler.unet, "forward", lambda x, _: seen.append(x) or nothing_seen(x))
    edges = torch.randint(2, (3, 3, 8, 8)) * 2.0 - 1
    upsampler(inputs["x_t"], inputs["t"], edges)
    assert F.interpolate(edges, scale_factor=2, mode="bicubic").abs().max() > 1.1
    assert seen[0][:, 3:].abs().max() == 1


@pytest.mark.parametrize(
    ("name", "betas"), [("upsampler64", cosine_betas), ("upsampler128", linear_betas)]
)
def test_schedules(configs, name, betas):
    """Table 3: cosine for the first, linear for the second."""
    upsampler = Upsampler(getattr(configs, name))
    torch.testing.assert_close(upsampler.diffusion.schedule.betas, betas(1000).float())


@pytest.mark.parametrize("name", ["upsampler64", "upsampler128"])
def test_first_loss(configs, name):
    """e-46: the fresh network adds no detail, so its error is bicubic enlargement's, and the loss
    that, weighted with the mean weight of the timesteps drawn."""
    high = torch.randint(2, (16, 3, 16, 16)) * 2.0 - 1
    low = F.avg_pool2d(high, 2)
    upsampler = Upsampler(getattr(configs, name))
    loss = upsampler_loss(upsampler, (high, low), torch.Generator().manual_seed(0))
    t = torch.randint(1000, (16,), generator=torch.Generator().manual_seed(0))
    weight = (1 / (1 - upsampler.diffusion.schedule.alpha_bar[t])).clamp(max=10)
    enlarged = F.interpolate(low, scale_factor=2, mode="bicubic").clamp(-1, 1)
    squared = (enlarged - high).square().mean((1, 2, 3))
    assert loss.item() == pytest.approx((weight * squared).mean().item(), rel=1e-3)
    loss.backward()
    assert upsampler.unet.conv_out.weight.grad.abs().max() > 0, "the U-Net would never learn"


def test_right_answers_cost_nothing(upsampler, monkeypatch):
    high, diffusion = torch.rand(4, 3, 8, 8), upsampler.diffusion
    monkeypatch.setattr(
        upsampler,
        "forward",
        lambda x_t, t, low: diffusion.target_of(high, t, diffusion.to_eps(high, x_t, t)),
    )
    loss = upsampler_loss(
        upsampler, (high, F.avg_pool2d(high, 2)), torch.Generator().manual_seed(0)
    )
    assert loss.item() == pytest.approx(0, abs=1e-4)


def test_each_sample_draws_its_own(upsampler, monkeypatch):
    """e-44: t and noise by row; reproducible by seed."""
    n, calls = 3000, []
    monkeypatch.setattr(upsampler, "forward", lambda x_t, t, low: calls.append((x_t, t)) or x_t)
    batch = (torch.zeros(n, 3, 2, 2), torch.zeros(n, 3, 1, 1))
    a, b = (upsampler_loss(upsampler, batch, torch.Generator().manual_seed(0)) for _ in range(2))
    x_t, t = calls[0]
    assert a == b and len(x_t.unique(dim=0)) == n
    assert t.float().mean().item() == pytest.approx(500, abs=25) and len(t.unique()) > 900


def test_inputs_are_not_mutated(upsampler, inputs):
    """e-10"""
    batch = (torch.rand(3, 3, 16, 16), inputs["low"])
    copies = [part.clone() for part in batch]
    upsampler_loss(upsampler, batch, torch.Generator().manual_seed(0))
    assert all(torch.equal(a, b) for a, b in zip(batch, copies, strict=True))
