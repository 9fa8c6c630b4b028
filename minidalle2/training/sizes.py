"""How large each world's networks are: 1,200 things in six hands need more than eight shapes do."""

from dataclasses import dataclass, field

from minidalle2.autoregressive_prior import AutoregressivePriorConfig
from minidalle2.clip import CLIPConfig
from minidalle2.decoder import DecoderConfig
from minidalle2.prior import PriorConfig
from minidalle2.regression_prior import RegressionPriorConfig


@dataclass
class Sizes:
    """Vocabulary and networks; what the tokenizer in use has, replaces each `vocab_size`, and what
    CLIP's embeddings need, the autoregressive prior's `components`."""

    vocabulary: int = 512
    clip: CLIPConfig = field(default_factory=CLIPConfig)
    image_tower: tuple[int, ...] = (48, 96, 160, 256)  # widths of the second one
    prior: PriorConfig = field(default_factory=PriorConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    autoregressive_prior: AutoregressivePriorConfig = field(
        default_factory=AutoregressivePriorConfig
    )
    regression_prior: RegressionPriorConfig = field(default_factory=RegressionPriorConfig)


# For scenes it matters what stands where. A transformer's z_i holds it much later than that of
# convolutions, and a decoder learns to read it sooner where it is laid out (docs/speedrun.md).
SHAPES = Sizes(
    clip=CLIPConfig(image_layers=0, image_widths=(48, 96, 192)),
    decoder=DecoderConfig(laid_out=2),
)
EMOJI = Sizes(
    vocabulary=1024,
    clip=CLIPConfig(embedding=192, width=160, heads=5, text_layers=2),
    prior=PriorConfig(clip_embedding=192, width=192, heads=6),
    decoder=DecoderConfig(
        clip_embedding=192,
        patch=1,
        widths=(16, 96, 160, 224),  # few channels where squares would show as a lattice
        blocks=(1, 1, 2, 1),
        attention=(False, False, True, True),
        laid_out=2,
        guided_above=500,  # below, guidance mottles plain fields (docs/emoji.md)
        text_width=160,
        text_heads=5,
        text_layers=2,
    ),  # fmt: skip
    autoregressive_prior=AutoregressivePriorConfig(clip_embedding=192, width=192, heads=6),
    regression_prior=RegressionPriorConfig(clip_embedding=192),
)


def sizes_of(world_name: str) -> Sizes:
    return {"shapes": SHAPES, "emoji": EMOJI}.get(world_name, Sizes())
