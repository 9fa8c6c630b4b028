"""Sharpness-aware minimisation: which gradient it is, and that nothing else of a step changes."""

import math

import pytest
import torch
from torch import nn

from minidalle2.training.loop import fit
from minidalle2.training.recipe import Recipe
from minidalle2.training.run import TrainingError
from minidalle2.training.sharpness import sharpness_aware, sharpness_aware_gradient


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Small(nn.Module):
    """With a part that is frozen, one that the loss forgets, and a buffer that counts passes."""

    def __init__(self):
        super().__init__()
        self.config = Recipe(steps=1, batch_size=1)  # any dataclass
        self.layers = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 1))
        self.frozen = nn.Linear(1, 1).requires_grad_(False)
        self.forgotten = nn.Parameter(torch.ones(3))
        self.register_buffer("passes", torch.zeros(()))

    def forward(self, x):
        self.passes += 1
        return self.frozen(self.layers(x))


@pytest.fixture
def model() -> Small:
    torch.manual_seed(0)
    return Small()


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(8, 6, generator=seeded(1))


def noisy_loss(model, x, generator):
    noise = torch.randn(len(x), 1, generator=generator)
    return ((model(x) - x.sum(1, keepdim=True) - noise) ** 2).mean()


def trained(model):
    return [p for p in model.parameters() if p.requires_grad]


def plain_gradient(model, loss, x, generator):
    return torch.autograd.grad(loss(model, x, generator), trained(model), allow_unused=True)


def same_bits(a, b):
    return all((p is None and q is None) or torch.equal(p, q) for p, q in zip(a, b, strict=True))


@pytest.mark.parametrize("rho", [0.1, 3.0])
def test_the_gradient_is_that_at_a_step_uphill(model, x, rho):
    """w + rho·g/|g|, |g| over all parameters together, both passes with the same noise."""
    value, ours = sharpness_aware_gradient(model, noisy_loss, x, seeded(), rho)
    assert value.item() == noisy_loss(model, x, seeded()).item()
    g = plain_gradient(model, noisy_loss, x, seeded())
    norm = math.sqrt(sum(float((p.double() ** 2).sum()) for p in g if p is not None))
    with torch.no_grad():
        for parameter, step in zip(trained(model), g, strict=True):
            if step is not None:
                parameter += rho * step / norm
    expected = plain_gradient(model, noisy_loss, x, seeded())
    moved = 0.0
    for a, b, before in zip(ours, expected, g, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-4)
            moved = max(moved, (a - before).abs().max().item())
    assert moved > 1e-3


def test_on_a_quadratic(x):
    """Loss wᵀAw/2: the gradient is A(w + rho·Aw/|Aw|)."""
    root = torch.randn(6, 6, dtype=torch.float64, generator=seeded(2))
    a, model = root @ root.T, nn.Linear(6, 1, bias=False).double()
    w = model.weight.detach()[0].clone()
    loss = lambda model, batch, generator: model.weight[0] @ a @ model.weight[0] / 2  # noqa: E731
    _, (gradient,) = sharpness_aware_gradient(model, loss, x, seeded(), 0.7)
    expected = a @ (w + 0.7 * (a @ w) / (a @ w).norm())
    torch.testing.assert_close(gradient[0], expected)


def test_all_is_left_as_one_pass_leaves_it(model, x):
    """davda54/sam goes back by subtracting what it added, which is another number in float32; its
    issue 17: passes uphill must not count in a batch norm's averages."""
    weights = {name: p.detach().clone() for name, p in model.named_parameters()}
    generator, once = seeded(), seeded()
    sharpness_aware_gradient(model, noisy_loss, x, generator, 0.1)
    assert all(torch.equal(p, weights[name]) for name, p in model.named_parameters())
    assert model.passes == 1
    noisy_loss(model, x, once)
    assert torch.equal(generator.get_state(), once.get_state())
    step = 0.1 * torch.randn(16, 6, generator=seeded())
    there_and_back = weights["layers.0.weight"].add(step).sub(step)
    assert not torch.equal(there_and_back, weights["layers.0.weight"])


