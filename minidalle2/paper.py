"""The paper's own networks in our classes: table 3 and appendix C, sizes and all.

python -m minidalle2.paper

They are built on torch's meta device, where a tensor has a shape but no memory, and parameters are
counted beside the published numbers. What our U-Net leaves out of ADM's is counted, too.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import nn

from minidalle2.autoregressive_prior import AutoregressivePrior, AutoregressivePriorConfig
from minidalle2.blocks.embeddings import TextEncoder
from minidalle2.blocks.unet import ContextAttention, ResBlock
from minidalle2.clip import CLIPConfig, ImageTower, TextTower
from minidalle2.decoder import Decoder, DecoderConfig
from minidalle2.prior import Prior, PriorConfig
from minidalle2.upsampler import Upsampler, UpsamplerConfig

VOCABULARY = 49_408  # of CLIP's tokenizer; the paper does not name its own
E = 1024  # of CLIP's embedding: "PCA … from 1,024 to 319"
CONTEXT = 256  # tokens of a caption
# Ours has one width for both towers of CLIP, the paper's two.
IMAGE_TOWER = CLIPConfig(
    image_size=256, patch_size=16, embedding=E, width=1280, heads=16, image_layers=32
)
TEXT_TOWER = CLIPConfig(
    VOCABULARY, CONTEXT, embedding=E, width=1024, heads=16, text_layers=24
)  # fmt: skip
# Table 3 gives its latent decoder 384 positions. z_t, z_i·z_t and all components but the last,
# which is only said, take 320 of them, so 64 are left for the caption.
AUTOREGRESSIVE_PRIOR = AutoregressivePriorConfig(
    VOCABULARY, 64, clip_embedding=E, components=319, buckets=1024, width=1664, layers=24, heads=26
)
PRIOR = PriorConfig(VOCABULARY, CONTEXT, clip_embedding=E, width=2048, layers=24, heads=32)
DECODER = DecoderConfig(
    VOCABULARY, CONTEXT, clip_embedding=E, image_size=64, patch=1,
    widths=(512, 1024, 1536, 2048), blocks=(3, 3, 3, 3), attention=(False, True, True, True),
    embedding=2048, text_width=2048, text_layers=24, text_heads=32,
)  # fmt: skip
UPSAMPLER256 = UpsamplerConfig(
    256, "cosine", widths=(320, 640, 960, 1280), blocks=(3, 3, 3, 3), embedding=1280
)
UPSAMPLER1024 = UpsamplerConfig(
    1024, "linear", widths=(192, 192, 384, 384, 768, 768), blocks=(2,) * 6, embedding=768
)


def autoregressive_text_encoder() -> nn.Module:
    return TextEncoder(VOCABULARY, CONTEXT, 2048, 24, 32)


def parameters(build: Callable[[], nn.Module]) -> int:
    """How many numbers a network would hold, without holding one."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in build().parameters())


def left_out(config: DecoderConfig | UpsamplerConfig) -> int:
    """Parameters that ADM's U-Net (Dhariwal & Nichol 2021) has beyond ours of the same widths."""
    widths = config.widths
    more = parameters(lambda: nn.ModuleList(more_blocks(widths, config.embedding)))
    if isinstance(config, DecoderConfig):  # upsamplers attend nowhere
        more += parameters(lambda: nn.ModuleList(more_attention(config)))
    # Where ours shrinks by a convolution, ADM's has one of these blocks instead.
    return more - parameters(lambda: nn.ModuleList(nn.Conv2d(w, w, 3) for w in widths[:-1]))


def more_blocks(widths: tuple[int, ...], embedding: int) -> Iterator[nn.Module]:
    """A second block in the middle; on each level of the way up a further one, which also reads
    what entered the level on the way down; and one at each change of size, down and up."""
    yield ResBlock(widths[-1], widths[-1], embedding)
    for entered, width in zip((widths[0], *widths), widths, strict=False):
        yield ResBlock(width + entered, width, embedding)
    for width in (*widths[:-1], *widths[1:]):
        yield ResBlock(width, width, embedding)


def more_attention(config: DecoderConfig) -> Iterator[nn.Module]:
    """Attention after every block of a level, of which the way up has one more; ours is after the
    last of each way only."""
    for width, blocks, attends in zip(config.widths, config.blocks, config.attention, strict=True):
        for _ in range(attends * (blocks + blocks + 1 - 2)):
            yield ContextAttention(width, config.text_width, 64)


@dataclass
class Network:
    """A network of the paper: what was published of it, and how it is built of our classes."""

    name: str
    published: float | None  # parameters; table 3 rounds them to one or two digits
    build: Callable[[], nn.Module]
    why: str  # ours has not quite as many
    left_out: Callable[[], int] = lambda: 0  # parameters of what the paper's has and ours has not


PLAINER = "our U-Net is plainer than ADM's; what it leaves out makes up for it"
NETWORKS = (
    Network(
        "CLIP, image tower (ViT-H/16)", 0.632e9, lambda: ImageTower(IMAGE_TOWER),
        "the number is ViT-H's (Dosovitskiy et al. 2021, table 1)",
    ),
    Network("CLIP, text tower", None, lambda: TextTower(TEXT_TOWER), "not published"),
    Network(
        "autoregressive prior", 1e9, lambda: AutoregressivePrior(AUTOREGRESSIVE_PRIOR),
        "table 3 rounds: 24 blocks of width 1,664 have 0.8 B, the tokens 0.1 B",
    ),
    Network(
        "autoregressive prior, text encoder", None, autoregressive_text_encoder,
        "ours has none; counted with it, the prior would have 2.2 B, not table 3's 1B",
    ),
    Network(
        "diffusion prior", 1e9, lambda: Prior(PRIOR),
        "table 3 rounds: 24 blocks of width 2,048 have 1.2 B, the tokens 0.1 B",
    ),
    Network("decoder", 3.5e9, lambda: Decoder(DECODER), PLAINER, lambda: left_out(DECODER)),
    Network(
        "upsampler 64 to 256", 0.7e9, lambda: Upsampler(UPSAMPLER256), PLAINER,
        lambda: left_out(UPSAMPLER256),
    ),
    Network(
        "upsampler 256 to 1024", 0.3e9, lambda: Upsampler(UPSAMPLER1024), PLAINER,
        lambda: left_out(UPSAMPLER1024),
    ),
)  # fmt: skip


def table() -> list[dict]:
    """→ {name, published, ours, left_out, why} of each of NETWORKS, in parameters."""
    return [
        {
            "name": network.name, "published": network.published,
            "ours": parameters(network.build), "left_out": network.left_out(), "why": network.why,
        }
        for network in NETWORKS
    ]  # fmt: skip


if __name__ == "__main__":
    print(f"{'network':36}  published  ours and left out  why")
    for row in table():
        published = f"{row['published'] / 1e9:.2f} B" if row["published"] else ""
        counts = f"{row['ours'] / 1e9:.2f} + {row['left_out'] / 1e9:.2f} B"
        print(f"{row['name']:36}  {published:>9}  {counts:>17}  {row['why']}")
