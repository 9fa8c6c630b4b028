"""How every notebook begins: a seed, a device, and one of two sizes.

A reader trains at the large size, CI at a small one (MINIDALLE2_FAST=1). Both run every cell.
"""

import os

import torch

from minidalle2.storage.devices import pick_device
from minidalle2.storage.memory import keep_freed_memory


def begin() -> tuple[torch.device, torch.Generator]:
    """Seeds torch, and returns the device and a generator for the data of the world.

    The device is CUDA, else MPS, else the CPU. The device and the size are printed. The environment
    variable MINIDALLE2_SEED replaces the seed 0. bands.py uses it to measure several seeds.
    """
    keep_freed_memory()
    seed = int(os.environ.get("MINIDALLE2_SEED", "0"))
    torch.manual_seed(seed)
    device = pick_device("auto")
    print(f"device: {device.type} · size: {'CI' if is_fast() else 'reader'}")
    return device, torch.Generator().manual_seed(seed)


def is_fast() -> bool:
    """Whether the notebook runs at the size of CI."""
    return os.environ.get("MINIDALLE2_FAST", "0") == "1"


def size(reader: int, ci: int) -> int:
    """Returns `ci` if the notebook runs at the size of CI, else `reader`."""
    return ci if is_fast() else reader
