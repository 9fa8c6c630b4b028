"""The number format of products in training: bfloat16 where it is faster, else float32."""

import torch


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether products of bfloat16 are faster than those of float32.

    On CPUs, this needs AMX, whose instructions multiply matrices. On a measured CPU that has
    AVX-512's bfloat16 instructions only, training steps took 1.5 times as long as with float32. On
    a CPU without such instructions, products of bfloat16 are a hundred times slower.
    """
    knows = {
        "cpu": getattr(torch.cpu, "_is_amx_tile_supported", lambda: False),
        "cuda": torch.cuda.is_bf16_supported,
    }
    return device.type in knows and bool(knows[device.type]())


def half_precision(device: torch.device) -> torch.autocast:
    """Inside, products use bfloat16 where it is faster. The weights stay in float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=multiplies_bfloat16(device))
