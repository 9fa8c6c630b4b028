"""Several processes train one model, each on its rows of every batch; torchrun starts them.

torchrun --nproc-per-node 2 -m minidalle2 train clip

All of them draw the same batches and the same noise (see rows.py), and torch's DistributedData-
Parallel averages their gradients: weights, averages and optimisers stay alike everywhere, and are
those of one process with the same batches, but for the order of sums. The first process logs and
saves; all read checkpoints, so they must see one folder. A program that torchrun did not start is
the first and only process, and nothing here does anything.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from minidalle2.training.rows import Drawn, equal_parts, count, part

LAST_EXCHANGE = 0.2  # seconds that gloo's threads have to drop it
Lossy = Callable[[Any, torch.Generator], Tensor]  # (batch, generator) → scalar


def processes() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def number() -> int:
    """Of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def is_first() -> bool:
    return number() == 0


def own_device(device: torch.device) -> torch.device:
    """A GPU for each process of a machine. Raises ValueError where there are too few."""
    on_this_machine = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    if on_this_machine == 1 or device.type == "cpu":
        return device
    if device.type != "cuda":
        raise ValueError(f"several processes can't train on {device.type}; --device cpu would work")
    if on_this_machine > torch.cuda.device_count():
        raise ValueError(
            f"{on_this_machine} processes for {torch.cuda.device_count()} GPUs; start one a GPU, "
            f"--nproc-per-node {torch.cuda.device_count()}"
        )
    return torch.device("cuda", int(os.environ["LOCAL_RANK"]))


@contextmanager
def together(device: torch.device) -> Iterator[None]:
    """Within it, the processes that torchrun started know of each other: gloo on CPUs, NCCL on
    GPUs. Entering waits for all of them."""
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()
        # DistributedDataParallel keeps gloo's threads alive. One that still has to drop the tensors
        # of the last exchange when Python exits would abort the process, with nothing to see of it
        # but an exit status; it needs a moment in which this thread leaves it the interpreter.
        time.sleep(LAST_EXCHANGE)


@contextmanager
def first_goes_ahead() -> Iterator[None]:
    """What is kept on disk is made by the first process, then found by the others."""
    if not is_first():
        wait_for_all()
    yield
    if is_first():
        wait_for_all()


def wait_for_all() -> None:
    if processes() > 1:
        anyone(False)  # unlike torch's barrier it needs no GPU


def share(batch: Any) -> Any:
    """This process's rows of a batch."""
    return part(batch, own_rows(count(batch))) if processes() > 1 else batch


def own_rows(n: int) -> slice:
    return equal_parts(n, processes())[number()]


def drawn(n: int) -> AbstractContextManager:
    """Within it, the loss of this process's rows draws what they get in the batch of n."""
    return Drawn(own_rows(n), n) if processes() > 1 else nullcontext()


def check_shared(batch: Any, n: int) -> None:
    """Raises ValueError where `data` gave something else than this process's rows."""
    if processes() > 1 and count(batch) != n // processes():
        raise ValueError(
            f"the data are {count(batch)} rows, where a process's share of {n} is "
            f"{n // processes()}; share(batch) takes it"
        )


def synchronised(model: nn.Module, loss: Callable) -> Lossy:
    """The loss as a function of (batch, generator), whose backward pass leaves each process the
    mean of all processes' gradients."""
    lossy = _Lossy(model, loss)
    if processes() == 1:
        return lossy
    return DistributedDataParallel(lossy, broadcast_buffers=False)


class _Lossy(nn.Module):
    """DistributedDataParallel watches what is used in a `forward`, and losses use more of a model
    than its own."""

    def __init__(self, model: nn.Module, loss: Callable):
        super().__init__()
        self.model, self.loss = model, loss

    def forward(self, batch: Any, generator: torch.Generator) -> Tensor:
        return self.loss(self.model, batch, generator)


def mean(number: float) -> float:
    """Over all processes; the same to the bit for each of them."""
    if processes() == 1:
        return number
    mine = torch.tensor([number], dtype=torch.float64)
    everyones = [torch.empty_like(mine) for _ in range(processes())]
    dist.all_gather(everyones, mine)
    return torch.cat(everyones).mean().item()


def anyone(yes: bool) -> bool:
    """Whether it is so for any process."""
    return mean(float(yes)) > 0


def gather(rows: Tensor) -> Tensor:
    """(B, …) of each process → (W·B, …) of all W, in order.

    If each process takes the loss of all rows, and gradients are averaged over processes, then
    each parameter's is that of one process: backward, a row's gradients are summed over the losses
    of all processes, which the mean divides by W again.
    """
    return _Gather.apply(rows) if processes() > 1 else rows


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        everyones = [torch.empty_like(rows) for _ in range(processes())]
        dist.all_gather(everyones, rows.contiguous())
        return torch.cat(everyones)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        summed = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(summed)
        return summed[own_rows(len(summed))]
