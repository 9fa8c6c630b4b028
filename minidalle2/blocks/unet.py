"""A U-Net of residual blocks with optional attention, after ADM (Dhariwal & Nichol 2021).

(B, C, H, W) image and (B, D) embedding → (B, C', H, W). The decoder and both upsamplers are one. To
run on a laptop it works on 2x2 patches: one level of the picture's resolution less.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from minidalle2.blocks.attention import attend


@dataclass
class UNetConfig:
    channels_in: int
    channels_out: int
    widths: tuple[int, ...]  # channels at each level; the first works on 2x2 patches
    blocks: tuple[int, ...]  # residual blocks at each level, down and up
    attention: bool  # self-attention and attention to a context, at the end of every level
    embedding: int = 256  # D, width of the embedding that carries t (and more)
    context: int = 128  # width of the context tokens
    head_width: int = 64  # channels of an attention head (paper, table 3)


class ResBlock(nn.Module):
    """Two convolutions; the embedding scales and shifts between them (adaptive group norm)."""

    def __init__(self, channels_in: int, channels_out: int, embedding: int):
        super().__init__()
        self.norm1 = nn.GroupNorm(8, channels_in)
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.modulation = nn.Linear(embedding, 2 * channels_out)
        self.norm2 = nn.GroupNorm(8, channels_out)
        self.conv2 = _zero(nn.Conv2d(channels_out, channels_out, 3, padding=1))
        same = channels_in == channels_out
        self.skip = nn.Identity() if same else nn.Conv2d(channels_in, channels_out, 1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        scale, shift = self.modulation(F.silu(embedding))[:, :, None, None].chunk(2, dim=1)
        h = self.norm2(h) * (1 + scale) + shift
        return self.skip(x) + self.conv2(F.silu(h))


class ContextAttention(nn.Module):
    """Every position attends to all positions and to the context tokens at once, as in GLIDE."""

    def __init__(self, channels: int, context: int, head_width: int):
        super().__init__()
        self.heads = max(1, channels // head_width)
        self.norm = nn.GroupNorm(8, channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.context_norm = nn.LayerNorm(context)
        self.context_kv = nn.Linear(context, 2 * channels)
        self.out = _zero(nn.Linear(channels, channels))

    def forward(self, x: Tensor, context: Tensor, mask: Tensor) -> Tensor:
        """x (B, C, H, W), context (B, K, D), mask (B, K) True where a token is real."""
        height = x.shape[2]
        tokens = rearrange(self.norm(x), "b c h w -> b (h w) c")
        q, k, v = rearrange(self.qkv(tokens), "b t (n h d) -> n b h t d", n=3, h=self.heads)
        extra = self.context_kv(self.context_norm(context))
        extra_k, extra_v = rearrange(extra, "b t (n h d) -> n b h t d", n=2, h=self.heads)
        everything = F.pad(mask, (tokens.shape[1], 0), value=True)[:, None, None]  # (B, 1, 1, S)
        keys, values = torch.cat((k, extra_k), dim=2), torch.cat((v, extra_v), dim=2)
        attended = rearrange(attend(q, keys, values, everything), "b h t d -> b t (h d)")
        return x + rearrange(self.out(attended), "b (h w) c -> b c h w", h=height)


class Stage(nn.Module):
    """A residual block, and attention after it where there is one."""

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
    def __init__(self, config: UNetConfig):
        super().__init__()
        widths, attention = config.widths, config.attention
        self.conv_in = nn.Conv2d(4 * config.channels_in, widths[0], 3, padding=1)
        self.down, self.shrink, self.up = (nn.ModuleList() for _ in range(3))
        channels, skips = widths[0], []
        for level, (width, count) in enumerate(zip(widths, config.blocks, strict=True)):
            self.down.append(nn.ModuleList())
            for i in range(count):
                # On the finest level attention costs most; there the way up has it alone.
                at_end = attention and i == count - 1 and level > 0
                self.down[-1].append(Stage(channels, width, config, at_end))
                channels = width
                skips.append(channels)
            if level < len(widths) - 1:
                self.shrink.append(nn.Conv2d(channels, channels, 3, stride=2, padding=1))
        self.middle = nn.ModuleList(
            (Stage(channels, channels, config, attention), Stage(channels, channels, config, False))
        )
        for width, count in reversed(list(zip(widths, config.blocks, strict=True))):
            self.up.append(nn.ModuleList())
            for i in range(count):
                at_end = attention and i == count - 1
                self.up[-1].append(Stage(channels + skips.pop(), width, config, at_end))
                channels = width
        self.norm_out = nn.GroupNorm(8, channels)
        self.conv_out = _zero(nn.Conv2d(channels, 4 * config.channels_out, 3, padding=1))

    def forward(
        self,
        x: Tensor,
        embedding: Tensor,
        context: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """x (B, C, H, W), embedding (B, D), context (B, K, D'), mask (B, K) → (B, C', H, W)."""
        condition = (embedding, context, mask)
        x = self.conv_in(F.pixel_unshuffle(x, 2).contiguous(memory_format=torch.channels_last))
        skips = []
        for level, stages in enumerate(self.down):
            for stage in stages:
                x = stage(x, *condition)
                skips.append(x)
            if level < len(self.shrink):
                x = self.shrink[level](x)
        for stage in self.middle:
            x = stage(x, *condition)
        for level, stages in enumerate(self.up):
            for stage in stages:
                x = stage(torch.cat((x, skips.pop()), dim=1), *condition)
            if level < len(self.shrink):
                x = F.interpolate(x, scale_factor=2)
        return F.pixel_shuffle(self.conv_out(F.silu(self.norm_out(x))), 2).float()


def _zero(layer: nn.Module) -> nn.Module:
    """Zero-initialised: each residual branch, and the whole network, starts silent."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
