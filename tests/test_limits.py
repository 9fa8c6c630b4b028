"""What the machine can do and what a step asks of it: counts by hand, rates with a known clock."""

import time

import pytest
import torch
from torch import nn

from minidalle2.scale import limits
from minidalle2.scale.limits import CPU, Limits, fastest, operations_of_a_step
from minidalle2.training.precision import half_precision


def test_operations_by_hand():
    """Forward once, backward twice; but nobody needs the gradient of the pictures."""
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Flatten(), nn.Linear(8 * 16, 5))
    pictures = torch.randn(2, 3, 4, 4)

    def loss(model: nn.Module, batch: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return model(batch).square().mean()

    products, convolutions = operations_of_a_step(model, loss, pictures)
    assert products == 3 * 2 * 2 * (8 * 16) * 5
    assert convolutions == 2 * 2 * (2 * 8 * 4 * 4) * (3 * 9)
    assert all(p.grad is None for p in model.parameters())


def test_ideal_seconds_add_up():
    machine = Limits(products=100.0, convolutions=50.0, bandwidth=1.0)
    assert machine.ideal_seconds(products=300, convolutions=100) == 3 + 2


def test_the_fastest_run_counts_and_the_first_does_not(monkeypatch):
    now, spans = [0.0], iter([0.0, 5.0, 2.0, 4.0, 90.0])
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def run() -> None:
        now[0] += next(spans)

    assert fastest(run, seconds=100) == 2.0
    assert next(spans, None) is None


def test_number_format_is_that_of_training():
    with half_precision(CPU):
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert limits.number_format() == product.dtype


@pytest.mark.parametrize("name", ["products", "convolutions", "bandwidth"])
def test_rates_follow_the_clock(monkeypatch, name):
    """Twice the seconds, half the rate."""

    def measured(seconds: float) -> float:
        monkeypatch.setattr(limits, "fastest", lambda run, limit: seconds)
        return getattr(limits.limits(1.0), name)

    assert measured(0.5) == 2 * measured(1.0) > 0
