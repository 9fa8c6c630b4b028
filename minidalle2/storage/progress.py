"""Progress bars on the terminal: the current activity, the share that is done, and the time left.

A bar is shown on a terminal only, on standard error, and disappears when its activity ends. In a
notebook, a file or a pipe nothing is shown. Of the processes that torchrun started, only the first
shows bars.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from tqdm import tqdm

if TYPE_CHECKING:  # `minidalle2 --help` must not wait for torch
    from torch import Tensor, nn

Item = TypeVar("Item")
PERCENT = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}"
UNKNOWN = "{desc} ... {elapsed}"  # for activities of unknown length
EVERY = 1.0  # seconds after which the clock of a bar is drawn again


@dataclass
class Work:
    """What one network has to compute in an activity."""

    network: nn.Module
    rows: int  # pictures or embeddings
    calls: int  # of the network for each row
    cost: int  # time of one row in one call, relative to other networks; only for the time left

    @property
    def total(self) -> int:
        return self.rows * self.calls * self.cost


@contextmanager
def bar(activity: str, total: int, form: str = PERCENT) -> Iterator[tqdm]:
    """A bar for `with`. Its `update(n)` says that n more of `total` are done."""
    shown = tqdm(
        desc=activity,
        total=total,
        bar_format=form,
        leave=False,
        disable=hidden(),
        miniters=1,  # otherwise a series of quick updates would delay the display of slow ones
        smoothing=0,  # the time left follows from the average speed
    )
    with shown, ticking(shown):
        yield shown


def hidden() -> bool | None:
    """tqdm's `disable`: True hides a bar, None hides it where standard error is no terminal."""
    return None if os.environ.get("RANK", "0") == "0" else True


@contextmanager
def ticking(shown: tqdm) -> Iterator[None]:
    """The clock of a bar runs, also while a single step takes long."""
    if shown.disable:
        yield
        return
    ended = threading.Event()

    def tick() -> None:
        while not ended.wait(EVERY):
            shown.refresh()

    clock = threading.Thread(target=tick, daemon=True)
    clock.start()
    try:
        yield
    finally:
        ended.set()
        clock.join()


@contextmanager
def doing(activity: str) -> Iterator[None]:
    """Shows an activity of unknown length and the time since it began, without a share."""
    with bar(activity, 1, UNKNOWN):
        yield


def each(items: Iterable[Item], activity: str, total: int | None = None) -> Iterator[Item]:
    """Yields the items, with a bar. `total` is their number if they have no len()."""
    with bar(activity, len(items) if total is None else total) as shown:
        for item in items:
            yield item
            shown.update()


@contextmanager
def working(activity: str, works: list[Work]) -> Iterator[tqdm]:
    """A bar that moves at each call of the networks. It is full when all works are done.

    PyTorch calls a forward hook after each call of a network. The hooks only count. They exist
    until the end of the `with` block. Without works, the length of the activity is unknown.
    """
    total, form = sum(work.total for work in works), PERCENT if works else UNKNOWN
    with bar(activity, total, form) as shown, ExitStack() as hooks:
        for network, cost in {work.network: work.cost for work in works}.items():
            hook = network.register_forward_hook(_counting(shown, cost))
            hooks.callback(hook.remove)
        yield shown


def _counting(shown: tqdm, cost: int) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
    def after_call(network: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        shown.update(cost * len(inputs[0]))  # its result must not be returned: PyTorch would use it

    return after_call
