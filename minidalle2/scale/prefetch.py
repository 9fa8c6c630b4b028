"""Batches drawn ahead: while a GPU computes a step, other processes draw the next batches.

The batch of step n depends on its seed only, so it is the same in any process. On a CPU nothing is
drawn ahead, because the network needs all cores.
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

from minidalle2.training.world import World

WORKERS = 12  # processes; each keeps two batches ready

Batches = Callable[[int, torch.Generator], Any]  # (batch size, generator) → a batch, on the CPU


def workers_for(world: World, device: torch.device) -> int:
    """How many processes draw batches ahead; 0 to draw them in this process.

    0 without a GPU; on Windows, because the world object cannot be pickled and needs fork; and for
    worlds that are not forkable: tar shards count undecodable pictures in the main process.
    """
    forks = "fork" in multiprocessing.get_all_start_methods()
    ahead = device.type == "cuda" and forks and world.forkable
    cores = os.cpu_count() // int(os.environ.get("LOCAL_WORLD_SIZE", 1))  # of this process
    return max(0, min(WORKERS, cores - 1)) if ahead else 0


class Prefetched:
    """The same batches as `batches(n, generator)`, for generators of consecutive seeds.

    Without workers, a batch is drawn when it is asked for.
    """

    def __init__(self, batches: Batches, workers: int):
        self.batches, self.workers = batches, workers
        self.drawn: Iterator | None = None

    def __call__(self, n: int, generator: torch.Generator) -> Any:
        seed = generator.initial_seed()
        if self.drawn is None:
            self.drawn = iter(self._loader(n, seed))
        drawn_from, batch, state = next(self.drawn)
        if drawn_from != seed:
            raise ValueError(f"the batch of seed {seed} was asked for, but {drawn_from} was drawn")
        generator.set_state(state)  # the loss continues with the numbers that follow the batch's
        return batch

    def _loader(self, n: int, first: int) -> DataLoader:
        return DataLoader(
            _SeededBatches(self.batches, n),
            batch_size=None,
            sampler=count(first),
            num_workers=self.workers,
            collate_fn=_unchanged,
            worker_init_fn=_ignore_interrupts,
            multiprocessing_context="fork" if self.workers else None,
            # Else it would draw from torch's global generator, which initialises the models.
            generator=torch.Generator(),
        )


class _SeededBatches(Dataset):
    """The task of a worker: seed → (seed, batch, state of the generator after the batch)."""

    def __init__(self, batches: Batches, n: int):
        self.batches, self.n = batches, n

    def __getitem__(self, seed: int) -> tuple[int, Any, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        batch = self.batches(self.n, generator)
        return seed, batch, generator.get_state()


def _unchanged(drawn: Any) -> Any:
    return drawn


def _ignore_interrupts(worker: int) -> None:
    """Ctrl-C reaches all processes. The training loop handles it, between two steps."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
