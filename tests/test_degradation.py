"""What low pictures suffer in training: stated kernels, a real JPEG's losses, a draw a picture."""

import io
import math

import pytest
import torch
from PIL import Image

from minidalle2.storage.pictures import to_uint8
from minidalle2.training.degradation import (
    KERNEL,
    SIGMA,
    _random_blur,
    _random_jpeg,
    _random_noise,
    _random_resize,
    blur,
    bsr,
    gaussian_blur,
    jpeg,
)

DEGRADATIONS = [blur, bsr, _random_blur, _random_resize, _random_noise, _random_jpeg]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def pictures() -> torch.Tensor:
    """Smooth with some detail, as drawings are: (8, 3, 32, 32) in [-1, 1]."""
    coarse = torch.rand(8, 3, 4, 4) * 2 - 1
    smooth = torch.nn.functional.interpolate(coarse, size=32, mode="bilinear")
    return (smooth + 0.1 * torch.randn(8, 3, 32, 32)).clamp(-1, 1)


def rms(x: torch.Tensor) -> float:
    return x.square().mean().sqrt().item()


# Blur


def test_weights_of_the_kernel():
    """e-37: 3 wide, sigma .6: a point becomes the product of (.166, .667, .166) with itself."""
    assert (KERNEL, SIGMA) == (3, 0.6)
    point = torch.zeros(1, 3, 5, 5)
    point[:, :, 2, 2] = 1
    side = math.exp(-1 / (2 * 0.6**2))
    weights = torch.tensor([side, 1, side]) / (1 + 2 * side)
    assert weights.tolist() == pytest.approx([0.1664, 0.6672, 0.1664], abs=1e-4)
    blurred = gaussian_blur(point, torch.tensor([0.6]))
    assert blurred.shape == point.shape
    for channel in blurred[0]:
        torch.testing.assert_close(channel[1:4, 1:4], weights[:, None] * weights)
    assert blurred.sum().item() == pytest.approx(3)


@pytest.mark.parametrize("value", [-1.0, 0.3])
def test_blur_keeps_constant_pictures(value):
    """Also at the border, which repeats instead of darkening."""
    constant = torch.full((2, 3, 8, 8), value)
    torch.testing.assert_close(gaussian_blur(constant, torch.tensor([0.6, 1.0])), constant)


def test_each_picture_has_its_sigma(pictures):
    """e-44: sigma by row; a tiny one leaves the picture."""
    both = gaussian_blur(pictures[:2], torch.tensor([0.05, 1.0]))
    torch.testing.assert_close(both[0], pictures[0])
    torch.testing.assert_close(both[1:], gaussian_blur(pictures[1:2], torch.tensor([1.0])))


def test_half_of_the_pictures_are_blurred():
    """e-37, e-44: by picture, not by batch."""
    pictures = torch.rand(1, 3, 8, 8).expand(2000, -1, -1, -1)
    blurred = gaussian_blur(pictures[:1], torch.tensor([SIGMA]))
    out = blur(pictures, seeded())
    same = (out - pictures).abs().flatten(1).amax(1) < 1e-6
    assert same.float().mean().item() == pytest.approx(0.5, abs=0.04)
    torch.testing.assert_close(out[~same], blurred.expand(int((~same).sum()), -1, -1, -1))


# JPEG


@pytest.mark.parametrize(
    ("quality", "least", "most"), [(100, 0.0, 0.004), (75, 0.01, 0.1), (5, 0.1, 0.4)]
)
def test_jpeg_loses_with_quality(pictures, quality, least, most):
    """Nearly the identity at 100, where every step is 1 of 255; plainly lossy at 5."""
    loss = rms(jpeg(pictures, torch.full((8,), float(quality))) - pictures)
    assert least < loss < most


@pytest.mark.parametrize("quality", [10, 30, 50, 75])
def test_jpeg_equals_a_real_one(pictures, quality):
    """Pillow's of gray pictures. It rounds the table to integers, which matters above 75 only:
    at 95 our first step is 1.6 and theirs 2."""
    gray = to_uint8(pictures[:, :1])
    real = []
    for picture in gray:
        file = io.BytesIO()
        Image.fromarray(picture[0].numpy()).save(file, "JPEG", quality=quality)
        real.append(torch.tensor(list(Image.open(file).tobytes())).view(1, 32, 32))
    original = gray / 127.5 - 1
    ours = jpeg(original.expand(-1, 3, -1, -1), torch.full((8,), float(quality)))[:, :1]
    theirs = torch.stack(real) / 127.5 - 1
    assert rms(ours - theirs) < 0.2 * rms(theirs - original) + 0.004  # theirs is rounded to 8 bits


def test_each_picture_has_its_quality(pictures):
    """e-44"""
    both = jpeg(pictures[:2], torch.tensor([100.0, 5.0]))
    assert rms(both[0] - pictures[0]) < 0.004 < 0.05 < rms(both[1] - pictures[1])


def test_jpeg_keeps_flat_gray():
    gray = torch.zeros(2, 3, 16, 8)
    assert torch.equal(jpeg(gray, torch.tensor([10.0, 90.0])), gray)


# All of them


@pytest.mark.parametrize("degrade", DEGRADATIONS)
def test_shape_seed_and_input(pictures, degrade):
    """(B, 3, S, S) → same; one seed one result; the input stays (e-10); something is lost."""
    copy = pictures.clone()
    out = degrade(pictures, seeded())
    assert out.shape == pictures.shape and out.dtype == pictures.dtype and out.isfinite().all()
    assert torch.equal(pictures, copy)
    assert torch.equal(out, degrade(pictures, seeded()))
    assert not torch.equal(out, degrade(pictures, seeded(1)))
    assert 0.001 < rms(out - pictures) < 0.3


@pytest.mark.parametrize("degrade", [bsr, _random_blur, _random_noise, _random_jpeg])
def test_every_picture_has_its_own_draw(pictures, degrade):
    """e-44: equal pictures come out different. By design the order of BSR's operations, and how
    far _random_resize shrinks, are drawn for the batch."""
    equal = pictures[:1].expand(8, -1, -1, -1)
    assert len(degrade(equal, seeded()).unique(dim=0)) >= 7


def test_bsr_varies_in_strength_and_stays_in_range(pictures):
    """Some pictures hardly suffer, some much; pixels stay in [-1, 1]."""
    losses = []
    for seed in range(20):
        out = bsr(pictures, seeded(seed))
        assert out.abs().max() <= 1
        losses += (out - pictures).square().mean((1, 2, 3)).sqrt().tolist()
    assert min(losses) < 0.03 and max(losses) > 3 * min(losses) and max(losses) < 0.4


def test_resize_keeps_the_place(pictures):
    """Down and up again about the same centres: a mirrored picture is mirrored."""
    mirrored = _random_resize(pictures.flip(3), seeded())
    torch.testing.assert_close(
        _random_resize(pictures, seeded()).flip(3), mirrored, atol=1e-5, rtol=0
    )
