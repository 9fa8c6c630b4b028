"""Recomputing activations: less memory for more work (Chen et al. 2016)."""

from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint

from minidalle2.blocks.transformer import Block
from minidalle2.blocks.unet import UNetBlock


def recompute_activations(model: nn.Module) -> None:
    """Keeps only the input of each block and computes the block again in the backward pass.

    This takes a third more work, but memory for the inside of only one block at a time. The
    weights and their names stay the same.
    """
    for module in model.modules():
        if isinstance(module, Block | UNetBlock):
            # No block draws random numbers, so there is no generator state to keep.
            module.forward = partial(
                checkpoint, module.forward, use_reentrant=False, preserve_rng_state=False
            )
