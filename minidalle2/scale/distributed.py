"""Several processes train one model, each on its rows of every batch. torchrun starts them:

    torchrun --nproc-per-node 2 -m minidalle2 train clip

All processes draw the same random numbers, and each uses its own rows of them. torch's
DistributedDataParallel averages the gradients. So weights, averages and optimizers are equal
everywhere, and equal to those of one process with the same batches, except for the order of sums.
The first process logs and saves. All processes load checkpoints, so they must see one folder. After
an error, the process that failed first reports it, and the others end without a message. In a
program that torchrun did not start, nothing here has an effect.
"""

import os
import signal
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from minidalle2.storage.progress import doing
from minidalle2.training.jobs import count
from minidalle2.training.run import TrainingError

LAST_EXCHANGE = 0.2  # seconds for gloo's threads to release the last exchange
# torchrun ends all processes as soon as one has ended with an error. So a process without a message
# waits for so many seconds, in which the other one reports its error.
ASIDE = 5.0
VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
LossOfBatch = Callable[[Any, torch.Generator], Tensor]  # (batch, generator) → scalar


def processes() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def number() -> int:
    """The number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def is_first() -> bool:
    return number() == 0


def own_device(device: torch.device) -> torch.device:
    """One GPU for each process of a machine. Raises ValueError if there are too few."""
    on_this_machine = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    if on_this_machine == 1 or device.type == "cpu":
        return device
    if device.type != "cuda":
        raise ValueError(f"several processes can't train on {device.type}; --device cpu would work")
    if on_this_machine > torch.cuda.device_count():
        raise ValueError(
            f"{on_this_machine} processes for {torch.cuda.device_count()} GPUs; start one process "
            f"for each GPU, --nproc-per-node {torch.cuda.device_count()}"
        )
    return torch.device("cuda", int(os.environ["LOCAL_RANK"]))


@contextmanager
def together(pick: Callable[[], torch.device]) -> Iterator[torch.device]:
    """Inside, the processes that torchrun started can communicate: by gloo on CPUs, NCCL on GPUs.

    Entering waits for all of them. Yields the device of this process, which `pick` returns. After
    an error inside, only the process that failed first raises the error. The others exit without a
    message. Raises ValueError if the processes can't find each other.
    """
    if world_size() == 1:
        yield pick()
        return
    try:
        with doing("waiting for the other processes"):
            store, rank, size = next(dist.rendezvous("env://"))
    except (dist.DistError, ValueError) as error:
        place = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        raise ValueError(f"the processes can't connect at {place}: {error}") from error
    store = dist.PrefixStore("minidalle2", store)
    try:
        device = pick()
        if device.type == "cuda":
            torch.cuda.set_device(device)
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, store=store, rank=rank, world_size=size)
        yield device
    except BaseException as error:
        # Before this process leaves the group, because then all others fail, too.
        report_or_exit(error, store)
        raise
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
        # DistributedDataParallel keeps gloo's threads alive. If one of them still holds tensors of
        # the last exchange when Python exits, it aborts the process without a message. It needs a
        # moment in which this thread does not hold the interpreter lock.
        time.sleep(LAST_EXCHANGE)


def world_size() -> int:
    """The number of processes that torchrun started; 1 without torchrun.

    Raises ValueError if only a part of torchrun's variables is set.
    """
    number = os.environ.get("WORLD_SIZE", "1")
    if number == "1":
        return 1
    missing = [name for name in VARIABLES if not os.environ.get(name)]
    numbers = [name for name in VARIABLES if name != "MASTER_ADDR"]
    wrong = [name for name in numbers if not os.environ.get(name, "0").isdecimal()]
    if missing:
        fault = f"these variables are not set: {', '.join(missing)}"
    elif wrong:
        fault = f"{wrong[0]} is {os.environ[wrong[0]]!r}, which is no number"
    elif int(os.environ["RANK"]) >= int(number):
        fault = f"RANK is {os.environ['RANK']}; ranks count from 0"
    else:
        return int(number)
    raise ValueError(
        f"WORLD_SIZE is {number}, but {fault}. Start several processes with `torchrun "
        "--nproc-per-node 2 -m minidalle2 train …`, which sets all of them, or unset WORLD_SIZE to "
        "train in one process"
    )


def report_or_exit(error: BaseException, store: dist.Store) -> None:
    """Returns in the process that must report its error, and exits in all others.

    Raises TrainingError if the first error is that another process is gone.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # torchrun repeats a Ctrl-C
    if fails_first(store):
        if isinstance(error, dist.DistError) or "gloo" in str(error):
            raise TrainingError(
                "another process of this training has ended without a message; it may have been "
                "killed, or the memory may be too small for several processes"
            ) from None
        return
    time.sleep(ASIDE)
    raise SystemExit(130 if isinstance(error, KeyboardInterrupt) else 2) from None


