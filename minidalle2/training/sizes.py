"""How large each world's networks are: 1,200 things in six hands need more than eight shapes do."""

from dataclasses import dataclass, field

from minidalle2.clip import CLIPConfig
from minidalle2.decoder import DecoderConfig
from minidalle2.prior import PriorConfig


@dataclass
class Sizes:
    """Vocabulary and networks; what the tokenizer in use has, replaces each `vocab_size`."""

    vocabulary: int = 512
    clip: CLIPConfig = field(default_factory=CLIPConfig)
    prior: PriorConfig = field(default_factory=PriorConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)


EMOJI = Sizes(
    vocabulary=1024,
    clip=CLIPConfig(embedding=192, width=160, heads=5, text_layers=2),
    prior=PriorConfig(clip_embedding=192, width=192, heads=6),
    decoder=DecoderConfig(
        clip_embedding=192,
        widths=(32, 64, 128, 192),
        blocks=(1, 1, 2, 1),
        text_width=160,
        text_heads=5,
        text_layers=2,
    ),  # fmt: skip
)


def sizes_of(world_name: str) -> Sizes:
    return EMOJI if world_name == "emoji" else Sizes()
