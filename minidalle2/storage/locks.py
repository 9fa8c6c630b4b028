"""One process at a time: locks that the operating system releases when a process ends."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from minidalle2.storage.progress import doing


class InUse(RuntimeError):
    """Another process holds the lock."""


@contextmanager
def locked(path: Path, wait: bool = False) -> Iterator[None]:
    """Holds the lock file `path`, which is created if needed and stays.

    If another process holds it, waits if `wait` is True, else raises InUse. Where the file system
    has no locks, nothing is locked.
    """
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        if not wait:
            raise InUse(f"another process holds {path}") from error
        with doing("waiting for another process"):
            lock.acquire(timeout=-1)
    except NotImplementedError:  # the file system has no locks
        pass
    try:
        yield
    finally:
        lock.release()
