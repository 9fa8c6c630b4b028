"""The networks of the paper in the classes of minidalle2, with the sizes of table 3 and appendix C.

python -m minidalle2.scale.paper

Prints the number of parameters of each network beside the published number. The networks are built
on torch's meta device, where a tensor has a shape but no memory. The parameters that ADM's U-Net
has and minidalle2's U-Net leaves out are counted, too.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import nn

from minidalle2.blocks.embeddings import TextEncoder
from minidalle2.blocks.unet import ContextAttention, ResBlock
from minidalle2.clip import CLIPConfig, ImageTower, TextTower
from minidalle2.decoder import Decoder, DecoderConfig
from minidalle2.prior import Prior, PriorConfig
from minidalle2.priors.autoregressive_prior import AutoregressivePrior, AutoregressivePriorConfig
from minidalle2.upsampler import Upsampler, UpsamplerConfig

VOCABULARY = 49_408  # of the published CLIP's tokenizer; the paper does not give its vocabulary
E = 1024  # dimensions of CLIP's embeddings: "PCA … from 1,024 to 319"
CONTEXT = 256  # tokens of a caption
# CLIPConfig has one width for both towers, the paper has two. So there are two configs.
IMAGE_TOWER = CLIPConfig(
    image_size=256, patch_size=16, embedding=E, width=1280, heads=16, image_layers=32
)
TEXT_TOWER = CLIPConfig(VOCABULARY, CONTEXT, embedding=E, width=1024, heads=16, text_layers=24)
# Table 3 says that the latent decoder has 384 positions. z_t, z_i·z_t and all components but the
# last, which is never an input, need 320 of them. So 64 are left for the caption.
AUTOREGRESSIVE_PRIOR = AutoregressivePriorConfig(
    VOCABULARY, 64, clip_embedding=E, components=319, buckets=1024, width=1664, layers=24, heads=26
)
PRIOR = PriorConfig(VOCABULARY, CONTEXT, clip_embedding=E, width=2048, layers=24, heads=32)
DECODER = DecoderConfig(
    VOCABULARY,
    CONTEXT,
    clip_embedding=E,
    image_size=64,
    patch=1,
    widths=(512, 1024, 1536, 2048),
    blocks=(3, 3, 3, 3),
    attention=(False, True, True, True),
    embedding=2048,
    text_width=2048,
    text_layers=24,
    text_heads=32,
)
UPSAMPLER256 = UpsamplerConfig(
    256, "cosine", widths=(320, 640, 960, 1280), blocks=(3, 3, 3, 3), embedding=1280
)
UPSAMPLER1024 = UpsamplerConfig(
    1024, "linear", widths=(192, 192, 384, 384, 768, 768), blocks=(2,) * 6, embedding=768
)


def autoregressive_text_encoder() -> nn.Module:
    """The text encoder of the paper's autoregressive prior, which minidalle2 leaves out."""
    return TextEncoder(VOCABULARY, CONTEXT, 2048, 24, 32)


def parameters(build: Callable[[], nn.Module]) -> int:
    """The number of parameters of a network. No memory is used for them."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in build().parameters())


def left_out(config: DecoderConfig | UpsamplerConfig) -> int:
    """How many more parameters ADM's U-Net (Dhariwal & Nichol 2021) has at the same widths."""
    widths = config.widths
    more = parameters(lambda: nn.ModuleList(more_blocks(widths, config.embedding)))
    if isinstance(config, DecoderConfig):  # upsamplers have no attention
        more += parameters(lambda: nn.ModuleList(more_attention(config)))
    # minidalle2's U-Net shrinks by a convolution, ADM's by one of the blocks counted above.
    return more - parameters(lambda: nn.ModuleList(nn.Conv2d(w, w, 3) for w in widths[:-1]))


def more_blocks(widths: tuple[int, ...], embedding: int) -> Iterator[nn.Module]:
    """The residual blocks that only ADM's U-Net has.

    These are a second block in the middle; one more block on each level of the way up, which also
    reads the input of this level on the way down; and one block at each change of size.
    """
    yield ResBlock(widths[-1], widths[-1], embedding)
    for entered, width in zip((widths[0], *widths), widths, strict=False):
        yield ResBlock(width + entered, width, embedding)
    for width in (*widths[:-1], *widths[1:]):
        yield ResBlock(width, width, embedding)


def more_attention(config: DecoderConfig) -> Iterator[nn.Module]:
    """The attention layers that only ADM's U-Net has.

    ADM has attention after every block of a level, and one more block on the way up. minidalle2 has
    attention only after the last block of a level, on the way down and on the way up.
    """
    for width, blocks, attends in zip(config.widths, config.blocks, config.attention, strict=True):
        for _ in range(attends * (blocks + blocks + 1 - 2)):
            yield ContextAttention(width, config.text_width, 64)


@dataclass
class Network:
    """A network of the paper."""

    name: str
    published: float | None  # number of parameters; table 3 rounds it to one or two digits
    build: Callable[[], nn.Module]  # builds it with the classes of minidalle2
    why: str  # the reason for a difference between the two numbers of parameters
    left_out: Callable[[], int] = lambda: 0  # number of parameters that minidalle2 leaves out


PLAINER = "our U-Net is plainer than ADM's; the parameters that it leaves out are the difference"
NETWORKS = (
    Network(
        "CLIP, image tower (ViT-H/16)",
        0.632e9,
        lambda: ImageTower(IMAGE_TOWER),
        "the published number is that of ViT-H (Dosovitskiy et al. 2021, table 1)",
    ),
    Network("CLIP, text tower", None, lambda: TextTower(TEXT_TOWER), "not published"),
    Network(
        "autoregressive prior",
        1e9,
        lambda: AutoregressivePrior(AUTOREGRESSIVE_PRIOR),
        "table 3 is rounded: 24 blocks of width 1,664 have 0.8 B, the token embeddings 0.1 B",
    ),
    Network(
        "autoregressive prior, text encoder",
        None,
        autoregressive_text_encoder,
        "our prior has none; with it, the prior would have 2.2 B, but table 3 says 1 B",
    ),
    Network(
        "diffusion prior",
        1e9,
        lambda: Prior(PRIOR),
        "table 3 is rounded: 24 blocks of width 2,048 have 1.2 B, the token embeddings 0.1 B",
    ),
    Network("decoder", 3.5e9, lambda: Decoder(DECODER), PLAINER, lambda: left_out(DECODER)),
    Network(
        "upsampler 64 to 256",
        0.7e9,
        lambda: Upsampler(UPSAMPLER256),
        PLAINER,
        lambda: left_out(UPSAMPLER256),
    ),
    Network(
        "upsampler 256 to 1024",
        0.3e9,
        lambda: Upsampler(UPSAMPLER1024),
        PLAINER,
        lambda: left_out(UPSAMPLER1024),
    ),
)


def table() -> list[dict]:
    """A row {name, published, ours, left_out, why} for each network, in numbers of parameters."""
    return [
        {
            "name": network.name,
            "published": network.published,
            "ours": parameters(network.build),
            "left_out": network.left_out(),
            "why": network.why,
        }
        for network in NETWORKS
    ]


if __name__ == "__main__":
    print(f"{'network':36}  published  ours and left out  why")
    for row in table():
        published = f"{row['published'] / 1e9:.2f} B" if row["published"] else ""
        counts = f"{row['ours'] / 1e9:.2f} + {row['left_out'] / 1e9:.2f} B"
        print(f"{row['name']:36}  {published:>9}  {counts:>17}  {row['why']}")
