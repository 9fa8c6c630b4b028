"""Memory that is freed and soon needed again."""

import ctypes
import platform


def keep_freed_memory() -> None:
    """Ask glibc not to hand freed tensors back to the system after every operation.

    Each step of a training or a drawing allocates the same large tensors again; fetching their
    pages anew cost a third of its time on 2 cores. Memory that was needed once stays with the
    process. Elsewhere than on Linux with glibc this does nothing.
    """
    if platform.system() == "Linux" and platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL("libc.so.6")
        m_trim_threshold, m_top_pad, m_mmap_threshold = -1, -2, -3
        libc.mallopt(m_mmap_threshold, 1 << 30)
        libc.mallopt(m_trim_threshold, (1 << 31) - 1)
        libc.mallopt(m_top_pad, 1 << 28)
