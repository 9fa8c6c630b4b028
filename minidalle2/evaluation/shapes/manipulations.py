"""Do the manipulations do what the paper says of them? Measured on drawn scenes, by the judge.

Scenes are of the split `seen`, with one or two objects. Pictures are judged at 32 px, before the
upsamplers: the judge's training had pictures as soft as that.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from minidalle2.dalle2 import DALLE2
from minidalle2.evaluation.judging import sized
from minidalle2.evaluation.rows import row
from minidalle2.evaluation.shapes.judge import HEADS, NOTHING, SIZE, Judge, answers_of, read
from minidalle2.manipulations.interpolation import between
from minidalle2.manipulations.inversion import (
    Latents, Walk, decode, decoder_noise, error_against_steps, invert, psnr,
)  # fmt: skip
from minidalle2.manipulations.text_diff import direction, edit, fitting_theta
from minidalle2.manipulations.variations import vary
from minidalle2.training.precision import half_precision
from minidalle2.worlds.shapes.captions import describe
from minidalle2.worlds.shapes.drawing import draw
from minidalle2.worlds.shapes.scenes import (
    BACKGROUNDS, COLOURS, SHAPES, SIZES, Scenes, holds_held_out_pair, sample_scenes,
)  # fmt: skip

STEPS = (10, 25, 50, 100)
ENOUGH = 30.0  # dB of a picture that counts as rebuilt
CLEARLY, SOME = 0.1, 0.01  # what differs clearly: some pixels' colours, by a tenth of their range
ETAS, FRAMES = (0.5, 1.0), 5
WALK = Walk(25)
CLEARER = Walk(25, guidance=2.0)  # down only, for edits: shapes flip more often
BATCH = 50
VALUES = {"colour": COLOURS, "shape": SHAPES, "size": SIZES, "background": BACKGROUNDS}


@dataclass
class Pictures:
    """Scenes, drawn and inverted."""

    scenes: Scenes
    images: Tensor  # (B, 3, 32, 32)
    latents: Latents


def manipulation_rows(dalle2: DALLE2, judge: Judge, n: int, seed: int) -> Iterator[dict]:
    """All rows, n pictures each (or pairs of pictures)."""
    yield from inversion_rows(dalle2, n, seed)
    yield from variation_rows(dalle2, judge, n, seed)
    yield from interpolation_rows(dalle2, judge, n, seed)
    for attribute in VALUES:
        yield from text_diff_rows(dalle2, judge, attribute, n, seed)


def inversion_rows(dalle2: DALLE2, n: int, seed: int) -> Iterator[dict]:
    """Pictures that come back from their latents within ENOUGH; with the mean of their PSNR."""
    images = draw(_scenes(n, seed, ("one", "two")), 32).to(dalle2.device)
    for steps in STEPS:
        with half_precision(dalle2.device):  # as in training
            parts = [
                error_against_steps(dalle2.clip, dalle2.decoder, part, [steps])[steps]
                for part in images.split(BATCH)
            ]
        found = torch.cat(parts)
        name = f"inversion, {steps} steps: {ENOUGH:g} dB"
        yield _row(name, int((found >= ENOUGH).sum()), n) | {"decibels": found.mean().item()}


def variation_rows(dalle2: DALLE2, judge: Judge, n: int, seed: int) -> Iterator[dict]:
    """One variation of each picture with each eta: what stays, and whether anything changes."""
    pictures = _inverted(dalle2, _scenes(n, seed, ("one", "two")))
    rebuilt = _varied(dalle2, pictures, 0.0)
    for eta in ETAS:
        images, name = _varied(dalle2, pictures, eta), f"variation, eta {eta:g}"
        answers = read(judge, images)
        kept = torch.cat(list(attributes_kept(pictures.scenes, answers).values()))
        whole = same_scene(answers_of(pictures.scenes), answers)
        different = clearly_different(images, rebuilt)
        yield _row(f"{name}: attributes kept", int(kept.sum()), kept.numel())
        yield _row(f"{name}: whole scene kept", int(whole.sum()), n)
        decibels = psnr(images, rebuilt).mean().item()
        yield _row(f"{name}: pixels differ", int(different.sum()), n) | {"decibels": decibels}


def clearly_different(images: Tensor, others: Tensor) -> Tensor:
    """(B, 3, S, S) in [-1, 1], twice → (B,) bool: in a share SOME of the pixels or more a colour
    differs by CLEARLY or more."""
    far = ((images - others).abs().amax(1) / 2 >= CLEARLY).flatten(1)  # (B, pixels)
    return far.float().mean(1) >= SOME


def _varied(dalle2: DALLE2, pictures: Pictures, eta: float) -> Tensor:
    """A variation of each of B pictures, seeds 0, 1, … → (B, 3, 32, 32)."""
    parts, n = [], len(pictures.latents)
    for i in range(0, n, BATCH):
        rows = slice(i, i + BATCH)
        noise = decoder_noise(list(range(n))[rows])
        with half_precision(dalle2.device):
            parts.append(vary(dalle2.decoder, pictures.latents[rows], eta, noise, WALK))
    return torch.cat(parts)


def interpolation_rows(dalle2: DALLE2, judge: Judge, n: int, seed: int) -> Iterator[dict]:
    """From one scene of one object to another, both z_i and x_T on their circles."""
    a = _inverted(dalle2, _scenes(n, seed, ("one",)))
    b = _inverted(dalle2, _scenes(n, seed + 1, ("one",)))
    curves, ends = torch.zeros(2, FRAMES), 0
    for i in range(0, n, BATCH):
        rows = slice(i, i + BATCH)
        truth_a, truth_b = answers_of(a.scenes[rows]), answers_of(b.scenes[rows])
        for f, theta in enumerate(torch.linspace(0, 1, FRAMES).tolist()):
            share = torch.full((len(truth_a["shape"]),), theta, device=dalle2.device)
            latents = between(a.latents[rows], b.latents[rows], share)
            with half_precision(dalle2.device):
                frame = decode(dalle2.decoder, latents, WALK)
            logits = _logits(judge, frame)
            p_a, p_b = probabilities(logits, truth_a, truth_b)
            curves[:, f] += torch.tensor([p_a.sum(), p_b.sum()]) / n
            if theta in (0, 1):
                answers = {name: value.argmax(-1) for name, value in logits.items()}
                ends += int(same_scene(truth_b if theta else truth_a, answers).sum())
    yield _row("interpolation: ends are their scenes", ends, 2 * n)
    steps = curves.diff() * torch.tensor([[-1.0], [1.0]])  # the first should fade, the second come
    monotone = _row("interpolation: steps that lead on", int((steps > 0).sum()), steps.numel())
    yield monotone | {"first": curves[0].tolist(), "second": curves[1].tolist()}


def text_diff_rows(
    dalle2: DALLE2, judge: Judge, attribute: str, n: int, seed: int
) -> Iterator[dict]:
    """One attribute of a scene of one object changed by two captions that say all of it: does it
    flip, and does everything else stay? Turned as far as the captions are apart; with theta 0.5 for
    all, sizes flipped in two thirds, and shapes were lost on the way."""
    scenes = _scenes(n, seed, ("one",))
    wanted = changed(scenes, attribute, torch.Generator().manual_seed(seed))
    pictures = _inverted(dalle2, scenes)
    old, new = full_captions(scenes), full_captions(wanted)
    edited = []
    for i in range(0, n, BATCH):
        rows = slice(i, i + BATCH)
        latents, captions = pictures.latents[rows], (old[rows], new[rows])
        z_d = direction(dalle2.clip, dalle2.tokenizer, *captions)
        theta = fitting_theta(dalle2.clip, dalle2.tokenizer, latents.z_i, *captions)
        with half_precision(dalle2.device):
            edited.append(edit(dalle2.decoder, latents, z_d, theta, CLEARER))
    kept = attributes_kept(wanted, read(judge, torch.cat(edited)))
    others = torch.cat([kept[name] for name in VALUES if name != attribute])
    yield _row(f"text diff, {attribute}: flipped", int(kept[attribute].sum()), n)
    yield _row(f"text diff, {attribute}: others kept", int(others.sum()), others.numel())


def changed(scenes: Scenes, attribute: str, generator: torch.Generator) -> Scenes:
    """Scenes of one object with another colour, shape, size or background, held-out pairs avoided;
    the rest, to the place of the object, is the same."""
    new, high = scenes[torch.arange(len(scenes))], len(VALUES[attribute])
    old = getattr(scenes, attribute)
    todo = torch.ones(len(scenes), dtype=torch.bool)
    while todo.any():
        shift = torch.randint(1, high, (len(scenes),), generator=generator)
        if attribute == "background":
            new.background = torch.where(todo, (old + shift) % high, new.background)
        else:
            value = getattr(new, attribute).clone()
            value[:, 0] = torch.where(todo, (old[:, 0] + shift) % high, value[:, 0])
            setattr(new, attribute, value)
        todo = holds_held_out_pair(new)
    return new


def full_captions(scenes: Scenes) -> list[str]:
    """All that there is to say, always in the same words: 'a small red circle in the center on a
    white background'."""
    everything = torch.ones(len(scenes), dtype=torch.bool)
    said = replace(
        scenes, says_sizes=everything, says_places=everything, says_background=everything
    )
    return [describe(said[k : k + 1], random.Random(0))[0] for k in range(len(said))]


