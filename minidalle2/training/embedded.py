"""What the priors learn from: captioned pictures as CLIP, which no longer changes, embeds them."""

from dataclasses import dataclass

import torch
from torch import Tensor

from minidalle2.clip import CLIP
from minidalle2.tokenizer import Tokenizer
from minidalle2.training.ahead import Ahead, workers_for
from minidalle2.training.distributed import share
from minidalle2.training.precision import half_precision
from minidalle2.worlds.world import World

AT_ONCE = 1_000  # pictures
FIRST_SEED = 1_000_000_007  # no step's


@dataclass
class Embedded:
    z_i: Tensor  # (N, E), on the CPU as the next
    z_t: Tensor  # (N, E)
    captions: list[str]  # N
    tokenizer: Tokenizer

    def draw(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """→ z_i and z_t (n, E), tokens (n, T): this process's rows of them."""
        rows = share(torch.randint(len(self.captions), (n,), generator=generator))
        tokens = self.tokenizer.cut([self.captions[row] for row in rows.tolist()])
        return self.z_i[rows], self.z_t[rows], tokens


def embed(world: World, clip: CLIP, tokenizer: Tokenizer, n: int) -> Embedded:
    """At least n pictures of `train` and their captions, on CLIP's device."""
    device, z_i, z_t, captions = next(clip.parameters()).device, [], [], []

    @torch.no_grad()
    def see(drawn: tuple[Tensor, list[str]]) -> tuple[Tensor, Tensor, list[str]]:
        images, said = drawn
        with half_precision(device):
            return (
                clip.encode_image(images.to(device)).cpu(),
                clip.encode_text(tokenizer.cut(said).to(device)).cpu(),
                said,
            )

    batches = Ahead(world.captioned, see, workers_for(world, device))
    for part in range(-(-n // AT_ONCE)):
        images, texts, said = batches(AT_ONCE, torch.Generator().manual_seed(FIRST_SEED + part))
        z_i.append(images)
        z_t.append(texts)
        captions += said
    return Embedded(torch.cat(z_i), torch.cat(z_t), captions, tokenizer)
