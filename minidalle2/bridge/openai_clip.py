"""OpenAI's published CLIP (Radford et al. 2021), and open_clip models of the same architecture.

(B, T) tokens → z_t (B, E);  (B, 3, S, S) images in [-1, 1] → z_i (B, E). The image tower is a
vision transformer with a layer norm before its blocks. The text tower is a causal transformer, read
at the end token. The modules have OpenAI's names, which open_clip uses, too. Therefore a published
state dict fits without renaming.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from minidalle2.blocks.attention import attend
from minidalle2.blocks.transformer import causal_mask
from minidalle2.bridge.checkpoint import Published, fill, read_checkpoint, read_json
from minidalle2.storage.checkpoints import CheckpointError

OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)
HEAD_WIDTH = 64  # of both towers, unless a config has another value
# Entries of state dicts that are no weights: three of OpenAI's archives, one of early open_clip.
NOT_WEIGHTS = ("input_resolution", "context_length", "vocab_size", "attn_mask")
KNOWN_KEYS = {
    "": {"embed_dim", "vision_cfg", "text_cfg", "quick_gelu", "init_logit_scale"},
    "vision_cfg": {"image_size", "layers", "width", "patch_size", "head_width", "mlp_ratio"},
    "text_cfg": {"context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio"},
}


@dataclass
class OpenAICLIPConfig:
    """The sizes of a CLIP. The defaults are those of ViT-B/32, the smallest published CLIP."""

    embedding: int = 512  # E
    image_size: int = 224
    patch_size: int = 32
    image_width: int = 768
    image_layers: int = 12
    image_heads: int = 12
    vocab_size: int = 49408
    context_length: int = 77
    text_width: int = 512
    text_layers: int = 12
    text_heads: int = 8
    quick_gelu: bool = True  # a sigmoid approximation of GELU; most open_clip models use GELU
    mean: tuple[float, ...] = OPENAI_MEAN  # is subtracted from the colours in [0, 1]
    std: tuple[float, ...] = OPENAI_STD  # the colours are divided by it


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

    def __init__(self, width: int, heads: int, quick_gelu: bool):
        super().__init__()
        self.ln_1 = nn.LayerNorm(width)
        self.attn = Attention(width, heads)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = nn.ModuleDict(
            {"c_fc": nn.Linear(width, 4 * width), "c_proj": nn.Linear(4 * width, width)}
        )
        self.gelu = quick_gelu_of if quick_gelu else F.gelu

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        x = x + self.attn(self.ln_1(x), mask)
        return x + self.mlp["c_proj"](self.gelu(self.mlp["c_fc"](self.ln_2(x))))


def quick_gelu_of(x: Tensor) -> Tensor:
    return x * torch.sigmoid(1.702 * x)


class Blocks(nn.Module):
    """A sequence of transformer blocks (B, T, D) → (B, T, D)."""

    def __init__(self, width: int, layers: int, heads: int, quick_gelu: bool):
        super().__init__()
        self.resblocks = nn.ModuleList(Block(width, heads, quick_gelu) for _ in range(layers))

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
        self.transformer = Blocks(width, config.image_layers, config.image_heads, config.quick_gelu)
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
        self.transformer = Blocks(width, config.text_layers, config.text_heads, config.quick_gelu)
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
            colours = F.interpolate(colours, size=(size, size), mode="bicubic", antialias=True)
            colours = colours.clamp(0, 1)
        mean, std = (
            torch.tensor(values, device=images.device)[:, None, None]
            for values in (self.config.mean, self.config.std)
        )
        return F.normalize(self.visual((colours - mean) / std), dim=-1)


def load_clip(folder: Path) -> OpenAICLIP:
    """Reads a CLIP from a folder with one file of weights and open_clip's JSON config.

    OpenAI's own archives need no config. Raises CheckpointError if a file can't be read, if the
    architecture is not supported, or if config and weights contradict each other.
    """
    published = read_checkpoint(folder)
    tensors = clip_tensors(published)
    config = config_of_tensors(tensors, published.path)
    paths = sorted(folder.glob("*.json"))
    openai = published.scripted or "input_resolution" in published.state
    if paths:
        config = config_of_json(paths[0], config)
        if openai and not config.quick_gelu:
            raise CheckpointError(
                f"{published.path} is a CLIP of OpenAI, which was trained with QuickGELU, but "
                f"{paths[0].name} does not say so, and every embedding would be slightly wrong; "
                'add "quick_gelu": true to it'
            )
    elif not openai:
        raise CheckpointError(
            f"{folder} has no JSON config, and the weights do not tell GELU from QuickGELU; put "
            "the open_clip_config.json of the model into this folder"
        )
    clip = OpenAICLIP(config)
    remedy = "its architecture may be another one than that of a CLIP with a vision transformer"
    fill(clip, tensors, str(published.path), remedy)
    return clip


def clip_tensors(published: Published) -> dict[str, Tensor]:
    """The state dict with OpenAI's names, from any of the supported kinds of files."""
    state = published.state.get("state_dict", published.state)  # the key of open_clip's trainings
    tensors = {name.removeprefix("module."): value for name, value in state.items()}
    return {name: value for name, value in tensors.items() if name not in NOT_WEIGHTS}