def attributes_kept(scenes: Scenes, answers: dict[str, Tensor]) -> dict[str, Tensor]:
    """What the judge reads as it is → {attribute: bool}: of every object its colour, shape and size
    (objects,), of every scene its background (B,). Of an object that does not stand in its place
    nothing is kept."""
    truth = answers_of(scenes)
    objects, there = truth["shape"] != NOTHING, answers["shape"] != NOTHING  # (B, 9)
    kept = {k: ((answers[k] == truth[k]) & there)[objects] for k in ("colour", "shape", "size")}
    return kept | {"background": (answers["background"] == truth["background"])[:, 0]}


def same_scene(truth: dict[str, Tensor], answers: dict[str, Tensor]) -> Tensor:
    """(B,) bool: everything is read as it is, and nothing else stands there."""
    right = [((answers[k] == truth[k]) | (truth[k] < 0)).all(1) for k in HEADS]
    return torch.stack(right).all(0)


def probabilities(
    logits: dict[str, Tensor], truth_a: dict[str, Tensor], truth_b: dict[str, Tensor]
) -> tuple[Tensor, Tensor]:
    """The judge's probability of a's answers and of b's → (B,), (B,): the mean over the questions
    that both scenes answer, and differently; 0 where there is none."""
    sums = torch.zeros(2, len(logits["shape"]))
    asked = torch.zeros(len(logits["shape"]))
    for name in ("shape", "colour", "size", "background"):
        a, b = truth_a[name], truth_b[name]
        differ = (a >= 0) & (b >= 0) & (a != b)  # (B, questions)
        p = logits[name].softmax(-1).cpu()
        for k, answer in enumerate((a, b)):
            of_answer = p.gather(-1, answer.clamp(min=0)[..., None])[..., 0]
            sums[k] += (of_answer * differ).sum(1)
        asked += differ.sum(1)
    return tuple(sums / asked.clamp(min=1))


@torch.no_grad()
def _logits(judge: Judge, images: Tensor) -> dict[str, Tensor]:
    logits = judge(sized(images, SIZE).contiguous(memory_format=torch.channels_last))
    return {name: logit.cpu() for name, logit in logits.items()}


def _inverted(dalle2: DALLE2, scenes: Scenes) -> Pictures:
    images = draw(scenes, 32).to(dalle2.device)
    with half_precision(dalle2.device):
        parts = [invert(dalle2.clip, dalle2.decoder, part, WALK) for part in images.split(BATCH)]
    return Pictures(scenes, images, Latents.joined(parts))


def _scenes(n: int, seed: int, kinds: tuple[str, ...]) -> Scenes:
    return sample_scenes(n, "seen", torch.Generator().manual_seed(1_000 * seed + 500), kinds)


def _row(name: str, right: int, n: int) -> dict:
    return row("manipulations", name, "seen", right, n)
