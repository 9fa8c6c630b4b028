"""Counts the memory that a forward pass keeps for the backward pass, while it runs."""

from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from minidalle2.blocks.transformer import Block
from minidalle2.blocks.unet import UNetBlock


class Kept:
    """Counts the bytes that a forward pass keeps: inside each block, inputs of blocks, the rest.

    Tensors that share memory count once. Parameters and their bfloat16 copies do not count.
    """

    def __init__(self, model: nn.Module):
        self.seen = {storage_of(x): x for x in (*model.parameters(), *model.buffers())}
        weights = [m.weight for m in model.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
        self.copies = {shape for w in weights for shape in (w.shape, w.mT.shape)}
        self.inside: dict[nn.Module | None, int] = {None: 0}
        self.entering, self.block = 0, None
        for module in model.modules():
            if isinstance(module, Block | UNetBlock):
                module.register_forward_pre_hook(self._enter)
                module.register_forward_hook(self._leave)

    def _enter(self, block: nn.Module, inputs: tuple) -> None:
        self.block, self.inside[block] = block, 0
        self.entering += inputs[0].nbytes

    def _leave(self, *_: object) -> None:
        self.block = None

    def counted(self) -> AbstractContextManager:
        """Inside, everything that is kept for the backward pass is counted."""
        return saved_tensors_hooks(self._keep, lambda tensor: tensor)

    def _keep(self, tensor: Tensor) -> Tensor:
        copied = tensor.dtype == torch.bfloat16 and tensor.shape in self.copies
        if storage_of(tensor) not in self.seen and not copied:
            # The tensor stays alive, so that no later tensor gets the same storage.
            self.seen[storage_of(tensor)] = tensor
            self.inside[self.block] += tensor.untyped_storage().nbytes()
        return tensor

    def all(self) -> int:
        """All bytes that are kept."""
        return sum(self.inside.values())

    def recomputed(self) -> int:
        """The bytes that are kept if each block is computed again in the backward pass.

        These are the inputs of all blocks, everything outside blocks, and the inside of the largest
        block.
        """
        largest = max((size for block, size in self.inside.items() if block), default=0)
        return self.inside[None] + self.entering + largest


def storage_of(tensor: Tensor) -> int:
    """A number that identifies the memory of a tensor."""
    return tensor.untyped_storage()._cdata
