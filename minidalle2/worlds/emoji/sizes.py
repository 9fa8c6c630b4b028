"""The sizes of the networks and the recipes of the emoji world.

1,200 names in six styles need larger networks than the scenes of the shapes world.
"""

from minidalle2.clip import CLIPConfig
from minidalle2.decoder import DecoderConfig
from minidalle2.prior import PriorConfig
from minidalle2.priors.autoregressive_prior import AutoregressivePriorConfig
from minidalle2.training.recipe import Recipe
from minidalle2.training.world import Sizes

SIZES = Sizes(
    vocabulary=1024,
    clip=CLIPConfig(embedding=192, width=160, heads=5, text_layers=2),
    decoder=DecoderConfig(
        clip_embedding=192,
        patch=1,  # larger patches would be visible as a grid
        widths=(16, 96, 160, 224),
        blocks=(1, 1, 2, 1),
        attention=(False, False, True, True),
        laid_out=2,
        text_width=160,
        text_heads=5,
        text_layers=2,
    ),
    priors={
        "prior": PriorConfig(clip_embedding=192, width=192, heads=6),
        "autoregressive_prior": AutoregressivePriorConfig(clip_embedding=192, width=192, heads=6),
    },
)
# The drawings differ more than the scenes of the shapes world, so `full` trains on more pictures.
RECIPES = {
    "full": {
        "clip": Recipe(steps=9_326, batch_size=256, learning_rate=3e-3, weight_decay=0.1),
        "prior": Recipe(steps=2_787, batch_size=512),
        "decoder": Recipe(steps=7_217, batch_size=384),
        "judge": Recipe(steps=9_044, batch_size=128, learning_rate=2e-3, weight_decay=0.05),
        "image_tower": Recipe(steps=2_900, batch_size=256, learning_rate=3e-3, weight_decay=0.1),
    }
}
