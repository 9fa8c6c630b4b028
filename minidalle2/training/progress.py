"""Progress bars for what takes long in a training and is no step.

Bars are shown on a terminal only, and only by the first of the processes that torchrun started.
"""

import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

EVERY = 1.0  # seconds between two drawings of a bar that counts nothing


def hidden() -> bool | None:
    """The value of tqdm's `disable`. None hides a bar where there is no terminal."""
    return None if os.environ.get("RANK", "0") == "0" else True


def shown(items: Iterable, activity: str, unit: str) -> tqdm:
    """The same items, with a bar that shows the activity and the remaining time."""
    return tqdm(items, activity, unit=unit, leave=False, disable=hidden())


@contextmanager
def doing(activity: str) -> Iterator[None]:
    """Inside, a line shows the activity and the time since it began."""
    line = tqdm(desc=activity, bar_format="{desc} [{elapsed}]", leave=False, disable=hidden())
    with line, ticking(line):
        yield


@contextmanager
def ticking(bar: tqdm) -> Iterator[None]:
    """Inside, the clock of a bar runs, also while nothing is counted."""
    if bar.disable:
        yield
        return
    ended = threading.Event()

    def tick() -> None:
        while not ended.wait(EVERY):
            bar.refresh()

    clock = threading.Thread(target=tick, daemon=True)
    clock.start()
    try:
        yield
    finally:
        ended.set()
        clock.join()
