"""Fidelity and diversity of unCLIP and GLIDE at several guidance scales of the decoder.

Paper: section 5, figures 9 to 11. The paper claims that guidance makes GLIDE's pictures of one
prompt more and more alike. unCLIP's pictures stay as different as their image embeddings, which
guidance of the decoder does not change. The captions here do not contain sizes, places and
background. Therefore the pictures of one prompt can differ. Letters: n pictures, E embedding.
"""

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from minidalle2.dalle2 import DALLE2, Sampling
from minidalle2.evaluation.drawn import draw_prompts, embed
from minidalle2.evaluation.frechet import frechet_distance
from minidalle2.evaluation.precision_recall import precision_and_recall
from minidalle2.evaluation.rows import mean_row, row, value_row
from minidalle2.worlds.batches import caption_rng
from minidalle2.worlds.shapes.captions import describe
from minidalle2.worlds.shapes.drawing import draw
from minidalle2.worlds.shapes.evaluation.drawn import ONE_DRAWING
from minidalle2.worlds.shapes.evaluation.prompts import follows
from minidalle2.worlds.shapes.judge import Judge, read
from minidalle2.worlds.shapes.scenes import Scenes, sample_scenes

SCALES = (1.0, 1.25, 2.0, 3.0, 4.0)  # those of figure 9, and 1.25, which gave the best FID
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
    """Rows for both models at each scale, on about n pictures of n / 4 prompts at 32 px.

    They contain prompts followed, diversity, and Fréchet distance, precision and recall against
    real pictures of the same prompts. The first row is the diversity of these real pictures. `twin`
    is GLIDE. Each picture has its own z_i from the prior. These z_i are the same at all scales.
    """
    generator = torch.Generator().manual_seed(seed)
    scenes, prompts = short_prompts(-(-n // TOGETHER), generator)
    real = embed(dalle2.clip, draw(others_of(scenes, generator), dalle2.clip.config.image_size))
    yield mean_row("guidance", "real pictures: diversity", SPLIT, diversity(real, TOGETHER))
    imagined = draw_prompts(dalle2, prompts, sampling, None, "image_embeddings", "imagining")
    z_i = torch.cat([made.image_embeddings[:, 0] for made in imagined])
    for label, model in {"unCLIP": dalle2, "GLIDE": twin}.items():
        for scale in scales:
            guided = replace(sampling, decoder_guidance=scale)
            name = f"{label}, guidance {scale:g}"
            drawn = draw_prompts(model, prompts, guided, z_i, "image32", f"drawing {name}")
            pictures = torch.cat([made.image32 for made in drawn])
            followed = follows(scenes, read(judge, pictures))
            z = embed(dalle2.clip, pictures)
            yield from _rows(name, followed, z, real)


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
    """Scenes and prompts of two objects that contain only shapes and colours.

    There are n different prompts, and each comes TOGETHER times in a row.
    """
    scenes = sample_scenes(n, SPLIT, generator, KINDS)
    scenes.says_sizes[:] = scenes.says_places[:] = scenes.says_background[:] = False
    prompts = describe(scenes, caption_rng(generator), SPLIT)
    every = torch.arange(n).repeat_interleave(TOGETHER)
    return scenes[every], [prompts[i] for i in every.tolist()]


def others_of(scenes: Scenes, generator: torch.Generator) -> Scenes:
    """Scenes with the same shapes and colours. Sizes, places and background are drawn again."""
    fresh = sample_scenes(len(scenes), SPLIT, generator, KINDS)
    return replace(fresh, shape=scenes.shape, colour=scenes.colour)


def diversity(z: Tensor, together: int) -> Tensor:
    """Embeddings of pictures (n · together, E), unit length → (n,) diversity of each prompt.

    The pictures of a prompt are adjacent rows. Diversity is 1 − the mean cosine of two different
    pictures of one prompt.
    """
    z = z.unflatten(0, (-1, together))
    cosines = (z @ z.mT).sum((1, 2)) - together  # without the cosine of each picture with itself
    return 1 - cosines / (together * (together - 1))


def diversity_left(rows: list[dict], label: str, scales: tuple[float, ...] = SCALES) -> float:
    """The share of the diversity at the lowest guidance that is left at the highest guidance.

    It is 0 if there was no diversity at the lowest guidance.
    """
    value = {row["name"]: row["value"] for row in rows if "value" in row}
    low, high = (value[DIVERSITY.format(label, scale)] for scale in (scales[0], scales[-1]))
    return high / low if low > 0 else 0.0


def unclip_stays_diverse(rows: list[dict], scales: tuple[float, ...] = SCALES) -> bool:
    """The paper's claim: guidance costs unCLIP a smaller share of its diversity than GLIDE."""
    return diversity_left(rows, "unCLIP", scales) > diversity_left(rows, "GLIDE", scales)
