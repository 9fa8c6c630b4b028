"""A CLIP of OpenAI's architecture with tiny sizes, and its JSON, for the tests of the bridge."""

import torch
from torch import nn

from minidalle2.bridge.openai_clip import OpenAICLIP, OpenAICLIPConfig

MERGES = [("r", "e"), ("re", "d</w>"), ("a", "t</w>"), ("c", "at</w>"), ("'", "s</w>"), ("e", "d")]
SIZES = OpenAICLIPConfig(
    embedding=20,
    image_size=32,
    patch_size=8,
    image_width=128,
    image_layers=2,
    image_heads=2,
    image_hidden=512,
    vocab_size=2 * 256 + len(MERGES) + 2,
    context_length=9,
    text_width=64,
    text_layers=3,
    text_heads=1,
    text_hidden=256,
)
JSON = {
    "model_cfg": {
        "embed_dim": 20,
        "quick_gelu": True,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 128, "patch_size": 8},
        "text_cfg": {
            "context_length": 9,
            "vocab_size": SIZES.vocab_size,
            "width": 64,
            "heads": 1,
            "layers": 3,
        },
    },
    "preprocess_cfg": {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4]},
}


def tiny_clip(sizes: OpenAICLIPConfig = SIZES) -> OpenAICLIP:
    """A CLIP with random weights. Norms and biases are not 1 and 0, which would hide mix-ups."""
    clip = OpenAICLIP(sizes).eval()
    for parameter in clip.parameters():
        nn.init.normal_(parameter, std=0.1)
    return clip.requires_grad_(False)


class Archive(nn.Module):
    """Weights under OpenAI's names, in halves, as its TorchScript archives hold them."""

    def __init__(self, clip: OpenAICLIP):
        super().__init__()
        for name, value in clip.state_dict().items():
            *path, last = name.split(".")
            module = self
            for part in path:
                if not hasattr(module, part):
                    module.add_module(part, nn.Module())
                module = getattr(module, part)
            module.register_buffer(last, value.half())
        self.register_buffer("input_resolution", torch.tensor(32))
        self.register_buffer("vocab_size", torch.tensor(SIZES.vocab_size))

    def forward(self) -> int:
        return 1
