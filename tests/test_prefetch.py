"""Batches that other processes draw ahead equal those that the loop would have drawn."""

import multiprocessing
import os
from dataclasses import dataclass

import pytest
import torch

from minidalle2.scale import loop as scale_loop
from minidalle2.scale.accumulation import loss_in_parts
from minidalle2.scale.prefetch import Prefetched, workers_for
from minidalle2.training.jobs import Job
from minidalle2.training.loop import fit
from minidalle2.training.recipe import Recipe
from minidalle2.worlds.shapes.world import Shapes

forks = pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="processes can't be forked here"
)


@dataclass
class SmallConfig:
    width: int = 2


class Small(torch.nn.Linear):
    def __init__(self):
        super().__init__(2, 2)
        self.config = SmallConfig()


def draw(n, generator):
    return torch.rand(n, 2, generator=generator), torch.tensor([float(os.getpid())] * n)


def batch_of(n, generator, rows):
    return tuple(part[rows] for part in draw(n, generator))


def see(batch):
    return batch[0] * 2, batch[1]


@forks
@pytest.mark.parametrize("workers", [0, 3])
def test_the_same_batches_and_the_same_numbers_after_them(workers):
    data = Prefetched(draw, workers)
    for seed in range(40, 47):  # a resumed training starts somewhere
        generator, own = (torch.Generator().manual_seed(seed) for _ in range(2))
        rows, drawn_by = data(5, generator)
        assert torch.equal(rows, draw(5, own)[0])
        assert torch.equal(torch.rand(3, generator=generator), torch.rand(3, generator=own))
        assert (drawn_by[0] == os.getpid()) == (workers == 0)


def test_drawing_ahead_leaves_the_global_generator_alone():
    """Models are initialised with it, perhaps after batches were drawn, as for a prior."""
    before = torch.get_rng_state()
    Prefetched(draw, 0)(2, torch.Generator().manual_seed(1))
    assert torch.equal(torch.get_rng_state(), before)


def test_seeds_that_do_not_follow_each_other_are_refused():
    data = Prefetched(draw, 0)
    data(2, torch.Generator().manual_seed(1))
    with pytest.raises(ValueError, match="batch of seed 7 was asked for, but 2 was drawn"):
        data(2, torch.Generator().manual_seed(7))


@forks
def test_an_error_in_a_worker_reaches_the_loop():
    def broken(n, generator):
        raise ValueError("no such picture")

    with pytest.raises(ValueError, match="no such picture"):
        Prefetched(broken, 1)(2, torch.Generator().manual_seed(0))


def noise_of(model, n, generator):
    return (torch.randn(n, 2, generator=generator),)


def loss_at(model, batch, draws):
    return (model(batch[0]) - draws[0]).square().mean()


@forks
def test_training_does_not_depend_on_who_draws(tmp_path):
    """The loop for GPUs, without workers and with two, and the plain loop."""
    recipe, losses = Recipe(steps=6, batch_size=8, warmup_steps=2), []
    for workers in (None, 0, 2):
        torch.manual_seed(0)
        job = Job(Small(), batch_of, see, noise_of, loss_at)
        folder = tmp_path / str(workers)
        if workers is None:
            steps = fit(job.model, job.data, job.loss, recipe, folder, "small")
        else:
            loss = loss_in_parts(job)
            steps = scale_loop.fit(job, loss, recipe, folder, "small", workers)
        losses.append([step.loss for step in steps])
    assert losses[0] == losses[1] == losses[2] and len(set(losses[0])) == 6


def test_only_a_gpu_has_cores_to_spare():
    assert workers_for(Shapes(), torch.device("cpu")) == 0
    several = workers_for(Shapes(), torch.device("cuda"))
    assert (several > 0) == ("fork" in multiprocessing.get_all_start_methods())


def test_worlds_that_cannot_be_forked_are_drawn_here():
    class Counting(Shapes):
        forkable = False

    assert workers_for(Counting(), torch.device("cuda")) == 0
