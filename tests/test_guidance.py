"""Classifier-free guidance: what is dropped, and how the two answers are combined."""

import pytest
import torch

from minidalle2.diffusion.guidance import drop_mask, guide, guided

C, U = torch.tensor([[3.0, 1.0, 0.25]]), torch.tensor([[1.0, 1.0, 0.75]])


@pytest.mark.parametrize(
    ("scale", "expected"), [(0, 1.0), (1, 3.0), (2, 5.0), (0.5, 2.0), (-1, -1.0)]
)
def test_scale_convention(scale, expected):
    """e-18: u + s (c - u); s = 1 is conditional, s = 0 unconditional."""
    assert guide(torch.tensor(3.0), torch.tensor(1.0), scale).item() == expected


@pytest.mark.parametrize("scale", [0.5, 1.0, 1.25, 4.0])
def test_only_the_prediction_is_guided(scale):
    """e-17: with 2 prediction channels, the third, a variance, stays the conditional one."""
    answer = guided(lambda x, t: C, lambda x, t: U, scale, channels=2)(None, None)
    assert answer.shape == C.shape
    assert answer[0, :2].tolist() == guide(C, U, scale)[0, :2].tolist()
    assert answer[0, 2] == C[0, 2]


def test_scale_one_asks_once():
    """Unguided sampling costs one evaluation a step."""

    def never(x, t):
        raise AssertionError("the unconditional network was asked")

    assert torch.equal(guided(lambda x, t: C, never, 1.0, 2)(None, None), C)


@pytest.mark.parametrize("above", [0, 500])
def test_scale_zero_is_fully_unconditional(above):
    """Prediction and variance are both unconditional, at every t, and cost one evaluation."""

    def never(x, t):
        raise AssertionError("the conditional network was asked")

    unconditional = guided(never, lambda x, t: U, 0.0, channels=2, above=above)
    assert all(torch.equal(unconditional(None, torch.tensor([t])), U) for t in (999, 500, 0))


@pytest.mark.parametrize("t", [999, 500, 499, 0])
def test_a_weakened_condition_stays_weak_at_every_t(t):
    """`above` limits only guidance that amplifies (s > 1)."""
    denoise = guided(lambda x, t: C, lambda x, t: U, 0.5, channels=2, above=500)
    expected = guide(C, U, 0.5)[0, :2].tolist()
    assert denoise(None, torch.tensor([t]))[0, :2].tolist() == expected


@pytest.mark.parametrize(("t", "asked"), [(999, True), (500, True), (499, False), (0, False)])
def test_nothing_is_guided_below_a_timestep(t, asked):
    """There the unconditional network is not even asked."""
    seen = []

    def without(x, t):
        seen.append(t)
        return U

    answer = guided(lambda x, t: C, without, 3.0, channels=2, above=500)(None, torch.tensor([t]))
    assert bool(seen) == asked
    assert answer[0, :2].tolist() == (guide(C, U, 3.0) if asked else C)[0, :2].tolist()


def test_both_branches_see_the_same_state():
    """e-8: the unconditional branch gets x_t and t too."""
    x_t, t = torch.randn(1, 3), torch.tensor([7])
    answer = guided(lambda x, t: x * t, lambda x, t: x + t, 0.0, 3)(x_t, t)
    torch.testing.assert_close(answer, x_t + t)


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 1.0])
def test_drop_rate(rate):
    """e-44: one draw a sample, not one a batch."""
    mask = drop_mask(20_000, rate, torch.Generator().manual_seed(0))
    assert mask.shape == (20_000,) and mask.dtype == torch.bool
    assert mask.float().mean().item() == pytest.approx(rate, abs=0.01)
