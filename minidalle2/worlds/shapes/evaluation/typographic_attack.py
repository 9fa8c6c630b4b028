"""Typographic attack: a shape above a sign with the word of another shape.

Paper: section 4, figure 6. CLIP takes an apple with a label "iPod" for an iPod, but the decoder
still draws an apple from the embedding. Here there are three pictures of the same object: without a
sign, with the word of a colour as a control, and with the word of another shape. Letters: n
objects, E embedding.
"""

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from minidalle2.dalle2 import DALLE2, Sampling
from minidalle2.evaluation.drawn import embed
from minidalle2.evaluation.rows import row
from minidalle2.worlds.shapes.drawing import draw
from minidalle2.worlds.shapes.evaluation.drawn import ONE_DRAWING, reconstruct
from minidalle2.worlds.shapes.judge import Judge, read, word_of
from minidalle2.worlds.shapes.scenes import (
    COLOURS,
    SHAPES,
    TOP,
    WORDS,
    Scenes,
    concatenate,
    sample_scenes,
)

SHAPE_WORDS = torch.tensor([i for i, word in enumerate(WORDS) if word in SHAPES])
COLOUR_WORDS = torch.tensor([i for i, word in enumerate(WORDS) if word in COLOURS])
# Word w names the shape MEANING[w], or no shape (-1).
MEANING = torch.tensor([SHAPES.index(word) if word in SHAPES else -1 for word in WORDS])
BEFORE, CONTROL, ATTACK = "no sign", "colour word", "shape word"
CLIP_SHAPE, CLIP_WORD = "CLIP names the shape, {}", "CLIP names the word, {}"
DRAWN_SHAPE, DRAWN_WORD = "redrawn the shape, {}", "redrawn the word's shape, {}"
DRAWN_SIGN = "redrawn the sign, {}"


def attack_rows(
    dalle2: DALLE2, judge: Judge, n: int, seed: int, sampling: Sampling = ONE_DRAWING
) -> Iterator[dict]:
    """For n objects: the shape that CLIP names, and the shape that the decoder redraws from z_i.

    CLIP chooses among all eight shapes. Pictures without a sign are not redrawn, because no
    training picture has a single object at the top.
    """
    for condition, scenes in attacked(n, seed).items():
        shape, meant = scenes.shape[:, 0], MEANING[scenes.word.clamp(min=0)]
        z_i = embed(dalle2.clip, draw(scenes, dalle2.clip.config.image_size))
        named = zero_shot_shape(dalle2, z_i, scenes.colour[:, 0])
        yield _row(CLIP_SHAPE, condition, named == shape)
        if condition == BEFORE:
            continue
        if condition == ATTACK:
            yield _row(CLIP_WORD, condition, named == meant)
        seen = read(judge, reconstruct(dalle2, z_i, sampling))
        yield _row(DRAWN_SHAPE, condition, seen["shape"][:, TOP] == shape)
        if condition == ATTACK:
            yield _row(DRAWN_WORD, condition, seen["shape"][:, TOP] == meant)
        words = [WORDS[i] for i in scenes.word.tolist()]
        same = [a == word_of(b) for a, b in zip(words, seen["letters"], strict=True)]
        yield _row(DRAWN_SIGN, condition, torch.tensor(same))


def _row(name: str, condition: str, right: Tensor) -> dict:
    return row("attack", name.format(condition), "seen", int(right.sum()), len(right))


def attacked(n: int, seed: int) -> dict[str, Scenes]:
    """n objects at the place above a sign, in the three conditions."""
    generator, parts, missing = torch.Generator().manual_seed(seed), [], n
    while missing:
        scenes = sample_scenes(3 * missing, "seen", generator, ("words",))
        parts.append(scenes[scenes.count == 1][:missing])
        missing -= len(parts[-1])
    scenes = concatenate(parts)
    colour_word = torch.randint(len(COLOUR_WORDS), (n,), generator=generator)
    own = scenes.shape[:, :1] == MEANING[SHAPE_WORDS]  # (n, 7); a triangle has no word
    others = len(SHAPE_WORDS) - own.sum(1)
    word = (torch.rand(n, generator=generator) * others).long()
    skip = own.any(1) & (word >= own.int().argmax(1))  # the object's own word is skipped
    return {
        BEFORE: replace(scenes, word=torch.full((n,), -1)),
        CONTROL: replace(scenes, word=COLOUR_WORDS[colour_word]),
        ATTACK: replace(scenes, word=SHAPE_WORDS[word + skip.int()]),
    }


def zero_shot_shape(dalle2: DALLE2, z_i: Tensor, colour: Tensor) -> Tensor:
    """z_i (n, E) and true colours (n,) → (n,) index into SHAPES of the shape that CLIP names.

    The texts contain the true colour, because no training caption names a shape without its colour.
    """
    labels = [f"a picture of a {c} {shape}" for c in COLOURS for shape in SHAPES]
    labels = [label.replace("a orange", "an orange") for label in labels]
    with torch.no_grad():
        z_t = dalle2.clip.encode_text(dalle2.tokenizer(labels).to(dalle2.device)).cpu()
    z_t = z_t.unflatten(0, (len(COLOURS), len(SHAPES)))  # (8, 8, E)
    return torch.einsum("ne,nse->ns", z_i, z_t[colour]).argmax(1)


def flips(rows: list[dict]) -> bool:
    """Whether the attack works.

    It works if CLIP names the shape less often beside the word of another shape than beside the
    word of a colour, and the two intervals do not overlap.
    """
    share = {row["name"]: row for row in rows}
    attack, control = (share[CLIP_SHAPE.format(condition)] for condition in (ATTACK, CONTROL))
    return attack["high"] < control["low"]
