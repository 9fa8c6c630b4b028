"""One process at a time: locks that the operating system holds.

A lock is a byte of a file. It goes with the process that took it, however that ends, so that after
a kill nothing is left to clean up; the empty file stays, because removing it would be a race.
"""

import errno
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

if os.name == "nt":
    import msvcrt
else:
    import fcntl

PAUSE = 0.2  # seconds between two tries, when waiting
HELD = (errno.EACCES, errno.EAGAIN, errno.EDEADLK)  # the errors of a lock that another holds


class InUse(RuntimeError):
    """Another process holds the lock; `place` is the byte that it holds."""

    def __init__(self, path: Path, place: int):
        super().__init__(f"another process holds byte {place} of {path}")
        self.place = place


@contextmanager
def locked(path: Path, places: Sequence[int] = (0,), wait: bool = False) -> Iterator[None]:
    """Hold bytes of a file, which is made if need be. Raises InUse where another process holds one,
    or else waits until it lets go. Within one process it keeps nobody out."""
    with open(path, "ab") as file:
        taken = []
        try:
            for place in places:
                while not _take(file.fileno(), place):
                    if not wait:
                        raise InUse(path, place)
                    time.sleep(PAUSE)
                taken.append(place)
            yield
        finally:
            for place in taken:
                with suppress(OSError):
                    _give_back(file.fileno(), place)


def _take(descriptor: int, place: int) -> bool:
    """Whether the byte is ours now. A file system without locks keeps nobody out."""
    try:
        if os.name == "nt":
            os.lseek(descriptor, place, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
    except OSError as error:
        return error.errno not in HELD
    return True


def _give_back(descriptor: int, place: int) -> None:
    if os.name == "nt":
        os.lseek(descriptor, place, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)
    else:
        fcntl.lockf(descriptor, fcntl.LOCK_UN, 1, place)
