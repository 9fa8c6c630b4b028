"""Spelling: compares the letters on drawn signs with those in the captions (paper, figure 16).

The paper's unCLIP draws wrong letters. Its text encoder, like CLIP's, receives words as subword
tokens and not as letters. Here the judge reads the signs, and wrong letters are counted.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from minidalle2.dalle2 import DALLE2, Sampling
from minidalle2.evaluation.rows import mean_row, row
from minidalle2.worlds.shapes.drawing import draw
from minidalle2.worlds.shapes.evaluation.drawn import ONE_DRAWING, read_drawn
from minidalle2.worlds.shapes.evaluation.prompts import asked
from minidalle2.worlds.shapes.judge import SIZE, Judge, read, word_of
from minidalle2.worlds.shapes.scenes import WORDS

ERRORS, RIGHT = "letters wrong, {}", "words right, {}"


def written_rows(
    dalle2: DALLE2, judge: Judge, twin: DALLE2, n: int, seed: int, sampling: Sampling = ONE_DRAWING
) -> Iterator[dict]:
    """Letter errors and correct words, for real pictures, unCLIP and GLIDE (`twin`).

    Errors are the mean over n words of the errors divided by the length of the word. The errors in
    real pictures are those of the judge.
    """
    scenes, prompts = asked("words", n, seed)
    words = [WORDS[i] for i in scenes.word.tolist()]
    letters = {"real pictures": read(judge, draw(scenes, SIZE).to(dalle2.device))["letters"]}
    for label, model in {"unCLIP": dalle2, "GLIDE": twin}.items():
        letters[label] = read_drawn(model, judge, prompts, sampling)["letters"]
    for label, read_letters in letters.items():
        errors = character_errors(words, [word_of(row) for row in read_letters])
        yield mean_row("words", ERRORS.format(label), "seen", errors)
        yield row("words", RIGHT.format(label), "seen", int((errors == 0).sum()), n)


def character_errors(words: list[str], written: list[str]) -> Tensor:
    """(n,): the edit distance between each word and its written form, divided by its length.

    It can be larger than 1.
    """
    pairs = zip(words, written, strict=True)
    return torch.tensor([edits(word, text) / len(word) for word, text in pairs])


def edits(a: str, b: str) -> int:
    """The number of insertions, deletions and substitutions from b to a (Levenshtein 1966)."""
    costs = list(range(len(b) + 1))  # from each beginning of b to the empty word
    for i, letter in enumerate(a, 1):
        diagonal, costs[0] = costs[0], i
        for j, other in enumerate(b, 1):
            substituted = diagonal + (letter != other)
            diagonal, costs[j] = costs[j], min(substituted, costs[j] + 1, costs[j - 1] + 1)
    return costs[-1]
