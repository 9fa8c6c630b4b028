"""How every notebook begins: a seed, a device, and one of two sizes.

A reader trains one size, CI a smaller one (MINIDALLE2_FAST=1). Both run every cell.
"""

import os

import torch

from minidalle2.commands.options import pick_device
from minidalle2.memory import keep_freed_memory


def begin() -> tuple[torch.device, torch.Generator]:
    """Seed torch and choose CUDA, else MPS, else the CPU; says which, and at which size.

    The generator is for what is drawn from the world. MINIDALLE2_SEED replaces seed 0, which is how
    the bands of expected losses were measured.
    """
    keep_freed_memory()
    seed = int(os.environ.get("MINIDALLE2_SEED", "0"))
    torch.manual_seed(seed)
    device = pick_device("auto")
    print(f"device: {device.type} · size: {'CI' if is_fast() else 'reader'}")
    return device, torch.Generator().manual_seed(seed)


def is_fast() -> bool:
    return os.environ.get("MINIDALLE2_FAST", "0") == "1"


def size(reader: int, ci: int) -> int:
    """`reader`, or `ci` where CI executes the notebook."""
    return ci if is_fast() else reader
