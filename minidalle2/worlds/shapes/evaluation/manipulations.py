"""Measures with the judge whether the manipulations do what the paper says (section 3).

The scenes are from the split `seen` and have one or two objects. The judge reads the pictures at 32
px, before the upsamplers, because its training pictures include such soft ones. Letters: B
pictures.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from minidalle2.dalle2 import DALLE2
from minidalle2.evaluation.judging import sized
from minidalle2.evaluation.rows import row
from minidalle2.evaluation.work import decoding_work, inversion_work
from minidalle2.manipulations.interpolation import between
from minidalle2.manipulations.inversion import (
    Latents,
    Walk,
    decode,
    decoder_noise,
    error_against_steps,
    invert,
    psnr,
)
from minidalle2.manipulations.text_diff import direction, edit, fitting_theta
from minidalle2.manipulations.variations import vary
from minidalle2.storage.progress import Work, working
from minidalle2.worlds.shapes.captions import describe
from minidalle2.worlds.shapes.drawing import draw
from minidalle2.worlds.shapes.judge import HEADS, NOTHING, SIZE, Judge, answers_of, read
from minidalle2.worlds.shapes.scenes import (
    BACKGROUNDS,
    COLOURS,
    SHAPES,
    SIZES,
    Scenes,
    holds_held_out_pair,
    sample_scenes,
)

STEPS = (10, 25, 50, 100)
ENOUGH = 30.0  # PSNR in dB at which a picture counts as reconstructed
CLEARLY, SOME = 0.1, 0.01  # a share SOME of the pixels differs by CLEARLY (share of the range)
ETAS, FRAMES = (0.5, 1.0), 5
WALK = Walk(25)
CLEARER = Walk(25, guidance=2.0)  # for edits, only when drawing: shapes flip more often
BATCH = 50
VALUES = {"colour": COLOURS, "shape": SHAPES, "size": SIZES, "background": BACKGROUNDS}


@dataclass
class Pictures:
    """Scenes, their pictures, and the latents of the inverted pictures."""

    scenes: Scenes
    images: Tensor  # (B, 3, 32, 32)
    latents: Latents


def manipulation_rows(dalle2: DALLE2, judge: Judge, n: int, seed: int) -> Iterator[dict]:
    """All rows. Each is about n pictures or n pairs of pictures."""
    yield from inversion_rows(dalle2, n, seed)
    yield from variation_rows(dalle2, judge, n, seed)
    yield from interpolation_rows(dalle2, judge, n, seed)
    for attribute in VALUES:
        yield from text_diff_rows(dalle2, judge, attribute, n, seed)


def inversion_rows(dalle2: DALLE2, n: int, seed: int) -> Iterator[dict]:
    """The share of pictures whose reconstruction has a PSNR of ENOUGH, and the mean PSNR."""
    images = draw(_scenes(n, seed, ("one", "two")), 32).to(dalle2.device)
    for steps in STEPS:
        with working(f"rebuilding with {steps} steps", _rebuilding_work(dalle2, Walk(steps), n)):
            parts = [
                error_against_steps(dalle2.clip, dalle2.decoder, part, [steps])[steps]
                for part in images.split(BATCH)
            ]
        found = torch.cat(parts)
        name = f"inversion, {steps} steps: {ENOUGH:g} dB"
        yield _row(name, int((found >= ENOUGH).sum()), n) | {"decibels": found.mean().item()}


def _rebuilding_work(dalle2: DALLE2, walk: Walk, n: int) -> list[Work]:
    """The inversion and the decoding of n pictures."""
    inversion = inversion_work(dalle2.clip, dalle2.decoder, walk, n)
    return inversion + decoding_work(dalle2.decoder, walk, n)


def variation_rows(dalle2: DALLE2, judge: Judge, n: int, seed: int) -> Iterator[dict]:
    """One variation of each picture for each eta: which attributes stay, which pixels change."""
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
    """Pictures (B, 3, S, S) and others (B, 3, S, S), in [-1, 1] → (B,) bool: they clearly differ.

    That is the case if a share SOME of the pixels differs by CLEARLY or more in a colour channel.
    """
    far = ((images - others).abs().amax(1) / 2 >= CLEARLY).flatten(1)  # (B, pixels)
    return far.float().mean(1) >= SOME


def _varied(dalle2: DALLE2, pictures: Pictures, eta: float) -> Tensor:
    """A variation of each of B pictures, with seeds 0, 1, … → (B, 3, 32, 32)."""
    parts, n = [], len(pictures.latents)
    with working(f"varying, eta {eta:g}", decoding_work(dalle2.decoder, WALK, n)):
        for i in range(0, n, BATCH):
            rows = slice(i, i + BATCH)
            noise = decoder_noise(list(range(n))[rows])
            parts.append(vary(dalle2.decoder, pictures.latents[rows], eta, noise, WALK))
    return torch.cat(parts)


def interpolation_rows(dalle2: DALLE2, judge: Judge, n: int, seed: int) -> Iterator[dict]:
    """Interpolates from one scene with one object to another. Both z_i and x_T use slerp."""
    a = _inverted(dalle2, _scenes(n, seed, ("one",)))
    b = _inverted(dalle2, _scenes(n, seed + 1, ("one",)))
    curves, ends = torch.zeros(2, FRAMES), 0
    with working("interpolating", decoding_work(dalle2.decoder, WALK, n * FRAMES)):
        for i in range(0, n, BATCH):
            rows = slice(i, i + BATCH)
            truth_a, truth_b = answers_of(a.scenes[rows]), answers_of(b.scenes[rows])
            for f, theta in enumerate(torch.linspace(0, 1, FRAMES).tolist()):
                share = torch.full((len(truth_a["shape"]),), theta, device=dalle2.device)
                latents = between(a.latents[rows], b.latents[rows], share)
                frame = decode(dalle2.decoder, latents, WALK)
                logits = _logits(judge, frame)
                p_a, p_b = probabilities(logits, truth_a, truth_b)
                curves[:, f] += torch.tensor([p_a.sum(), p_b.sum()]) / n
                if theta in (0, 1):
                    answers = {name: value.argmax(-1) for name, value in logits.items()}
                    ends += int(same_scene(truth_b if theta else truth_a, answers).sum())
    yield _row("interpolation: ends are their scenes", ends, 2 * n)
    steps = curves.diff() * torch.tensor([[-1.0], [1.0]])  # the first should decrease
    monotone = _row("interpolation: steps that lead on", int((steps > 0).sum()), steps.numel())
    yield monotone | {"first": curves[0].tolist(), "second": curves[1].tolist()}


def text_diff_rows(
    dalle2: DALLE2, judge: Judge, attribute: str, n: int, seed: int
) -> Iterator[dict]:
    """Changes one attribute of a scene with one object by two complete captions.

    The rows are the share of pictures in which the attribute flips, and the share of the other
    attributes that stay. The angle is as large as the angle between the captions. With theta 0.5
    for all pictures, sizes flipped in two thirds of them, and some shapes were lost.
    """
    scenes = _scenes(n, seed, ("one",))
    wanted = changed(scenes, attribute, torch.Generator().manual_seed(seed))
    pictures = _inverted(dalle2, scenes)
    old, new = full_captions(scenes), full_captions(wanted)
    edited = []
    with working(f"editing the {attribute}", decoding_work(dalle2.decoder, CLEARER, n)):
        for i in range(0, n, BATCH):
            rows = slice(i, i + BATCH)
            latents, captions = pictures.latents[rows], (old[rows], new[rows])
            z_d = direction(dalle2.clip, dalle2.tokenizer, *captions)
            theta = fitting_theta(dalle2.clip, dalle2.tokenizer, latents.z_i, *captions)
            edited.append(edit(dalle2.decoder, latents, z_d, theta, CLEARER))
    kept = attributes_kept(wanted, read(judge, torch.cat(edited)))
    others = torch.cat([kept[name] for name in VALUES if name != attribute])
    yield _row(f"text diff, {attribute}: flipped", int(kept[attribute].sum()), n)
    yield _row(f"text diff, {attribute}: others kept", int(others.sum()), others.numel())


def changed(scenes: Scenes, attribute: str, generator: torch.Generator) -> Scenes:
    """Scenes of one object with another colour, shape, size or background, without held-out pairs.

    Everything else stays the same, including the position of the object.
    """
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
    """Captions that contain everything, always in the same phrasing.

    For example: 'a small red circle in the center on a white background'.
    """
    everything = torch.ones(len(scenes), dtype=torch.bool)
    said = replace(
        scenes, says_sizes=everything, says_places=everything, says_background=everything
    )
    return [describe(said[k : k + 1], random.Random(0))[0] for k in range(len(said))]


def attributes_kept(scenes: Scenes, answers: dict[str, Tensor]) -> dict[str, Tensor]:
    """→ {attribute: bool}, where the judge reads the true value.

    Colour, shape and size have a value for each object (objects,), the background has one for each
    scene (B,). If the judge sees no object at a place, all attributes of that object count as
    wrong.
    """
    truth = answers_of(scenes)
    objects, there = truth["shape"] != NOTHING, answers["shape"] != NOTHING  # (B, 9)
    kept = {k: ((answers[k] == truth[k]) & there)[objects] for k in ("colour", "shape", "size")}
    return kept | {"background": (answers["background"] == truth["background"])[:, 0]}


def same_scene(truth: dict[str, Tensor], answers: dict[str, Tensor]) -> Tensor:
    """(B,) bool: the judge reads all attributes correctly and sees no other object."""
    right = [((answers[k] == truth[k]) | (truth[k] < 0)).all(1) for k in HEADS]
    return torch.stack(right).all(0)


def probabilities(
    logits: dict[str, Tensor], truth_a: dict[str, Tensor], truth_b: dict[str, Tensor]
) -> tuple[Tensor, Tensor]:
    """→ (B,), (B,): the judge's probabilities of the answers of a and of b.

    They are means over the questions that both scenes answer differently, and 0 if there is none.
    """
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
    works = inversion_work(dalle2.clip, dalle2.decoder, WALK, len(scenes))
    with working(f"inverting {len(scenes)} pictures", works):
        parts = [invert(dalle2.clip, dalle2.decoder, part, WALK) for part in images.split(BATCH)]
    return Pictures(scenes, images, Latents.joined(parts))


def _scenes(n: int, seed: int, kinds: tuple[str, ...]) -> Scenes:
    return sample_scenes(n, "seen", torch.Generator().manual_seed(1_000 * seed + 500), kinds)


def _row(name: str, right: int, n: int) -> dict:
    return row("manipulations", name, "seen", right, n)
