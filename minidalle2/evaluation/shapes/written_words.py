"""Can it spell? The letters of drawn signs against those of their captions (paper, figure 16).

The paper's unCLIP writes wrong letters, as CLIP's embedding and its text encoder know words by
their pieces. Here the judge reads the signs, and errors are counted in letters.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from minidalle2.dalle2 import DALLE2, Sampling
from minidalle2.evaluation.rows import mean_row, row
from minidalle2.evaluation.shapes.drawn import ONE_DRAWING, read_drawn
from minidalle2.evaluation.shapes.judge import SIZE, Judge, read, word_of
from minidalle2.evaluation.shapes.prompts import asked
from minidalle2.worlds.shapes.drawing import draw
from minidalle2.worlds.shapes.scenes import WORDS

ERRORS, RIGHT = "letters wrong, {}", "words right, {}"


def written_rows(
    dalle2: DALLE2, judge: Judge, twin: DALLE2, n: int, seed: int, sampling: Sampling = ONE_DRAWING
) -> Iterator[dict]:
    """Of real pictures, which is what the judge can't read, of unCLIP's and of the twin's: errors
    a letter, as the mean over n words, and the share of words without any."""
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
    """(n,): the edits that make each word of what is written, over its letters. May exceed 1."""
    pairs = zip(words, written, strict=True)
    return torch.tensor([edits(word, text) / len(word) for word, text in pairs])


def edits(a: str, b: str) -> int:
    """Insertions, deletions and substitutions that turn b into a (Levenshtein 1966)."""
    costs = list(range(len(b) + 1))  # of the empty word from each beginning of b
    for i, letter in enumerate(a, 1):
        diagonal, costs[0] = costs[0], i
        for j, other in enumerate(b, 1):
            substituted = diagonal + (letter != other)
            diagonal, costs[j] = costs[j], min(substituted, costs[j] + 1, costs[j - 1] + 1)
    return costs[-1]
