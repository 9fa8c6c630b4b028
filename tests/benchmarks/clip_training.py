"""CLIP: images a second, and retrieval after equal seconds.

All train on the same batches (three quarters near misses) and are as large as ours: vision
transformers of 6 layers on 4 px patches, 3 layers for the text, width 128.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minidalle2.clip import CLIP, CLIPConfig, clip_loss
from minidalle2.dalle2 import WEIGHTS
from minidalle2.storage.checkpoints import load_tokenizer
from minidalle2.tokenizer import END, PAD
from minidalle2.worlds.shapes.evaluation.retrieval import recall_at_1
from minidalle2.worlds.shapes.world import Shapes
from tests.benchmarks import training

BATCH = 256
CONFIG = CLIPConfig()


class OpenClip(nn.Module):
    config = CONFIG

    def __init__(self):
        super().__init__()
        import open_clip
        from open_clip.model import CLIPTextCfg, CLIPVisionCfg

        head = CONFIG.width // CONFIG.heads
        self.model = open_clip.model.CLIP(
            CONFIG.embedding,
            CLIPVisionCfg(
                layers=CONFIG.image_layers,
                width=CONFIG.width,
                head_width=head,
                patch_size=CONFIG.patch_size,
                image_size=CONFIG.image_size,
            ),
            CLIPTextCfg(
                context_length=CONFIG.context_length,
                vocab_size=CONFIG.vocab_size,
                width=CONFIG.width,
                heads=CONFIG.heads,
                layers=CONFIG.text_layers,
                pool_type="eos",
                eos_id=END,
            ),
        )
        self.contrast = open_clip.ClipLoss()

    def encode_image(self, images: Tensor) -> Tensor:
        return self.model.encode_image(images, normalize=True)

    def encode_text(self, tokens: Tensor) -> Tensor:
        """It reads texts of its context length only."""
        return self.model.encode_text(to_context(tokens), normalize=True)

    def forward(self, images: Tensor, tokens: Tensor) -> Tensor:
        return self.contrast(*self.model(images, to_context(tokens)))


class XClip(nn.Module):
    config = CONFIG

    def __init__(self):
        super().__init__()
        import x_clip

        head, width = CONFIG.width // CONFIG.heads, CONFIG.width
        self.model = x_clip.CLIP(
            dim_text=width,
            dim_image=width,
            dim_latent=CONFIG.embedding,
            num_text_tokens=CONFIG.vocab_size,
            text_seq_len=CONFIG.context_length,
            text_enc_depth=CONFIG.text_layers,
            text_heads=CONFIG.heads,
            text_dim_head=head,
            visual_enc_depth=CONFIG.image_layers,
            visual_heads=CONFIG.heads,
            visual_dim_head=head,
            visual_image_size=CONFIG.image_size,
            visual_patch_size=CONFIG.patch_size,
            visual_patch_dropout=0.0,
            text_pad_id=PAD,
        )

    def encode_image(self, images: Tensor) -> Tensor:
        """It encodes pairs only."""
        tokens = torch.full((len(images), 2), END)
        return self.model(tokens, images, return_latents=True)[1]

    def encode_text(self, tokens: Tensor) -> Tensor:
        size = CONFIG.image_size
        return self.model(tokens, torch.zeros(len(tokens), 3, size, size), return_latents=True)[0]

    def forward(self, images: Tensor, tokens: Tensor) -> Tensor:
        return self.model(tokens, images, return_loss=True)


def to_context(tokens: Tensor) -> Tensor:
    return F.pad(tokens, (0, CONFIG.context_length - tokens.shape[1]), value=PAD)


def their_loss(model: nn.Module, batch: tuple[Tensor, Tensor], generator) -> Tensor:
    return model(*batch)


def ours(seconds: float, seed: int) -> dict:
    model = CLIP(CONFIG)
    return _measure(model, clip_loss, training.our_optimizers(model), seconds, seed)


def _theirs(kind: type[nn.Module]):
    def measure(seconds: float, seed: int) -> dict:
        model = kind()
        return _measure(model, their_loss, training.peers_optimizers(model), seconds, seed)

    return measure


MEASURES = {"minidalle2": ours, "open_clip": _theirs(OpenClip), "x-clip": _theirs(XClip)}


def _measure(model: nn.Module, loss, optimizers, seconds: float, seed: int) -> dict:
    world, tokenizer = Shapes(), load_tokenizer(WEIGHTS / "shapes" / "tokenizer.json")

    def data(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        images, captions = world.contrasting(n, generator)
        return images, tokenizer(captions)

    done = training.train_for(seconds, model, data, loss, optimizers, BATCH, seed)
    to_text, to_image = recall_at_1(done.model, tokenizer, "seen", 512)
    return {
        "parameters": training.parameters(model),
        "steps": done.steps,
        "trained images/s": done.per_second,
        "R@1 of 512, %": 50 * (to_text + to_image),
    }
