"""Checks that several commands make before they start."""

import os
from pathlib import Path

from minidalle2.dalle2 import WEIGHTS
from minidalle2.tokenizer import Tokenizer, clean
from minidalle2.worlds.catalogue import WORLDS, label_of


def weights_of(world: str, weights: Path | None) -> Path:
    """The folder `weights`, or else the weights of this world that come with minidalle2.

    Raises ValueError if `weights` is None and no weights of this world come with minidalle2.
    """
    label = label_of(world)
    came_with = label in WORLDS and (WEIGHTS / label).is_dir()
    if weights is None and not came_with:
        raise ValueError(
            f"no weights for the world {label} come with minidalle2; train some with `minidalle2 "
            f"train all --world {world}`, then use --weights {Path('runs') / label}"
        )
    return weights or WEIGHTS / label


def make_folder(path: Path) -> Path:
    """Creates a folder if it is missing. Raises ValueError if nothing can be written to it."""
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
    """Prints the words of the prompts that occur in no training caption.

    Checks all prompts before the first picture is drawn. Raises ValueError for a prompt that is
    empty or not Unicode text, PromptTooLong for a prompt with too many tokens.
    """
    for prompt in prompts:
        if any("\ud800" <= c <= "\udfff" for c in prompt):  # bytes that Python could not decode
            raise ValueError(
                f"the prompt {ascii(prompt)[:60]} is no Unicode text; enter it as UTF-8"
            )
        tokenizer([clean(prompt)])
    unseen = tokenizer.unseen_words(" ".join(clean(prompt) for prompt in prompts))
    if unseen:
        print(f"the {label_of(world)} world has never seen: {', '.join(unseen)} (drawn anyway)")
