"""How a step is computed: what changes its memory and its seconds, but nothing else.

So none of it belongs to a recipe, and a training may go on with another choice.
"""

from dataclasses import dataclass
from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint

from minidalle2.blocks.transformer import Block
from minidalle2.blocks.unet import Stage


@dataclass(frozen=True)
class Execution:
    parts: int = 1  # passes in which a process computes its rows of a batch (accumulation.py)
    recompute: bool = False  # activations, block by block


ONE_PASS = Execution()


def prepare(model: nn.Module, execution: Execution) -> None:
    """Change how the blocks of a model run; its weights and their names stay."""
    if execution.recompute:
        recompute_activations(model)


def recompute_activations(model: nn.Module) -> None:
    """Keep only what enters each block, and compute the block again on the way back: a third more
    work, but memory for the insides of one block at a time (Chen et al. 2016)."""
    for module in model.modules():
        if isinstance(module, Block | Stage):
            # No block draws random numbers, so there are no states of generators to keep.
            module.forward = partial(
                checkpoint, module.forward, use_reentrant=False, preserve_rng_state=False
            )
