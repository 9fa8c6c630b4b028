"""What several commands check before they start."""

import os
from pathlib import Path

import torch

from minidalle2.dalle2 import WEIGHTS, clean
from minidalle2.tokenizer import Tokenizer
from minidalle2.worlds.world import WORLDS, label_of


def pick_device(name: str) -> torch.device:
    """`auto` is CUDA, else MPS, else the CPU. Raises ValueError where the named one is missing."""
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        name = next(device for device, there in available.items() if there)
    if not available[name]:
        raise ValueError(f"there is no {name} device here; use --device auto or --device cpu")
    return torch.device(name)


def weights_of(world: str, weights: Path | None) -> Path:
    """--weights, or else those that came with minidalle2. Raises ValueError where none did."""
    label = label_of(world)
    came_with = label in WORLDS and (WEIGHTS / label).is_dir()
    if weights is None and not came_with:
        raise ValueError(
            f"no weights for the world {label} came with minidalle2; train them with `minidalle2 "
            f"train all --world {world}` and name them, say --weights {Path('runs') / label}"
        )
    return weights or WEIGHTS / label


def make_folder(path: Path) -> Path:
    """The folder, made if need be. Raises ValueError where nothing can be written to it."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        if not os.access(path, os.W_OK):
            raise PermissionError(13, "Permission denied")
    except OSError as error:
        raise ValueError(
            f"can't write to the folder {path} ({error.strerror}); choose another --out"
        ) from error
    return path


def say_unseen(prompts: list[str], tokenizer: Tokenizer, world: str) -> None:
    """Prints which words training never had. Raises ValueError for a prompt that can't be read,
    before the first of a long list is drawn."""
    for prompt in prompts:
        if any("\ud800" <= c <= "\udfff" for c in prompt):  # bytes that the shell's encoding lacks
            raise ValueError(
                f"the prompt {ascii(prompt)[:60]} is no Unicode text; type it as UTF-8"
            )
        tokenizer([clean(prompt)])
    unseen = tokenizer.unseen_words(" ".join(clean(prompt) for prompt in prompts))
    if unseen:
        print(f"the {label_of(world)} world has never seen: {', '.join(unseen)} (drawn anyway)")
