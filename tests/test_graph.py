"""A step recorded as a CUDA graph: its random numbers anywhere, and where there is a GPU, its
losses and weights beside those of the plain loop."""

import pytest
import torch

from minidalle2.dalle2 import WEIGHTS
from minidalle2.training import stages
from minidalle2.training.ahead import Ahead
from minidalle2.training.graph import Draws, Graphed
from minidalle2.training.loop import Recipe, fit
from minidalle2.worlds.shapes.world import Shapes

RECORDED = ("clip", "prior", "decoder", "upsampler64", "autoregressive_prior", "regression_prior")
CPU = torch.device("cpu")


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def job_of(stage, device, monkeypatch):
    monkeypatch.setattr(stages, "EMBEDDED", 1_000)
    torch.manual_seed(0)
    recipe = Recipe(steps=8, batch_size=16)
    return stages.JOBS[stage](Shapes(), WEIGHTS / "shapes", device, recipe)


@pytest.mark.parametrize("stage", RECORDED)
def test_the_losses_find_the_numbers_that_they_would_have_drawn(stage, monkeypatch):
    job = job_of(stage, CPU, monkeypatch)
    with torch.no_grad():  # a new prior answers zero, whatever it is asked
        for parameter in job.model.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=seeded(5))
    batch, draws = job.data(16, seeded(1)), Draws()
    draws.first(CPU)
    generator = seeded(2)
    with torch.no_grad(), draws:
        first = job.loss(job.model, batch, generator)
    assert torch.equal(generator.get_state(), after(job, batch, 2))
    assert torch.equal(first, plain(job, batch, 2))
    for seed in (3, 4):
        generator = seeded(seed)
        draws.rewind()
        draws.again(generator)
        with torch.no_grad(), draws:
            again = job.loss(job.model, batch, generator)
        assert torch.equal(again, plain(job, batch, seed))
        assert torch.equal(generator.get_state(), after(job, batch, seed))


@torch.no_grad()
def plain(job, batch, seed):
    return job.loss(job.model, batch, seeded(seed))


@torch.no_grad()
def after(job, batch, seed):
    generator = seeded(seed)
    job.loss(job.model, batch, generator)
    return generator.get_state()


def test_without_a_rewind_each_pass_would_draw_anew():
    draws = Draws()
    draws.first(CPU)
    with draws:
        a, b = (torch.rand(3, generator=seeded(0)) for _ in range(2))
    assert a is not b and len(draws.places) == 2
    draws.rewind()
    with draws:
        assert torch.rand(3, generator=seeded(5)) is a
        assert torch.zeros(2).sum() == 0  # what needs no generator passes


@pytest.mark.skipif(not torch.cuda.is_available(), reason="graphs are CUDA's")
@pytest.mark.parametrize("stage", RECORDED)
def test_a_graph_trains_as_the_plain_loop_does(stage, monkeypatch, tmp_path):
    losses, weights = {}, {}
    for kind in ("plain", "graph"):
        job = job_of(stage, torch.device("cuda"), monkeypatch)
        job.model.to("cuda")
        loss = Graphed(job.loss, 64) if kind == "graph" else job.loss
        recipe = Recipe(steps=8, batch_size=16, warmup_steps=2)
        data = Ahead(job.draw, job.see, 2)
        steps = fit(job.model, data, loss, recipe, tmp_path / kind, stage, job.core)
        losses[kind] = torch.tensor([step.loss for step in steps])
        weights[kind] = torch.cat([p.detach().flatten() for p in job.model.parameters()])
    torch.testing.assert_close(losses["graph"], losses["plain"], rtol=0.05, atol=0.01)
    start = torch.cat(
        [p.detach().flatten() for p in job_of(stage, CPU, monkeypatch).model.parameters()]
    )
    moved = (weights["plain"].cpu() - start).norm()
    assert (weights["graph"] - weights["plain"]).norm() < 0.3 * moved
