"""The number format of products in training: bfloat16 if the hardware supports it, else float32."""

import torch


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether the device has instructions for products of bfloat16.

    A CPU without them, such as that of most laptops, multiplies bfloat16 a hundred times slower
    than float32.
    """
    knows = {
        "cpu": getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False),
        "cuda": torch.cuda.is_bf16_supported,
    }
    return device.type in knows and bool(knows[device.type]())


def half_precision(device: torch.device) -> torch.autocast:
    """Inside, products use bfloat16 if the hardware supports it, which is up to five times as fast.

    The weights stay in float32.
    """
    return torch.autocast(device.type, torch.bfloat16, enabled=multiplies_bfloat16(device))
