"""CLIP: tokens → text embedding and image → image embedding, in one space.

(B, T) tokens → z_t (B, E);  (B, 3, 32, 32) images → z_i (B, E).
Paper: section 2 and appendix C (ViT image tower, causal text tower); Radford et al. 2021.
Left out: the paper's sharpness-aware minimisation, which training/sharpness.py implements.
Letters: B batch, T tokens, D width, E embedding, N patches.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minidalle2.blocks.convolutional_towers import ImageFeatures, LayoutTower, StyleTower
from minidalle2.blocks.embeddings import TextEncoder, patchify
from minidalle2.blocks.transformer import Transformer
from minidalle2.blocks.validation import require, require_positive
from minidalle2.tokenizer import END

MAX_LOG_SCALE = math.log(100)
CONVOLUTIONAL_SIZE = 32  # px, the only size that convolutional image towers read


@dataclass
class CLIPConfig:
    """The image tower is a LayoutTower, or a vision transformer with or without a StyleTower."""

    vocab_size: int = 512
    context_length: int = 64  # most tokens of a text
    image_size: int = 32
    patch_size: int = 4  # of the transformer
    embedding: int = 128  # E, shared by both towers
    width: int = 128  # D, of the transformers
    heads: int = 4
    image_layers: int = 6  # of the transformer; 0 for a LayoutTower
    text_layers: int = 3
    layout_widths: tuple[int, ...] = ()  # channels of a LayoutTower at 16, 8 and 4 px
    style_widths: tuple[int, ...] = ()  # channels of a StyleTower at 32, 16, 8 and 4 px

    def __post_init__(self):
        require_positive(
            self, "vocab_size context_length embedding width heads image_size patch_size"
        )
        require(
            (self.image_layers > 0) != bool(self.layout_widths),
            "CLIP needs exactly one of image_layers (a vision transformer) and layout_widths (a "
            f"LayoutTower), but has {self.image_layers} and {self.layout_widths}",
        )
        require(
            not (self.style_widths and self.layout_widths),
            "style_widths (a second image tower) need image_layers, not layout_widths",
        )
        require(
            self.image_size % self.patch_size == 0,
            f"patches of {self.patch_size} px do not divide pictures of {self.image_size} px",
        )
        convolutional = bool(self.layout_widths or self.style_widths)
        require(
            not convolutional or self.image_size == CONVOLUTIONAL_SIZE,
            f"convolutional image towers read {CONVOLUTIONAL_SIZE} px, not {self.image_size} px",
        )


class ImageTower(nn.Module):
    """A vision transformer (Dosovitskiy et al. 2021): (B, 3, H, W) → (B, E), not normalised."""

    def __init__(self, config: CLIPConfig):
        super().__init__()
        self.pooled_width = self.patch_width = config.width
        self.patchify = patchify(config.patch_size)
        patches = (config.image_size // config.patch_size) ** 2
        self.patch_embedding = nn.Linear(3 * config.patch_size**2, config.width)
        self.class_token = nn.Parameter(torch.randn(config.width) * 0.02)
        self.position = nn.Parameter(torch.empty(1 + patches, config.width))
        nn.init.normal_(self.position, std=0.02)
        self.transformer = Transformer(config.width, config.image_layers, config.heads)
        self.projection = nn.Linear(config.width, config.embedding, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        return self.features(images).embedding

    def features(self, images: Tensor) -> ImageFeatures:
        """The class token is the pooled feature; the other tokens are the patches (B, N, D)."""
        x = self.patch_embedding(self.patchify(images))  # (B, N, D)
        x = torch.cat((self.class_token.to(x.dtype).expand(len(x), 1, -1), x), dim=1)
        x = self.transformer(x + self.position)  # (B, 1+N, D)
        return ImageFeatures(self.projection(x[:, 0]), x[:, 0], x[:, 1:])


class ImageEnsemble(nn.Module):
    """Averages the embeddings of two image towers, which were trained separately.

    The two towers make different errors, so their average is better than either of them.
    """

    def __init__(self, config: CLIPConfig):
        super().__init__()
        self.first = ImageTower(config)
        self.second = StyleTower(config.style_widths, config.embedding)
        self.pooled_width, self.patch_width = 2 * config.embedding, config.width

    def forward(self, images: Tensor) -> Tensor:
        return self.features(images).embedding

    def features(self, images: Tensor) -> ImageFeatures:
        """The pooled features are both embeddings; the patches are those of the transformer."""
        first = self.first.features(images)
        both = [F.normalize(z.float(), dim=-1) for z in (first.embedding, self.second(images))]
        return ImageFeatures(sum(both) / 2, torch.cat(both, dim=1), first.patches)


class TextTower(nn.Module):
    """A causal transformer, read at the end-of-text token: (B, T) → (B, E), not normalised."""

    def __init__(self, config: CLIPConfig):
        super().__init__()
        self.encoder = TextEncoder(
            config.vocab_size, config.context_length, config.width, config.text_layers, config.heads
        )
        self.projection = nn.Linear(config.width, config.embedding, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.projection(at_end(self.encoder(tokens), tokens))


def image_tower(config: CLIPConfig) -> ImageTower | ImageEnsemble | LayoutTower:
    """The image tower that a config describes."""
    if config.layout_widths:
        return LayoutTower(config.layout_widths, config.embedding)
    return ImageEnsemble(config) if config.style_widths else ImageTower(config)


class CLIP(nn.Module):
    """Both towers, and the logarithm of the scale of the logits (the inverse temperature)."""

    def __init__(self, config: CLIPConfig):
        super().__init__()
        self.config = config
        self.image_tower = image_tower(config)
        self.text_tower = TextTower(config)
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def encode_image(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1] → z_i (B, E), unit length."""
        return F.normalize(self.image_tower(images).float(), dim=-1)

    def encode_patches(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, H, W) in [-1, 1] → z_i (B, E), unit length, and patch features (B, N, D)."""
        features = self.image_tower.features(images)
        return F.normalize(features.embedding.float(), dim=-1), features.patches.float()

    def encode_text(self, tokens: Tensor) -> Tensor:
        """(B, T) → z_t (B, E), unit length."""
        return F.normalize(self.text_tower(tokens).float(), dim=-1)

    def forward(self, images: Tensor, tokens: Tensor) -> Tensor:
        """→ (B, B) logits: a row for each image, a column for each text."""
        return self.logits(self.encode_image(images), self.encode_text(tokens))

    def logits(self, z_i: Tensor, z_t: Tensor) -> Tensor:
        """z_i (B, E), z_t (C, E) → (B, C) scaled cosines."""
        scale = self.log_scale.exp()
        with torch.autocast(z_i.device.type, enabled=False):  # as in `cosines`
            return scale * z_i @ z_t.T


def at_end(features: Tensor, tokens: Tensor) -> Tensor:
    """(B, T, D), (B, T) → (B, D): the features at the first end token, where a text is read."""
    end = (tokens == END).int().argmax(1)
    return features[torch.arange(len(tokens), device=tokens.device), end]


def equal_captions(tokens: Tensor) -> Tensor:
    """(B, T) → (B, B): True where two rows have equal captions, the diagonal included."""
    return (tokens[:, None] == tokens).all(-1)


def cosines(a: Tensor, b: Tensor) -> Tensor:
    """(..., M, E), (..., N, E), both of unit length → (..., M, N), in float32 under autocast, too.

    bfloat16 would round a cosine to 1/256, and the scale multiplies that error by up to 100.
    """
    with torch.autocast(a.device.type, enabled=False):
        return a.float() @ b.float().transpose(-1, -2)


def clamped_scale(log_scale: nn.Parameter) -> Tensor:
    """The scale of the logits, at most 100 as in CLIP.

    The parameter itself is clamped. If only its use were clamped, its gradient would be 0 there
    and it could never come back.
    """
    with torch.no_grad():
        log_scale.clamp_(max=MAX_LOG_SCALE)
    return log_scale.exp()


def matching(logits: Tensor, same_caption: Tensor | None = None) -> Tensor:
    """One direction of InfoNCE: row k of (B, B) must find column k.

    `same_caption` (B, B) is True where two rows have equal captions. Such a pair is no negative.
    """
    if same_caption is not None:
        own = torch.eye(len(logits), dtype=torch.bool, device=logits.device)
        logits = logits.masked_fill(same_caption & ~own, -torch.inf)
    return F.cross_entropy(logits, torch.arange(len(logits), device=logits.device))


def info_nce(logits: Tensor, same_caption: Tensor | None = None) -> Tensor:
    """Radford et al. 2021, figure 3: each image must find its text, and each text its image."""
    return (matching(logits, same_caption) + matching(logits.T, same_caption)) / 2


def clip_loss(clip: CLIP, batch: tuple[Tensor, Tensor], generator: torch.Generator) -> Tensor:
    """InfoNCE of a batch of (images (B, 3, H, W), tokens (B, T)). It draws no random numbers."""
    images, tokens = batch
    return contrast(clip, clip.encode_image(images), clip.encode_text(tokens), tokens)


def contrast(clip: CLIP, z_i: Tensor, z_t: Tensor, tokens: Tensor) -> Tensor:
    """InfoNCE of embeddings (B, E) of pairs whose captions are tokens (B, T)."""
    clamped_scale(clip.log_scale)
    return info_nce(clip.logits(z_i, z_t), equal_captions(tokens))
