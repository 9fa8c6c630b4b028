"""Tokens → text embedding and image → image embedding, in one space: CLIP.

(B, T) tokens → z_t (B, E);  (B, 3, 32, 32) images → z_i (B, E).
Paper: section 2 and appendix C (ViT image tower, causal text tower); Radford et al. 2021.
The paper's sharpness-aware minimisation is in training/sharpness.py; `train clip` goes without it.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minidalle2.blocks.embeddings import TextEncoder, patchify
from minidalle2.blocks.transformer import Transformer
from minidalle2.convolutional_tower import ConvolutionalTower, PlacedTower
from minidalle2.tokenizer import END

MAX_LOG_SCALE = math.log(100)


@dataclass
class CLIPConfig:
    vocab_size: int = 512
    context_length: int = 64  # most tokens of a text
    image_size: int = 32
    patch_size: int = 4
    embedding: int = 128  # E, shared by both towers
    width: int = 128
    heads: int = 4
    image_layers: int = 6  # of the transformer; 0 for convolutions in its place
    text_layers: int = 3
    image_widths: tuple[int, ...] = ()  # of an image tower of convolutions; () for none

    @property
    def patch_width(self) -> int:
        """D, features of each patch."""
        return self.width if self.image_layers else self.image_widths[1]


class ImageTower(nn.Module):
    """A vision transformer (Dosovitskiy et al. 2021): (B, 3, H, W) → (B, E), not normalised."""

    def __init__(self, config: CLIPConfig):
        super().__init__()
        self.patchify = patchify(config.patch_size)
        patches = (config.image_size // config.patch_size) ** 2
        self.patch_embedding = nn.Linear(3 * config.patch_size**2, config.width)
        self.class_token = nn.Parameter(torch.randn(config.width) * 0.02)
        self.position = nn.Parameter(torch.empty(1 + patches, config.width))
        nn.init.normal_(self.position, std=0.02)
        self.transformer = Transformer(config.width, config.image_layers, config.heads)
        self.projection = nn.Linear(config.width, config.embedding, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        return self.projection(self.features(images)[:, 0])  # (B, E)

    def with_patches(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """→ the embedding (B, E), not normalised, and the features of the patches (B, N, D)."""
        features = self.features(images)
        return self.projection(features[:, 0]), features[:, 1:]

    def features(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) → (B, 1+N, D): what the class token and each patch ended as."""
        x = self.patch_embedding(self.patchify(images))  # (B, N, D)
        x = torch.cat((self.class_token.to(x.dtype).expand(len(x), 1, -1), x), dim=1)
        return self.transformer(x + self.position)


class TextTower(nn.Module):
    """A causal transformer read at the end-of-text token: (B, T) → (B, E), not normalised."""

    def __init__(self, config: CLIPConfig):
        super().__init__()
        self.encoder = TextEncoder(
            config.vocab_size, config.context_length, config.width, config.text_layers, config.heads
        )
        self.projection = nn.Linear(config.width, config.embedding, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.encoder(tokens)  # (B, T, D)
        end = (tokens == END).int().argmax(1)  # (B,) position of the first end token
        return self.projection(x[torch.arange(len(x), device=x.device), end])  # (B, E)


class TwoTowers(nn.Module):
    """The average of what two image towers say, which were trained apart and err apart."""

    def __init__(self, config: CLIPConfig):
        super().__init__()
        self.first = ImageTower(config)
        self.second = ConvolutionalTower(config.image_widths, config.embedding)

    def forward(self, images: Tensor) -> Tensor:
        return self.with_patches(images)[0]

    def with_patches(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """→ the embedding (B, E), not normalised, and the first tower's patches (B, N, D)."""
        first, patches = self.first.with_patches(images)
        both = (F.normalize(z.float(), dim=-1) for z in (first, self.second(images)))
        return sum(both) / 2, patches


def image_tower_of(config: CLIPConfig) -> ImageTower | TwoTowers | PlacedTower:
    if not (config.image_layers or config.image_widths):
        raise ValueError("CLIP has no image tower: give image_layers, image_widths or both")
    if not config.image_widths:
        return ImageTower(config)
    if not config.image_layers:
        return PlacedTower(config.image_widths, config.embedding)
    return TwoTowers(config)


class CLIP(nn.Module):
    """Both towers and the temperature, kept as the logarithm of the logits' scale."""

    def __init__(self, config: CLIPConfig):
        super().__init__()
        self.config = config
        self.image_tower = image_tower_of(config)
        self.text_tower = TextTower(config)
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def encode_image(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1] → z_i (B, E), unit length."""
        return F.normalize(self.image_tower(images).float(), dim=-1)

    def encode_patches(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, H, W) in [-1, 1] → z_i (B, E), unit length, and features of patches (B, N, D)."""
        embedding, patches = self.image_tower.with_patches(images)
        return F.normalize(embedding.float(), dim=-1), patches.float()

    def encode_text(self, tokens: Tensor) -> Tensor:
        """(B, T) → z_t (B, E), unit length."""
        return F.normalize(self.text_tower(tokens).float(), dim=-1)

    def forward(self, images: Tensor, tokens: Tensor) -> Tensor:
        """→ (B, B) logits, images down, texts across."""
        return self.logits(self.encode_image(images), self.encode_text(tokens))

    def logits(self, z_i: Tensor, z_t: Tensor) -> Tensor:
        """z_i (B, E), z_t (C, E) → (B, C) cosines, scaled."""
        scale = self.log_scale.exp()
        # bfloat16 would round a cosine to 1/256, and the scale makes a hundred times that of it.
        with torch.autocast(z_i.device.type, enabled=False):
            return scale * z_i @ z_t.T


def info_nce(logits: Tensor, same_caption: Tensor | None = None) -> Tensor:
    """Radford et al. 2021, figure 3: each image must find its text and each text its image.

    `same_caption` (B, B) is True where two rows have equal captions: such a pair is no negative.
    """
    if same_caption is not None:
        other = same_caption & ~torch.eye(len(logits), dtype=torch.bool, device=logits.device)
        logits = logits.masked_fill(other, float("-inf"))
    target = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def clip_loss(clip: CLIP, batch: tuple[Tensor, Tensor], generator: torch.Generator) -> Tensor:
    """InfoNCE of a batch of (images (B, 3, H, W), tokens (B, T))."""
    images, tokens = batch
    return contrast(clip, clip.encode_image(images), clip.encode_text(tokens), tokens)


def contrast(clip: CLIP, z_i: Tensor, z_t: Tensor, tokens: Tensor) -> Tensor:
    """InfoNCE of embeddings (B, E) of pairs with captions tokens (B, T)."""
    with torch.no_grad():  # the parameter, not its use: a clamped use would have no gradient back
        clip.log_scale.clamp_(max=MAX_LOG_SCALE)
    same_caption = (tokens[:, None] == tokens).all(-1)
    return info_nce(clip.logits(z_i, z_t), same_caption)
