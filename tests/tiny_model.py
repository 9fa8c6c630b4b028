"""The tiny DALLE2 of conftest.py as a folder of weights, for tests of the commands."""

from pathlib import Path

from minidalle2.dalle2 import DALLE2
from minidalle2.training.checkpoints import save_model


def save_tiny(dalle2: DALLE2, folder: Path) -> Path:
    for stage in ("clip", "prior", "decoder", "upsampler64", "upsampler128"):
        save_model(folder / stage, stage, getattr(dalle2, stage))
    dalle2.tokenizer.save(folder / "tokenizer.json")
    return folder
