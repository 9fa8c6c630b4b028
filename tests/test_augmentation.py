"""Augmentation changes a picture a little. It never mirrors it and never turns it around."""

import torch

from minidalle2.training import augmentation
from minidalle2.training.augmentation import varied


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def halves(n: int = 400) -> torch.Tensor:
    """Black on the left, and white at the bottom right: no mirror image, no turn is the same."""
    images = torch.zeros(n, 3, 32, 32)
    images[..., :16] = -1
    images[..., 16:, 16:] = 1
    return images


def test_same_generator_same_pictures():
    images = torch.rand(8, 3, 32, 32) * 2 - 1
    assert torch.equal(varied(images, generator()), varied(images, generator()))
    assert not torch.equal(varied(images, generator()), varied(images, generator(1)))


def test_stays_in_range_and_shape():
    images = torch.where(torch.rand(50, 3, 64, 64) < 0.5, -1.0, 1.0)
    out = varied(images, generator())
    assert out.shape == images.shape and out.abs().max() <= 1
    assert not torch.equal(out, images)


def test_left_stays_left_and_up_stays_up(monkeypatch):
    monkeypatch.setattr(augmentation, "MOST_BLANK", 0.0)
    out = varied(halves(), generator()).mean(1)
    left, top, bottom = out[:, :, :10], out[:, :10, 22:], out[:, 22:, 22:]
    assert (left.mean((1, 2)) < -0.6).all()
    assert (top.mean((1, 2)).abs() < 0.35).all() and (bottom.mean((1, 2)) > 0.6).all()


def test_half_are_blanked_by_up_to_a_third():
    blank = (varied(torch.ones(2_000, 3, 32, 32), generator()) == 0).all(1).float().mean((1, 2))
    assert 0.4 < (blank > 0).float().mean() < 0.55
    assert blank.max() < 0.6 and abs(blank.mean() - 1 / 12) < 0.01


def test_a_fifth_do_not_move(monkeypatch):
    for name in ("MOST_BLANK", "CONTRAST", "BRIGHTNESS"):
        monkeypatch.setattr(augmentation, name, 0.0)
    images = torch.rand(1_000, 3, 8, 8, generator=generator(5)) * 2 - 1
    still = (varied(images, generator()) == images).all((1, 2, 3)).float().mean()
    assert 0.16 < still < 0.24
