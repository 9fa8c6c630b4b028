"""OpenAI's published CLIP (Radford et al. 2021), and open_clip models of the same architecture.

(B, T) tokens → z_t (B, E);  (B, 3, S, S) images in [-1, 1] → z_i (B, E). The image tower is a
vision transformer with a layer norm before its blocks. The text tower is a causal transformer, read
at the end token. The modules have OpenAI's names, which open_clip uses, too. Therefore a published
state dict fits without renaming.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from minidalle2.blocks.attention import attend
from minidalle2.blocks.transformer import causal_mask

OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass
class OpenAICLIPConfig:
    """The sizes of a CLIP. The defaults are those of ViT-B/32, the smallest published CLIP."""

    embedding: int = 512  # E
    image_size: int = 224
    patch_size: int = 32
    image_width: int = 768
    image_layers: int = 12
    image_heads: int = 12
    image_hidden: int = 3072  # width of the hidden layer of each block
    vocab_size: int = 49408
    context_length: int = 77
    text_width: int = 512
    text_layers: int = 12
    text_heads: int = 8
    text_hidden: int = 2048
    quick_gelu: bool = True  # a sigmoid approximation of GELU; most open_clip models use GELU
    mean: tuple[float, ...] = OPENAI_MEAN  # is subtracted from the colours in [0, 1]
    std: tuple[float, ...] = OPENAI_STD  # the colours are divided by it
    interpolation: str = "bicubic"  # of pictures of other sizes; or "bilinear"


class Attention(nn.Module):
    """Self-attention (B, T, D) → (B, T, D). Its weights have the names of nn.MultiheadAttention."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.randn(3 * width, width) * width**-0.5)
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        qkv = F.linear(x, self.in_proj_weight, self.in_proj_bias)
        q, k, v = rearrange(qkv, "b t (n h d) -> n b h t d", n=3, h=self.heads)
        return self.out_proj(rearrange(attend(q, k, v, mask), "b h t d -> b t (h d)"))


class Block(nn.Module):
    """A transformer block (B, T, D) → (B, T, D)."""

    def __init__(self, width: int, heads: int, hidden: int, quick_gelu: bool):
        super().__init__()
        self.ln_1 = nn.LayerNorm(width)
        self.attn = Attention(width, heads)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = nn.ModuleDict(
            {"c_fc": nn.Linear(width, hidden), "c_proj": nn.Linear(hidden, width)}
        )
        self.gelu = quick_gelu_of if quick_gelu else F.gelu

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        x = x + self.attn(self.ln_1(x), mask)
        return x + self.mlp["c_proj"](self.gelu(self.mlp["c_fc"](self.ln_2(x))))


def quick_gelu_of(x: Tensor) -> Tensor:
    return x * torch.sigmoid(1.702 * x)


class Blocks(nn.Module):
    """A sequence of transformer blocks (B, T, D) → (B, T, D)."""

    def __init__(self, width: int, layers: int, heads: int, hidden: int, quick_gelu: bool):
        super().__init__()
        self.resblocks = nn.ModuleList(
            Block(width, heads, hidden, quick_gelu) for _ in range(layers)
        )

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        for block in self.resblocks:
            x = block(x, mask)
        return x


class ImageTower(nn.Module):
    """A vision transformer: normalised colours (B, 3, S, S) → (B, E), not of unit length."""

    def __init__(self, config: OpenAICLIPConfig):
        super().__init__()
        width, patches = config.image_width, (config.image_size // config.patch_size) ** 2
        self.conv1 = nn.Conv2d(3, width, config.patch_size, config.patch_size, bias=False)
        self.class_embedding = nn.Parameter(torch.randn(width) * width**-0.5)
        self.positional_embedding = nn.Parameter(torch.randn(1 + patches, width) * width**-0.5)
        self.ln_pre = nn.LayerNorm(width)
        sizes = (config.image_layers, config.image_heads, config.image_hidden)
        self.transformer = Blocks(width, *sizes, config.quick_gelu)
        self.ln_post = nn.LayerNorm(width)
        self.proj = nn.Parameter(torch.randn(width, config.embedding) * width**-0.5)

    def forward(self, images: Tensor) -> Tensor:
        x = rearrange(self.conv1(images), "b d h w -> b (h w) d")
        x = torch.cat((self.class_embedding.expand(len(x), 1, -1), x), dim=1)
        x = self.transformer(self.ln_pre(x + self.positional_embedding))
        return self.ln_post(x[:, 0]) @ self.proj


class OpenAICLIP(nn.Module):
    """Both towers. As in OpenAI's state dict, the modules of the text tower have no prefix."""

    def __init__(self, config: OpenAICLIPConfig):
        super().__init__()
        self.config = config
        width = config.text_width
        self.visual = ImageTower(config)
        self.token_embedding = nn.Embedding(config.vocab_size, width)
        self.positional_embedding = nn.Parameter(torch.randn(config.context_length, width) * 0.01)
        sizes = (config.text_layers, config.text_heads, config.text_hidden)
        self.transformer = Blocks(width, *sizes, config.quick_gelu)
        self.ln_final = nn.LayerNorm(width)
        self.text_projection = nn.Parameter(torch.randn(width, config.embedding) * width**-0.5)
        self.logit_scale = nn.Parameter(torch.tensor(1 / 0.07).log())

    def text_features(self, tokens: Tensor) -> Tensor:
        """(B, T) → (B, T, D): the text tower's features of each token, before the projection."""
        x = self.token_embedding(tokens) + self.positional_embedding[: tokens.shape[1]]
        return self.ln_final(self.transformer(x, causal_mask(tokens.shape[1], tokens.device)))

    def encode_text(self, tokens: Tensor) -> Tensor:
        """(B, T) → z_t (B, E), unit length. The end token is the token with the largest id."""
        x = self.text_features(tokens)
        at_end = x[torch.arange(len(x), device=x.device), tokens.argmax(1)]
        return F.normalize(at_end @ self.text_projection, dim=-1)

    def encode_image(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) in [-1, 1], for any S → z_i (B, E), unit length.

        OpenAI's code does not normalise embeddings. They are normalised here, because decoders that
        were trained on unit vectors draw noise from other vectors.
        """
        size = self.config.image_size
        colours = (images + 1) / 2
        if images.shape[-1] != size:
            mode = self.config.interpolation
            colours = F.interpolate(colours, size=(size, size), mode=mode, antialias=True)
            colours = colours.clamp(0, 1)
        mean, std = (
            torch.tensor(values, device=images.device)[:, None, None]
            for values in (self.config.mean, self.config.std)
        )
        return F.normalize(self.visual((colours - mean) / std), dim=-1)
