"""The forward process and its three targets."""

import pytest
import torch
from diffusers import DDPMScheduler

from minidalle2.diffusion.process import TARGETS, Diffusion
from minidalle2.diffusion.schedule import Schedule, cosine_betas, linear_betas

COSINE = Schedule(cosine_betas(1000))
T = torch.tensor([0, 10, 500, 990])


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("shape", [(4,), (4, 6), (4, 3, 2, 2)])
def test_a_right_answer_gives_x0_and_eps_back(target, shape):
    """to_x0 and to_eps undo target_of, for embeddings and pictures."""
    diffusion = Diffusion(COSINE, target)
    x0, eps = normal(*shape), normal(*shape, seed=1)
    x_t = diffusion.add_noise(x0, T, eps)
    estimate = diffusion.to_x0(diffusion.target_of(x0, T, eps), x_t, T)
    # 1e-5: the tables are float32, so √ᾱ² + √(1-ᾱ)² is 1 to seven digits only.
    torch.testing.assert_close(estimate, x0, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(diffusion.to_eps(x0, x_t, T), eps, rtol=1e-5, atol=1e-5)


def test_variance_is_preserved():
    """Unit x0 and unit noise make unit x_t and unit v at every t: v's first loss is 1 (e-46)."""
    diffusion, t = Diffusion(COSINE, "v"), torch.arange(1000)
    x0, eps = normal(1000, 500), normal(1000, 500, seed=1)
    for values in (diffusion.add_noise(x0, t, eps), diffusion.target_of(x0, t, eps)):
        assert values.var(1).mean().item() == pytest.approx(1, abs=0.01)
        assert values.var(1).sub(1).abs().max() < 0.35


def test_v_at_both_ends():
    """v is the noise of a clean sample and minus the sample of pure noise."""
    x0, eps, ends = normal(2, 5), normal(2, 5, seed=1), torch.tensor([0, 999])
    v = Diffusion(COSINE, "v").target_of(x0, ends, eps)
    torch.testing.assert_close(v[0], eps[0], atol=0.03, rtol=0)
    torch.testing.assert_close(v[1], -x0[1], atol=0.001, rtol=0)


@pytest.mark.parametrize(
    "ours, theirs", [(cosine_betas, "squaredcos_cap_v2"), (linear_betas, "linear")]
)
def test_equal_to_diffusers(ours, theirs):
    """x_t and v of both schedules."""
    reference = DDPMScheduler(1000, beta_schedule=theirs)
    diffusion = Diffusion(Schedule(ours(1000)), "v")
    x0, eps = normal(4, 3, 2, 2), normal(4, 3, 2, 2, seed=1)
    for mine, other in (
        (diffusion.add_noise(x0, T, eps), reference.add_noise(x0, eps, T)),
        (diffusion.target_of(x0, T, eps), reference.get_velocity(x0, eps, T)),
    ):
        torch.testing.assert_close(mine, other, rtol=1e-3, atol=1e-4)


def test_inputs_are_not_mutated():
    """e-10"""
    x0, eps = normal(4, 6), normal(4, 6, seed=1)
    copies = x0.clone(), eps.clone(), T.clone()
    for target in TARGETS:
        diffusion = Diffusion(COSINE, target)
        x_t = diffusion.add_noise(x0, T, eps)
        x_t_copy, answer = x_t.clone(), diffusion.target_of(x0, T, eps)
        diffusion.to_eps(diffusion.to_x0(answer, x_t, T), x_t, T)
        assert torch.equal(x_t, x_t_copy)
    assert all(torch.equal(a, b) for a, b in zip((x0, eps, T), copies, strict=True))


def test_unknown_target():
    with pytest.raises(ValueError, match="'score'; the targets are eps, x0, v"):
        Diffusion(COSINE, "score")


def test_x0_weight_is_that_of_v_until_its_cap():
    """An error of x0 times the weight is the error of v that it makes (e-47)."""
    diffusion, t = Diffusion(COSINE, "v"), torch.tensor([300, 500, 900])
    x0, eps, error = normal(3, 4), normal(3, 4, seed=1), normal(3, 4, seed=2)
    v, wrong = (
        diffusion.target_of(x, t, diffusion.to_eps(x, x_t, t))
        for x, x_t in (
            (x0, diffusion.add_noise(x0, t, eps)),
            (x0 + error, diffusion.add_noise(x0, t, eps)),
        )
    )
    weight = diffusion.x0_weight(t, x0)
    torch.testing.assert_close((wrong - v) ** 2, weight * error**2, rtol=1e-3, atol=1e-6)
    assert diffusion.x0_weight(torch.tensor([0]), x0[:1]).item() == 10
