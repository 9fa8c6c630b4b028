"""The page of arithmetic: its numbers are computed, and the counting is right where it is known."""

from pathlib import Path

import pytest
import torch
from torch import nn

from minidalle2.blocks.embeddings import TextEncoder
from minidalle2.scale.activations import Kept
from minidalle2.scale.cluster import (
    TRAININGS,
    Measured,
    Plan,
    Training,
    measure,
    ring_bytes,
    tables,
)
from minidalle2.scale.paper import parameters
from minidalle2.scale.recompute import recompute_activations

PAGE = (Path(__file__).parent.parent / "docs" / "cluster.md").read_text(encoding="utf-8")


def test_the_page_has_the_tables():
    for table in tables().split("\n\n"):
        assert table in PAGE


def test_what_the_page_says_of_the_tables():
    plans = {plan.training.name: plan for plan in map(Plan, TRAININGS)}
    total = sum(plan.operations for plan in plans.values())
    assert 0.6 < plans["CLIP"].operations / total < 0.7
    slow = [name for name, p in plans.items() if p.exchange_seconds > p.compute_seconds]
    assert slow == ["decoder", "upsampler 64 to 256", "upsampler 256 to 1024"]
    decoder, m = plans["decoder"], measure(plans["decoder"].training)
    assert 0.7 < decoder.state / 80e9 < 0.8
    assert (decoder.parts(m.activations), decoder.parts(m.recomputed)) == (4, 1)


def test_a_transformers_operations_by_hand():
    """Each weight of a matrix is used once a token; and scores and their sums, twice T² · D."""
    tokens, width, layers = 16, 32, 3

    def forward(model: nn.Module) -> torch.Tensor:
        return model(torch.ones(1, tokens, dtype=torch.long))

    training = Training("small", lambda: TextEncoder(100, tokens, width, layers, 2), forward, 1, 1)
    matrices = layers * 12 * width * width
    expected = 2 * tokens * matrices + layers * 2 * 2 * tokens * tokens * width
    assert measure(training).operations == expected
    assert measure(training).parameters == parameters(training.build)


def test_kept_memory_by_hand():
    """A linear layer keeps its input, SiLU too: of two layers 4 → 8 → 4 and five rows these are
    5 · 4, 5 · 8 before and 5 · 8 behind the SiLU."""
    model = nn.Sequential(nn.Linear(4, 8), nn.SiLU(), nn.Linear(8, 4))
    kept = Kept(model)
    with kept.counted():
        model(torch.randn(5, 4))
    assert kept.all() == 4 * (20 + 40 + 40)


def test_recomputed_is_what_recomputing_keeps():
    """What is counted while blocks are kept for recomputing, and the insides of the largest."""
    tokens, model = torch.ones(2, 16, dtype=torch.long), TextEncoder(100, 16, 32, 3, 2)
    plain = Kept(model)
    with plain.counted():
        model(tokens)
    recomputing = TextEncoder(100, 16, 32, 3, 2)
    recompute_activations(recomputing)
    kept = Kept(recomputing)
    with kept.counted():
        recomputing(tokens)
    largest = max(size for block, size in plain.inside.items() if block)
    mask = 16 * 16  # enters every block, but is counted in the first that uses it
    assert plain.recomputed() == kept.all() + largest - mask
    assert plain.recomputed() < plain.all()


def test_parts_fit_and_divide(monkeypatch):
    plan = Plan(Training("small", nn.Module, lambda model: None, batch=48, iterations=1), gpus=4)
    measured = Measured(1_000_000, 0, 0, 0)
    monkeypatch.setattr("minidalle2.scale.cluster.measure", lambda training: measured)
    room = 72e9 - plan.state
    assert plan.parts(int(room / 12.5)) == 1 and plan.parts(int(room / 5)) == 3
    assert plan.parts(int(room * 2)) == 0


@pytest.mark.parametrize("gpus", [2, 3, 8])
def test_ring_all_reduce_simulated(gpus):
    """Each of N has N chunks; N - 1 rounds add a chunk to the neighbour's, N - 1 pass sums on."""
    generator = torch.Generator().manual_seed(0)
    chunks = torch.randn(gpus, gpus, 10, generator=generator, dtype=torch.float64)
    sums, sent = chunks.sum(0), torch.zeros(gpus)
    for step in range(2 * (gpus - 1)):
        before = chunks.clone()
        for gpu in range(gpus):
            chunk = (gpu - step) % gpus if step < gpus - 1 else (gpu + 1 - step + gpus - 1) % gpus
            old = chunks[(gpu + 1) % gpus, chunk]
            new = before[gpu, chunk] + (old if step < gpus - 1 else 0)
            chunks[(gpu + 1) % gpus, chunk] = new
            sent[gpu] += before[gpu, chunk].nbytes
    assert torch.allclose(chunks, sums.expand_as(chunks))
    assert sent.tolist() == pytest.approx([ring_bytes(sums.nbytes, gpus)] * gpus)