def test_weights_come_back_also_from_an_error(model, x):
    def fails_uphill(model, x, generator):
        if model.passes == 1:
            raise RuntimeError("uphill")
        return noisy_loss(model, x, generator)

    weights = [p.detach().clone() for p in model.parameters()]
    with pytest.raises(RuntimeError, match="uphill"):
        sharpness_aware_gradient(model, fails_uphill, x, seeded(), 0.1)
    assert same_bits(weights, list(model.parameters()))


def precise_loss(model, x, generator):
    """With a product in float32 in the midst of autocast, as CLIP's logits are."""
    y = model(x).float()
    with torch.autocast("cpu", enabled=False):
        return (y @ y.T + model.layers[0].weight @ x.T).square().mean()


@pytest.mark.parametrize("autocast", [False, True])
def test_a_step_of_no_length_is_the_plain_gradient(model, autocast):
    """To the bit. Called in the midst of autocast, a backward pass would run such products in
    bfloat16; the training loop calls it after."""
    x = torch.randn(16, 6, generator=seeded(1))
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        value = precise_loss(model, x, seeded())
    plain = torch.autograd.grad(value, trained(model), allow_unused=True)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        careless = plain_gradient(model, precise_loss, x, seeded())
        sharp = sharpness_aware(precise_loss, rho=0.0)(model, x, seeded())
    sharp.backward()
    assert value.item() == sharp.item()
    assert same_bits(plain, [p.grad for p in trained(model)])
    assert same_bits(plain, careless) != autocast
    assert model.forgotten.grad is None and model.frozen.weight.grad is None


def test_autocast_sees_that_the_weights_have_moved(model, x):
    """It remembers each weight in bfloat16 until its context ends, and the training loop has one
    context a step: with the memory of w, the gradient uphill would be the one at w."""
    with torch.autocast("cpu", torch.bfloat16):
        _, ours = sharpness_aware_gradient(model, noisy_loss, x, seeded(), 3.0)
        after = noisy_loss(model, x, seeded()).item()
    _, expected = sharpness_aware_gradient(model, noisy_loss, x, seeded(), 3.0)
    with torch.autocast("cpu", torch.bfloat16):
        value = noisy_loss(model, x, seeded())
    plain = torch.autograd.grad(value, trained(model), allow_unused=True)
    assert after == value.item()  # and that they are back
    for a, b, at_w in zip(ours, expected, plain, strict=True):
        if a is not None and a.numel() > 1:
            assert (a - b).norm() < 0.1 * b.norm() and (a - at_w).norm() > 0.2 * b.norm()


def data(n, generator):
    return torch.randn(n, 6, generator=generator)


def test_the_loop_trains_with_it(model, tmp_path):
    recipe = Recipe(steps=150, batch_size=32, warmup_steps=5, learning_rate=0.02)

    def clean(model, x, generator):
        return ((model.layers(x) - x.sum(1, keepdim=True).tanh()) ** 2).mean()

    steps = list(fit(model, data, sharpness_aware(clean), recipe, tmp_path, "small"))
    assert steps[-1].loss < 0.3 * steps[0].loss


def test_no_number_uphill_stops_the_loop(model, tmp_path):
    """Before the gradient, no number either, reaches the weights."""

    def cliff(model, x, generator):
        uphill = model.passes == 1
        return noisy_loss(model, x, generator) * (math.nan if uphill else 1.0)

    weights = [p.detach().clone() for p in model.parameters()]
    recipe = Recipe(steps=2, batch_size=4, warmup_steps=1)
    with pytest.raises(TrainingError, match="the small loss became nan at step 0"):
        next(fit(model, data, sharpness_aware(cliff), recipe, tmp_path, "small"))
    assert same_bits(weights, list(model.parameters()))
