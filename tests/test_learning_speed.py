"""Learning itself must not get slower: a few hundred small steps reach a loss that they reached.

Counted in steps, so that a slow machine makes no difference. Each bound lies above what three seeds
reached when it was set (in the comment beside it), and below what a quarter of the learning rate
reached.
"""

import functools

import pytest
import torch

from minidalle2.clip import CLIP, CLIPConfig, clip_loss
from minidalle2.dalle2 import WEIGHTS
from minidalle2.decoder import Decoder, DecoderConfig, decoder_loss
from minidalle2.prior import Prior, PriorConfig, prior_loss
from minidalle2.tokenizer import Tokenizer
from minidalle2.training.checkpoints import load_model
from minidalle2.training.loop import Recipe, fit
from minidalle2.worlds.shapes.world import Shapes

TOKENIZER = Tokenizer.load(WEIGHTS / "shapes" / "tokenizer.json")
WORLD = Shapes(("one", "two"))


@functools.cache
def embeddings():
    """1,024 pictures, their z_i and z_t by the committed CLIP, and tokens."""
    clip = load_model(WEIGHTS / "shapes" / "clip", "clip", CLIPConfig, CLIP)
    images, captions = WORLD.captioned(1_024, torch.Generator().manual_seed(1))
    tokens = TOKENIZER(captions)
    with torch.no_grad():
        return images, clip.encode_image(images), clip.encode_text(tokens), tokens


def rows(n, generator, *tensors):
    picked = torch.randint(len(tensors[0]), (n,), generator=generator)
    return tuple(tensor[picked] for tensor in tensors)


def clip_stage():
    def data(n, generator):
        images, captions = WORLD.contrasting(n, generator)
        return images, TOKENIZER(captions)

    return CLIP(CLIPConfig(width=64, heads=2, image_layers=2, text_layers=1)), data, clip_loss


def prior_stage():
    _, z_i, z_t, tokens = embeddings()
    model = Prior(PriorConfig(width=64, heads=2, layers=2))
    return model, lambda n, generator: rows(n, generator, z_i, z_t, tokens), prior_loss


def decoder_stage():
    images, z_i, _, tokens = embeddings()
    config = DecoderConfig(
        widths=(16, 32, 48), blocks=(1, 1, 1), attention=(False, False, True),
        embedding=64, text_width=64, text_layers=1, text_heads=2,
    )  # fmt: skip
    model = Decoder(config).to(memory_format=torch.channels_last)
    return model, lambda n, generator: rows(n, generator, images, z_i, tokens), decoder_loss


def reached(stage, steps, batch_size, folder, seed=0):
    """The loss of the averaged weights on one large batch, always the same."""
    torch.manual_seed(seed)
    model, data, loss = stage()
    recipe = Recipe(steps=steps, batch_size=batch_size, warmup_steps=20, seed=seed)
    for step in fit(model, data, loss, recipe, folder, "test"):
        average = step.average
    generator = torch.Generator().manual_seed(1_000_000)
    with torch.no_grad():
        return loss(average, data(256, generator), generator).item()


STAGES = {
    "clip": (clip_stage, 200, 64, 9.0),
    "prior": (prior_stage, 250, 64, 9.0),
    "decoder": (decoder_stage, 100, 16, 9.0),
}


@pytest.mark.parametrize("name", STAGES)
def test_so_many_steps_still_reach_this_loss(name, tmp_path):
    stage, steps, batch_size, bound = STAGES[name]
    assert reached(stage, steps, batch_size, tmp_path) < bound

