"""Batches that other processes draw ahead are those that the loop would have drawn."""

import multiprocessing
import os
from dataclasses import dataclass

import pytest
import torch

from minidalle2.training.ahead import Ahead, workers_for
from minidalle2.training.loop import Recipe, fit
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


def see(batch):
    return batch[0] * 2, batch[1]


@forks
@pytest.mark.parametrize("workers", [0, 3])
def test_the_same_batches_and_the_same_numbers_after_them(workers):
    data = Ahead(draw, see, workers)
    for seed in range(40, 47):  # a resumed training starts somewhere
        generator, own = (torch.Generator().manual_seed(seed) for _ in range(2))
        rows, drawn_by = data(5, generator)
        assert torch.equal(rows, see(draw(5, own))[0])
        assert torch.equal(torch.rand(3, generator=generator), torch.rand(3, generator=own))
        assert (drawn_by[0] == os.getpid()) == (workers == 0)


def test_seeds_that_do_not_follow_each_other_are_refused():
    data = Ahead(draw, see, 0)
    data(2, torch.Generator().manual_seed(1))
    with pytest.raises(ValueError, match="seed 2 was drawn, and that of 7 asked"):
        data(2, torch.Generator().manual_seed(7))


@forks
def test_an_error_in_a_worker_reaches_the_loop():
    def broken(n, generator):
        raise ValueError("no such picture")

    with pytest.raises(ValueError, match="no such picture"):
        Ahead(broken, see, 1)(2, torch.Generator().manual_seed(0))


@forks
def test_training_does_not_depend_on_who_draws(tmp_path):
    def loss(model, batch, generator):
        noise = torch.randn(batch[0].shape, generator=generator)
        return (model(batch[0]) - noise).square().mean()

    recipe, losses = Recipe(steps=6, batch_size=8, warmup_steps=2), []
    for workers in (0, 2):
        torch.manual_seed(0)
        model, data = Small(), Ahead(draw, see, workers)
        steps = fit(model, data, loss, recipe, tmp_path / str(workers), "small")
        losses.append([step.loss for step in steps])
    assert losses[0] == losses[1]


def test_only_a_gpu_has_cores_to_spare():
    assert workers_for(Shapes(), torch.device("cpu")) == 0
    several = workers_for(Shapes(), torch.device("cuda"))
    assert (several > 0) == ("fork" in multiprocessing.get_all_start_methods())
