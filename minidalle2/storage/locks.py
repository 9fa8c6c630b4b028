"""One process at a time: locks that the operating system releases when a process ends."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout


class InUse(RuntimeError):
    """Another process holds the lock."""


@contextmanager
def locked(path: Path, wait: bool = False) -> Iterator[None]:
    """Holds the lock file `path`, which is created if needed and stays.

    If another process holds it, waits if `wait` is True, else raises InUse. Where the file system
    has no locks, nothing is locked.
    """
    lock = FileLock(path, timeout=-1 if wait else 0)
    try:
        lock.acquire()
    except Timeout as error:
        raise InUse(f"another process holds {path}") from error
    except NotImplementedError:  # the file system has no locks
        pass
    try:
        yield
    finally:
        lock.release()
