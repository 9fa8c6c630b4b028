"""What a process needs of a world's batches, without reading what it does not need.

The batch is the same for all processes and each takes its rows of it (distributed.py). Where it
costs much to have a picture, as with shards, only its own are read and decoded.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from minidalle2.tokenizer import PAD, Tokenizer
from minidalle2.training.distributed import own_rows, processes, share
from minidalle2.worlds.shards.world import Shards
from minidalle2.worlds.world import World


def own_captioned(world: World, n: int, generator: torch.Generator) -> tuple[Tensor, list[str]]:
    """This process's rows of `world.captioned(n, generator)`."""
    if isinstance(world, Shards):
        return world.read(world.choose(n, generator, "train")[own_rows(n)], "train", 32)
    return share(world.captioned(n, generator))


def own_pairs(
    world: World, tokenizer: Tokenizer, n: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """This process's rows of `world.contrasting(n, generator)`: pictures and tokens (rows, T), of
    the same T in all processes, because CLIP compares the tokens of all."""
    if not isinstance(world, Shards):
        images, captions = world.contrasting(n, generator)
        return share((images, tokenizer.cut(captions)))
    images, captions = own_captioned(world, n, generator)  # shards contrast no further
    tokens = tokenizer.cut(captions)
    if processes() > 1:  # which captions the others have is not known here
        tokens = F.pad(tokens, (0, tokenizer.context_length - tokens.shape[1]), value=PAD)
    return images, tokens


def captions_of(world: World, n: int, generator: torch.Generator) -> list[str]:
    """Those of `world.captioned(n, generator)`, all of them; of shards without a look at the
    pictures, so that a caption may be of one that can't be decoded."""
    if isinstance(world, Shards):
        return [world.caption(row) for row in world.choose(n, generator, "train").tolist()]
    return world.captioned(n, generator, size=1)[1]