def fails_first(store: dist.Store) -> bool:
    """Whether no other process has called this function before.

    False if the store is gone, because then the process that kept the store has failed before.
    """
    try:
        return store.add("failed", 1) == 1
    except RuntimeError:
        return False


@contextmanager
def first_goes_ahead() -> Iterator[None]:
    """The first process runs the block, then the others. So files are made once, then found."""
    if not is_first():
        wait_for_all()
    yield
    if is_first():
        wait_for_all()


def wait_for_all() -> None:
    if processes() > 1:
        any_process(False)  # unlike torch's barrier, this needs no GPU


def equal_parts(n: int, parts: int) -> list[slice]:
    """n rows in `parts` equal parts. Raises ValueError if they cannot be equal."""
    if n % parts:
        raise ValueError(
            f"a batch of {n} can't be divided into {parts} equal parts; use a divisor of {n}"
        )
    size = n // parts
    return [slice(i * size, (i + 1) * size) for i in range(parts)]


def own_rows(n: int) -> slice:
    """The rows of this process in a batch of n."""
    return equal_parts(n, processes())[number()]


def check_own(batch: Any, n: int) -> None:
    """Raises ValueError if a batch does not have as many rows as this process's part of n."""
    if count(batch) != n // processes():
        raise ValueError(
            f"the batch has {count(batch)} rows, but the part of this process is "
            f"{n // processes()} of {n}; draw only the rows that are asked for"
        )


def synchronised(model: nn.Module, loss: Callable) -> LossOfBatch:
    """The loss as a function of (batch, generator). Its backward pass gives every process the mean
    of the gradients of all processes."""
    module = _LossModule(model, loss)
    if processes() == 1:
        return module
    with warnings.catch_warnings():  # torch 2.13 has a new name for this option, torch 2.6 has not
        warnings.filterwarnings("ignore", "`broadcast_buffers`", FutureWarning)
        return DistributedDataParallel(module, broadcast_buffers=False)


class _LossModule(nn.Module):
    """The loss as a `forward`, because DistributedDataParallel only sees what `forward` uses."""

    def __init__(self, model: nn.Module, loss: Callable):
        super().__init__()
        self.model, self.loss = model, loss

    def forward(self, batch: Any, generator: torch.Generator) -> Tensor:
        return self.loss(self.model, batch, generator)


def everyones(number: float) -> Tensor:
    """The number of each process, (W,) float64."""
    mine = torch.tensor([number], dtype=torch.float64)
    if processes() == 1:
        return mine
    gathered = [torch.empty_like(mine) for _ in range(processes())]
    dist.all_gather(gathered, mine)
    return torch.cat(gathered)


def mean(number: float) -> float:
    """The mean over all processes, equal to the bit in each of them."""
    return everyones(number).mean().item()


def any_process(yes: bool) -> bool:
    """Whether `yes` is True in any process."""
    return mean(float(yes)) > 0


def gather(rows: Tensor) -> Tensor:
    """(B, …) of each process → (W·B, …) of all W processes, in order. Gradients flow back.

    If every process computes the loss of all rows and the gradients are averaged, the result is
    that of one process: the backward pass sums a row's gradients over the losses of all processes,
    and the mean divides the sum by W.
    """
    return _Gather.apply(rows) if processes() > 1 else rows


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        gathered = [torch.empty_like(rows) for _ in range(processes())]
        dist.all_gather(gathered, rows.contiguous())
        return torch.cat(gathered)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        summed = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(summed)
        return summed[own_rows(len(summed))]
