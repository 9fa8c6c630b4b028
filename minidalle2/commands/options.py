"""Checks that several commands make before they start."""

import os
from difflib import get_close_matches
from itertools import chain
from pathlib import Path

from minidalle2.dalle2 import WEIGHTS, weights_folder
from minidalle2.storage.checkpoints import CheckpointError
from minidalle2.tokenizer import Tokenizer, clean
from minidalle2.worlds.catalogue import WORLDS, find, label_of

SIMILAR, MOST_SIMILAR = 0.82, 8  # similarity of words, and how many of them are named


def weights_of(world: str, weights: Path | None) -> Path:
    """The folder of `weights` (a path or the name of shipped weights), or else of this world.

    Raises ValueError if `weights` is None and no weights of this world come with minidalle2.
    """
    if weights is not None:  # then the world's data is not needed
        try:
            return weights_folder(weights)
        except CheckpointError:  # the command that loads the weights reports it
            return weights
    label = label_of(world)
    if label not in WORLDS or not (WEIGHTS / label).is_dir():
        raise ValueError(
            f"no weights for the world {label} come with minidalle2; train some with `minidalle2 "
            f"train all --world {world}`, then use --weights {Path('runs') / label}"
        )
    return WEIGHTS / label


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
    """Prints the words of the prompts that occur in no training caption, and the world's advice.

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
        print(f"{owner_of(world)} never seen: {', '.join(unseen)} (drawn anyway)")
        similar = similar_words(unseen, tokenizer.words)
        if similar:
            print(f"similar words that are known: {', '.join(similar)}")
    for line in advice_of(world, prompts):
        print(line)


def owner_of(world: str) -> str:
    """'the shapes world has', or 'these weights have' if there is no such world."""
    try:
        return f"the {label_of(world)} world has"
    except ValueError:
        return "these weights have"


def similar_words(unseen: list[str], known: set[str]) -> list[str]:
    """At most MOST_SIMILAR known words for the unseen ones, without repetition."""
    words = sorted(known)
    found = (get_close_matches(word, words, 2, SIMILAR) for word in unseen if len(word) > 3)
    return list(dict.fromkeys(chain(*found)))[:MOST_SIMILAR]


def advice_of(world: str, prompts: list[str]) -> list[str]:
    """The advice of a world on prompts that ask for unknown things. [] without its data."""
    known = find(world)
    if known is None or known.advice is None:
        return []
    try:
        return known.advice([clean(prompt) for prompt in prompts])
    except ValueError:  # weights are enough to draw
        return []
