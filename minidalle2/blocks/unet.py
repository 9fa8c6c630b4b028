"""A U-Net of residual blocks with optional attention, after ADM (Dhariwal & Nichol 2021).

(B, C, H, W) image and (B, D) embedding → (B, C', H, W). The decoder and both upsamplers use it.
Letters: B batch, C channels, D width of the embedding, K context tokens, S keys.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from minidalle2.blocks.attention import attend
from minidalle2.blocks.validation import require, require_positive

FEATURES = 8  # output channels of each pixel before the last convolution, if patch > 1
GROUPS = 8  # of every group norm, so all widths are multiples of 8


@dataclass
class UNetConfig:
    channels_in: int
    channels_out: int
    widths: tuple[int, ...]  # channels of each level, from the finest to the coarsest
    blocks: tuple[int, ...]  # residual blocks of each level, on the way down and on the way up
    attention: tuple[bool, ...]  # whether a level ends with attention to itself and to the context
    patch: int = 1  # the finest level sees squares of patch x patch pixels
    embedding: int = 256  # D, width of the embedding that contains t (and more)
    context: int = 128  # width of the context tokens
    head_width: int = 32  # channels of a head; the paper's 64 (table 3) would leave one or two

    def __post_init__(self):
        require_positive(self, "patch embedding context head_width")
        levels = {len(self.widths), len(self.blocks), len(self.attention)}
        require(
            len(levels) == 1 and len(self.widths) >= 1,
            "widths, blocks and attention need one entry for each level of the U-Net, not "
            f"{len(self.widths)}, {len(self.blocks)} and {len(self.attention)}",
        )
        wrong = [width for width in self.widths if width < GROUPS or width % GROUPS]
        require(not wrong, f"U-Net widths must be multiples of {GROUPS}, not {wrong[:1]}")
        pairs = zip(self.widths, self.attention, strict=True)
        wrong = [w for w, attends in pairs if attends and w % max(1, w // self.head_width)]
        require(not wrong, f"{wrong[:1]} channels cannot be divided into attention heads evenly")
        require(min(self.blocks) >= 1, f"each U-Net level needs a block, but blocks={self.blocks}")

    def check_size(self, size: int) -> None:
        """Raises ValueError for pictures of `size` px that this U-Net cannot halve evenly."""
        multiple = self.patch * 2 ** (len(self.widths) - 1)
        require(
            size >= multiple and size % multiple == 0,
            f"a U-Net with {len(self.widths)} levels and patch {self.patch} needs pictures whose "
            f"side is a multiple of {multiple} px, not {size} px",
        )


class ResBlock(nn.Module):
    """(B, C, H, W) → (B, C', H, W): two convolutions and a residual connection.

    The embedding (B, D) scales and shifts the features between them (adaptive group norm).
    """

    def __init__(self, channels_in: int, channels_out: int, embedding: int):
        super().__init__()
        self.norm1 = nn.GroupNorm(GROUPS, channels_in)
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.modulation = nn.Linear(embedding, 2 * channels_out)
        self.norm2 = nn.GroupNorm(GROUPS, channels_out)
        self.conv2 = _zero(nn.Conv2d(channels_out, channels_out, 3, padding=1))
        same = channels_in == channels_out
        self.skip = nn.Identity() if same else nn.Conv2d(channels_in, channels_out, 1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        scale, shift = self.modulation(F.silu(embedding))[:, :, None, None].chunk(2, dim=1)
        h = self.norm2(h) * (1 + scale) + shift
        return self.skip(x) + self.conv2(F.silu(h))


class ContextAttention(nn.Module):
    """Every position attends to all positions and to all context tokens, as in GLIDE."""

    def __init__(self, channels: int, context: int, head_width: int):
        super().__init__()
        self.heads = max(1, channels // head_width)
        self.norm = nn.GroupNorm(GROUPS, channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.context_norm = nn.LayerNorm(context)
        self.context_kv = nn.Linear(context, 2 * channels)
        self.out = _zero(nn.Linear(channels, channels))

    def forward(self, x: Tensor, context: Tensor, mask: Tensor) -> Tensor:
        """x (B, C, H, W), context (B, K, D'), mask (B, K) True where a token is real."""
        height = x.shape[2]
        tokens = rearrange(self.norm(x), "b c h w -> b (h w) c")
        q, k, v = rearrange(self.qkv(tokens), "b t (n h d) -> n b h t d", n=3, h=self.heads)
        extra = self.context_kv(self.context_norm(context))
        extra_k, extra_v = rearrange(extra, "b t (n h d) -> n b h t d", n=2, h=self.heads)
        everything = F.pad(mask, (tokens.shape[1], 0), value=True)[:, None, None]  # (B, 1, 1, S)
        keys, values = torch.cat((k, extra_k), dim=2), torch.cat((v, extra_v), dim=2)
        attended = rearrange(attend(q, keys, values, everything), "b h t d -> b t (h d)")
        return x + rearrange(self.out(attended), "b (h w) c -> b c h w", h=height)


class UNetBlock(nn.Module):
    """A residual block, followed by attention if `attention` is True."""

    def __init__(self, channels_in: int, channels_out: int, config: UNetConfig, attention: bool):
        super().__init__()
        self.block = ResBlock(channels_in, channels_out, config.embedding)
        self.attention = (
            ContextAttention(channels_out, config.context, config.head_width) if attention else None
        )

    def forward(
        self, x: Tensor, embedding: Tensor, context: Tensor | None, mask: Tensor | None
    ) -> Tensor:
        x = self.block(x, embedding)
        return x if self.attention is None else self.attention(x, context, mask)


class UNet(nn.Module):
    """(B, C, H, W) → (B, C', H, W), conditioned on an embedding and on context tokens."""

    def __init__(self, config: UNetConfig):
        super().__init__()
        self.patch = config.patch
        levels = list(zip(config.widths, config.blocks, config.attention, strict=True))
        channels, skips = config.widths[0], []
        self.conv_in = nn.Conv2d(config.patch**2 * config.channels_in, channels, 3, padding=1)
        self.down, self.shrink, self.up = (nn.ModuleList() for _ in range(3))
        for level, (width, count, attention) in enumerate(levels):
            if level > 0:
                self.shrink.append(nn.Conv2d(channels, channels, 3, stride=2, padding=1))
            self.down.append(nn.ModuleList())
            for i in range(count):
                at_end = attention and i == count - 1
                self.down[-1].append(UNetBlock(channels, width, config, at_end))
                channels = width
                skips.append(channels)
        self.middle = UNetBlock(channels, channels, config, config.attention[-1])
        for width, count, attention in reversed(levels):
            self.up.append(nn.ModuleList())
            for i in range(count):
                at_end = attention and i == count - 1
                self.up[-1].append(UNetBlock(channels + skips.pop(), width, config, at_end))
                channels = width
        self.norm_out = nn.GroupNorm(GROUPS, channels)
        features = config.channels_out if config.patch == 1 else FEATURES
        self.conv_out = _zero(nn.Conv2d(channels, config.patch**2 * features, 3, padding=1))
        # With patches, a last convolution crosses their borders, so that no borders are visible.
        self.detail = nn.Identity()
        if config.patch > 1:
            self.detail = nn.Conv2d(FEATURES, config.channels_out, 3, padding=1, bias=False)

    def forward(
        self,
        x: Tensor,
        embedding: Tensor,
        context: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """x (B, C, H, W), embedding (B, D), context (B, K, D'), mask (B, K) → (B, C', H, W)."""
        condition = (embedding, context, mask)
        x = F.pixel_unshuffle(x, self.patch).contiguous(memory_format=torch.channels_last)
        x = self.conv_in(x)
        skips = []
        for level, blocks in enumerate(self.down):
            if level > 0:
                x = self.shrink[level - 1](x)
            for block in blocks:
                x = block(x, *condition)
                skips.append(x)
        x = self.middle(x, *condition)
        for level, blocks in enumerate(self.up):
            for block in blocks:
                x = block(torch.cat((x, skips.pop()), dim=1), *condition)
            if level < len(self.shrink):
                x = F.interpolate(x, scale_factor=2)
        x = F.pixel_shuffle(self.conv_out(F.silu(self.norm_out(x))), self.patch)
        return self.detail(x).float()


def _zero(layer: nn.Module) -> nn.Module:
    """Sets weights to zero, so that at first a residual branch or the whole network outputs 0."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
