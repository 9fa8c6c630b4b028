"""Batches drawn ahead: while a GPU computes a step, other processes draw what the next ones need.

The batch of step n depends on its seed alone (loop.py), so it is the same whoever draws it. On a
CPU nothing is drawn ahead: the network needs all cores.
"""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from minidalle2.worlds.shards.world import Shards
from minidalle2.worlds.world import World

WORKERS = 12  # processes; each holds two batches ready

Draw = Callable[[int, torch.Generator], Any]  # (batch size, generator) → a batch, on the CPU
See = Callable[[Any], Any]  # such a batch → what the loss needs, on the model's device


def workers_for(world: World, device: torch.device) -> int:
    """None without a GPU; nor where processes can't be forked, as on Windows, for what draws is no
    thing to be sent; nor of shards, which keep account of what they could not decode."""
    forks = "fork" in multiprocessing.get_all_start_methods()
    ahead = device.type == "cuda" and forks and not isinstance(world, Shards)
    return min(WORKERS, os.cpu_count() - 1) if ahead else 0


class Ahead:
    """Data for `fit`, equal to see(draw(n, generator)), for generators of consecutive seeds.

    Without workers a batch is drawn when it is asked for, by who asks.
    """

    def __init__(self, draw: Draw, see: See, workers: int):
        self.draw, self.see, self.workers = draw, see, workers
        self.drawn: Iterator | None = None

    def __call__(self, n: int, generator: torch.Generator) -> Any:
        seed = generator.initial_seed()
        if self.drawn is None:
            self.drawn = iter(self._loader(n, seed))
        drawn_from, batch, state = next(self.drawn)
        if drawn_from != seed:
            raise ValueError(f"the batch of seed {drawn_from} was drawn, and that of {seed} asked")
        generator.set_state(state)  # the loss goes on with the random numbers after the batch's
        return self.see(batch)

    def _loader(self, n: int, first: int) -> DataLoader:
        return DataLoader(
            _Drawing(self.draw, n),
            batch_size=None,
            sampler=count(first),
            num_workers=self.workers,
            collate_fn=_as_it_is,
            worker_init_fn=_ignore_interrupts,
            multiprocessing_context="fork" if self.workers else None,
        )


class _Drawing(Dataset):
    """What a worker does: seed → the batch, and the generator's state after it."""

    def __init__(self, draw: Draw, n: int):
        self.draw, self.n = draw, n

    def __getitem__(self, seed: int) -> tuple[int, Any, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        batch = self.draw(self.n, generator)
        return seed, batch, generator.get_state()


def _as_it_is(drawn: Any) -> Any:
    return drawn


def _ignore_interrupts(worker: int) -> None:
    """Ctrl-C reaches all processes; the loop answers it, between two steps."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
