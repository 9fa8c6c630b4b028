"""Which numbers training multiplies: bfloat16 where the hardware can, float32 elsewhere."""

import torch


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether it has instructions for it. Processors without them, most laptops', add up such
    products a hundred times slower than float32's."""
    knows = {
        "cpu": getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False),
        "cuda": torch.cuda.is_bf16_supported,
    }
    return device.type in knows and bool(knows[device.type]())


def half_precision(device: torch.device) -> torch.autocast:
    """bfloat16 products with float32 weights, where the hardware multiplies them: up to five times
    as fast."""
    return torch.autocast(device.type, torch.bfloat16, enabled=multiplies_bfloat16(device))