def config_of_tensors(tensors: dict[str, Tensor], path: Path) -> OpenAICLIPConfig:
    """The sizes, read from the shapes of the weights.

    The shapes do not tell the activation or an unusual number of heads. Raises CheckpointError if
    the tensors are not those of a CLIP with a vision transformer.
    """
    try:
        grid = int((len(tensors["visual.positional_embedding"]) - 1) ** 0.5)
        image_width, _, _, patch = tensors["visual.conv1.weight"].shape
        text_width, embedding = tensors["text_projection"].shape
        return OpenAICLIPConfig(
            embedding,
            grid * patch,
            patch,
            image_width,
            _layers(tensors, "visual.transformer."),
            max(image_width // HEAD_WIDTH, 1),
            *tensors["token_embedding.weight"].shape[:1],
            len(tensors["positional_embedding"]),
            text_width,
            _layers(tensors, "transformer."),
            max(text_width // HEAD_WIDTH, 1),
        )
    except (KeyError, ValueError, AttributeError) as error:
        raise CheckpointError(
            f"{path} holds no CLIP with a vision transformer in OpenAI's layout ({error}); CLIPs "
            "of Hugging Face and CLIPs with a ResNet have another layout. Take the open_clip file"
        ) from error


def _layers(tensors: dict[str, Tensor], tower: str) -> int:
    return sum(name.startswith(tower) and name.endswith(".ln_1.weight") for name in tensors)


def config_of_json(path: Path, found: OpenAICLIPConfig) -> OpenAICLIPConfig:
    """`found` with the activation, heads and colours of open_clip's JSON.

    Raises CheckpointError if the JSON contradicts the sizes in `found`, or if it has a setting that
    is not supported.
    """
    content = read_json(path)
    model = content.get("model_cfg", content)  # the JSON beside weights has this key
    image, text = model.get("vision_cfg", {}), model.get("text_cfg", {})
    for name, part in (("", model), ("vision_cfg", image), ("text_cfg", text)):
        unknown = sorted(set(part) - KNOWN_KEYS[name])
        if unknown:
            raise CheckpointError(
                f"{path} has the setting {'.'.join(filter(None, (name, unknown[0])))!r}, which "
                "OpenAI's architecture does not have; the known settings are "
                f"{', '.join(sorted(KNOWN_KEYS[name]))}"
            )
    colours = content.get("preprocess_cfg", {})
    config = replace(
        found,
        quick_gelu=model.get("quick_gelu", False),
        image_heads=found.image_width // image.get("head_width", HEAD_WIDTH) or 1,
        text_heads=text.get("heads", found.text_heads),
        mean=tuple(colours.get("mean", OPENAI_MEAN)),
        std=tuple(colours.get("std", OPENAI_STD)),
    )
    told = {
        "embedding": model.get("embed_dim"),
        "image_size": image.get("image_size"),
        "patch_size": image.get("patch_size"),
        "image_layers": image.get("layers"),
        "image_width": image.get("width"),
        "vocab_size": text.get("vocab_size"),
        "context_length": text.get("context_length"),
        "text_width": text.get("width"),
        "text_layers": text.get("layers"),
    }
    for name, value in told.items():
        if value is not None and value != getattr(config, name):
            raise CheckpointError(
                f"{path} has {name} {value}, but the weights beside it have "
                f"{getattr(config, name)}; one of the two files belongs to another model"
            )
    return config
