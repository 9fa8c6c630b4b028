"""Fidelity and diversity over the decoder's guidance, unCLIP against its GLIDE twin (paper, section
5, figures 9 to 11).

The paper's claim: guidance makes GLIDE's pictures of a prompt ever more alike, while unCLIP's stay
as different as their image embeddings, which guiding the decoder does not change. Captions here
leave sizes, places and background unsaid, so that there is something to differ in.
"""

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from minidalle2.dalle2 import DALLE2, Sampling
from minidalle2.evaluation.frechet import frechet_distance
from minidalle2.evaluation.precision_recall import precision_and_recall
from minidalle2.evaluation.rows import mean_row, row, value_row
from minidalle2.evaluation.drawn import draw_prompts, embed
from minidalle2.evaluation.shapes.drawn import ONE_DRAWING
from minidalle2.evaluation.shapes.judge import Judge, read
from minidalle2.evaluation.shapes.prompts import follows
from minidalle2.worlds.shapes.captions import describe
from minidalle2.worlds.shapes.drawing import draw
from minidalle2.worlds.shapes.scenes import Scenes, sample_scenes
from minidalle2.worlds.shapes.world import caption_rng

SCALES = (1.0, 1.25, 2.0, 3.0, 4.0)  # figure 9's, and the 1.25 that its best FID took
TOGETHER = 4  # pictures of each prompt
SPLIT, KINDS = "seen", ("two",)
DIVERSITY = "{}, guidance {:g}: diversity"


def guidance_rows(
    dalle2: DALLE2,
    judge: Judge,
    twin: DALLE2,
    n: int,
    seed: int,
    sampling: Sampling = ONE_DRAWING,
    scales: tuple[float, ...] = SCALES,
) -> Iterator[dict]:
    """For both models at each scale, on about n pictures of n / 4 prompts at 32 px: prompts
    followed, diversity, Fréchet distance, precision and recall against real pictures of the same
    prompts, whose own diversity is the first row.

    Every picture has a z_i of its own from the prior, which is frozen over the scales.
    """
    generator = torch.Generator().manual_seed(seed)
    scenes, prompts = short_prompts(-(-n // TOGETHER), generator)
    real = embed(dalle2.clip, draw(others_of(scenes, generator), dalle2.clip.config.image_size))
    yield mean_row("guidance", "real pictures: diversity", SPLIT, diversity(real, TOGETHER))
    imagined = draw_prompts(dalle2, prompts, sampling, stop_after="image_embedding")
    z_i = torch.cat([made.image_embedding for made in imagined])
    for label, model in {"unCLIP": dalle2, "GLIDE": twin}.items():
        for scale in scales:
            guided = replace(sampling, decoder_guidance=scale)
            drawn = draw_prompts(model, prompts, guided, z_i, stop_after="image32")
            pictures = torch.cat([made.image32 for made in drawn])
            followed = follows(scenes, read(judge, pictures))
            z = embed(dalle2.clip, pictures)
            yield from _rows(f"{label}, guidance {scale:g}", followed, z, real)


def _rows(label: str, followed: Tensor, drawn: Tensor, real: Tensor) -> Iterator[dict]:
    n = len(drawn)
    yield row("guidance", f"{label}: followed", SPLIT, int(followed.sum()), n)
    yield mean_row("guidance", f"{label}: diversity", SPLIT, diversity(drawn, TOGETHER))
    distance = frechet_distance(drawn, real)
    yield value_row("guidance", f"{label}: Fréchet distance", SPLIT, distance, n)
    precision, recall = precision_and_recall(drawn, real)
    yield value_row("guidance", f"{label}: precision", SPLIT, precision, n)
    yield value_row("guidance", f"{label}: recall", SPLIT, recall, n)


def short_prompts(n: int, generator: torch.Generator) -> tuple[Scenes, list[str]]:
    """n prompts of two objects that say no more than their shapes and colours, each TOGETHER times
    in a row."""
    scenes = sample_scenes(n, SPLIT, generator, KINDS)
    scenes.says_sizes[:] = scenes.says_places[:] = scenes.says_background[:] = False
    prompts = describe(scenes, caption_rng(generator), SPLIT)
    every = torch.arange(n).repeat_interleave(TOGETHER)
    return scenes[every], [prompts[i] for i in every.tolist()]


def others_of(scenes: Scenes, generator: torch.Generator) -> Scenes:
    """Scenes of the same objects, with what short prompts leave unsaid drawn anew for each."""
    fresh = sample_scenes(len(scenes), SPLIT, generator, KINDS)
    return replace(fresh, shape=scenes.shape, colour=scenes.colour)


def diversity(z: Tensor, together: int) -> Tensor:
    """(n · together, E) unit embeddings of pictures, those of a prompt in a row → (n,): one less
    the mean cosine of two different pictures of the prompt."""
    z = z.unflatten(0, (-1, together))
    cosines = (z @ z.mT).sum((1, 2)) - together  # without each picture with itself
    return 1 - cosines / (together * (together - 1))


def diversity_left(rows: list[dict], label: str, scales: tuple[float, ...] = SCALES) -> float:
    """What is left at the highest guidance of the diversity at the lowest; of none, nothing."""
    value = {row["name"]: row["value"] for row in rows if "value" in row}
    low, high = (value[DIVERSITY.format(label, scale)] for scale in (scales[0], scales[-1]))
    return high / low if low > 0 else 0.0


def unclip_stays_diverse(rows: list[dict], scales: tuple[float, ...] = SCALES) -> bool:
    """The paper's claim: guidance costs unCLIP a smaller part of its diversity than its twin."""
    return diversity_left(rows, "unCLIP", scales) > diversity_left(rows, "GLIDE", scales)
