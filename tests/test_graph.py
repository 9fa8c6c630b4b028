"""A step recorded as a CUDA graph: its random numbers, and a replay on fixed memory. Where there is
a GPU, losses and weights equal those of the plain loop."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from minidalle2.dalle2 import WEIGHTS
from minidalle2.scale import loop as scale_loop
from minidalle2.scale.graph import Graphed
from minidalle2.scale.loop import Execution, loss_of
from minidalle2.training import stages
from minidalle2.training.loop import fit
from minidalle2.training.recipe import Recipe
from minidalle2.worlds.shapes.world import Shapes

RECORDED = ("clip", "prior", "decoder", "upsampler64", "autoregressive_prior", "regression_prior")
CPU, CONTEXT = torch.device("cpu"), 64


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def job_of(stage, device, monkeypatch):
    monkeypatch.setattr(stages, "EMBEDDED", 1_000)
    setting = stages.Setting(Shapes(), WEIGHTS / "shapes", device)
    return stages.make_job(stage, setting, Recipe(steps=8, batch_size=16))


def disturb(model):
    """A new prior returns 0 for any input. With noise on its weights, inputs matter."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=seeded(5))


@pytest.mark.parametrize("stage", RECORDED)
def test_the_losses_find_the_numbers_that_they_would_have_drawn(stage, monkeypatch):
    """A loss with given draws equals the loss with the generator that they come from."""
    job = job_of(stage, CPU, monkeypatch)
    disturb(job.model)
    batch, found = job.data(16, seeded(1)), []
    for seed in (2, 3, 4):
        generator, own = seeded(seed), seeded(seed)
        draws = job.draws(job.model, 16, generator)
        assert all(len(draw) == 16 for draw in draws)
        with torch.no_grad():
            given = job.loss_at(job.model, batch, draws)
            assert torch.equal(given, job.loss(job.model, batch, own))
            assert torch.equal(given, job.loss_at(job.model, batch, draws))
        assert torch.equal(generator.get_state(), own.get_state())
        found.append(given.item())
    assert len(set(found)) == (1 if stage in ("clip", "regression_prior") else 3)


class RecordedOnCPU:
    """Stands for torch.cuda.CUDAGraph: operations are recorded, and replayed on the same memory."""

    def __init__(self):
        self.calls, self.replays = [], 0

    def replay(self):
        self.replays += 1
        with torch.no_grad():
            for operation, args, kwargs, recorded in self.calls:
                again = operation(*args, **kwargs)
                for place, value in zip(tree_leaves(recorded), tree_leaves(again), strict=True):
                    if isinstance(place, torch.Tensor):
                        place.copy_(value)


class Recording(TorchDispatchMode):
    def __init__(self, graph):
        super().__init__()
        self.graph = graph

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = operation(*args, **(kwargs or {}))
        self.graph.calls.append((operation, args, kwargs or {}, result))
        return result


@pytest.fixture
def graphs_on_cpu(monkeypatch):
    stream = SimpleNamespace(wait_stream=lambda other: None)
    for name in ("Stream", "current_stream"):
        monkeypatch.setattr(torch.cuda, name, lambda: stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    monkeypatch.setattr(torch.cuda, "CUDAGraph", RecordedOnCPU)
    monkeypatch.setattr(torch.cuda, "graph", Recording)


@pytest.mark.parametrize("stage", [stage for stage in RECORDED if stage != "decoder"])
def test_a_replay_reads_each_batch_and_its_random_numbers(stage, monkeypatch, graphs_on_cpu):
    """The decoder is left out: on a CPU it looks for equal captions, which cannot be recorded."""
    job = job_of(stage, CPU, monkeypatch)
    disturb(job.model)
    loss, found = Graphed(job, CONTEXT), []
    for seed in (1, 2, 3):
        batch, expected, graphed = job.data(16, seeded(seed)), {}, {}
        for call, gradients in ((job.loss, expected), (loss, graphed)):
            job.model.zero_grad(set_to_none=True)
            value = call(job.model, batch, seeded(seed + 10))
            value.backward()
            gradients |= {name: p.grad for name, p in job.model.named_parameters()}
            gradients["loss"] = value.detach()
        for name, gradient in expected.items():
            assert (gradient is None) == (graphed[name] is None), name
            if gradient is not None:
                torch.testing.assert_close(graphed[name], gradient, rtol=1e-3, atol=1e-5)
        found.append(value.item())
        with torch.no_grad():  # the next replay must read the new weights
            job.model.get_parameter(next(iter(job.model.state_dict()))).mul_(1.5)
    assert len(set(found)) == 3 and loss.graph.replays == 3


def test_what_becomes_a_graph(monkeypatch):
    """Only a single GPU records, only in one pass, and only losses that can be recorded."""
    job = SimpleNamespace(recordable=True, embed=None, draws=None, loss_at=None)
    gpu = torch.device("cuda")
    assert isinstance(loss_of(job, scale_loop.ONE_PASS, gpu, CONTEXT), Graphed)
    assert not isinstance(loss_of(job, scale_loop.ONE_PASS, CPU, CONTEXT), Graphed)
    assert not isinstance(loss_of(job, Execution(parts=2), gpu, CONTEXT), Graphed)
    assert not isinstance(loss_of(job, Execution(recompute=True), gpu, CONTEXT), Graphed)
    job.recordable = False
    assert not isinstance(loss_of(job, scale_loop.ONE_PASS, gpu, CONTEXT), Graphed)
    job.recordable = True
    monkeypatch.setattr(scale_loop, "processes", lambda: 2)
    assert not isinstance(loss_of(job, scale_loop.ONE_PASS, gpu, CONTEXT), Graphed)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="graphs are CUDA's")
@pytest.mark.parametrize("stage", RECORDED)
def test_a_graph_trains_as_the_plain_loop_does(stage, monkeypatch, tmp_path):
    losses, weights = {}, {}
    recipe = Recipe(steps=8, batch_size=16, warmup_steps=2)
    for kind in ("plain", "graph"):
        job, folder = job_of(stage, torch.device("cuda"), monkeypatch), tmp_path / kind
        if kind == "graph":
            steps = scale_loop.fit(job, Graphed(job, CONTEXT), recipe, folder, stage, workers=2)
        else:
            steps = fit(job.model, job.data, job.loss, recipe, folder, stage, job.kept)
        losses[kind] = torch.tensor([step.loss for step in steps])
        weights[kind] = torch.cat([p.detach().flatten() for p in job.model.parameters()])
    torch.testing.assert_close(losses["graph"], losses["plain"], rtol=0.05, atol=0.01)
    start = torch.cat(
        [p.detach().flatten() for p in job_of(stage, CPU, monkeypatch).model.parameters()]
    )
    moved = (weights["plain"].cpu() - start).norm()
    assert (weights["graph"] - weights["plain"]).norm() < 0.3 * moved
