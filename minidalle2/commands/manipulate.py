"""Shared by the commands that start from pictures: reading, inverting and enlarging pictures."""

import time
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from minidalle2.commands.familiarity import say_comparison
from minidalle2.commands.options import weights_of
from minidalle2.commands.results import (
    CHUNK,
    Drawn,
    drawing,
    save_strips,
    say_where,
    write_results,
)
from minidalle2.dalle2 import DALLE2
from minidalle2.evaluation.work import inversion_work
from minidalle2.manipulations.inversion import Latents, Walk, invert
from minidalle2.storage.devices import pick_device
from minidalle2.storage.pictures import load_square, to_uint8
from minidalle2.storage.progress import Work, doing, working

SIDE = 128  # px to which a given picture is cropped and resized, as in training on a folder
UNHEARD = "a picture"  # `generate` needs a prompt, but the upsamplers do not use it


def read_images(paths: list[Path]) -> Tensor:
    """→ (B, 3, 128, 128) uint8: the square centres of the pictures.

    Raises ValueError for the first file that is not a readable picture.
    """
    return torch.stack([load_square(path, SIDE) for path in paths])


def load(args: Namespace) -> tuple[DALLE2, Walk]:
    """The model of --world and --weights, and the Walk that --steps and --guidance describe.

    Raises ValueError if --steps is larger than the number of timesteps of these weights.
    """
    device = pick_device(args.device)
    with doing("loading the weights"):
        dalle2 = DALLE2.load(weights_of(args.world, args.weights), device)
    walk = Walk(args.steps, args.guidance, guided_above=dalle2.sampling.decoder_guided_above)
    diffusion = dalle2.decoder.diffusion
    most = len(diffusion.schedule) - diffusion.lowest
    if walk.steps > most:
        raise ValueError(
            f"--steps {walk.steps} is more than the {most} timesteps of these weights; {most} or "
            "fewer would work"
        )
    return dalle2, walk


def shrunk(images: Tensor, size: int) -> Tensor:
    """(B, 3, 128, 128) uint8 → (B, 3, size, size) in [-1, 1], by averaging, as in training."""
    return F.avg_pool2d(images / 127.5 - 1, SIDE // size)


def compare(dalle2: DALLE2, images: Tensor, args: Namespace) -> None:
    """Prints how far the given pictures (B, 3, 128, 128) uint8 are from the training pictures."""
    small = shrunk(images, dalle2.decoder.config.image_size)
    say_comparison(dalle2, weights_of(args.world, args.weights), args.images, small)


def invert_all(dalle2: DALLE2, images: Tensor, walk: Walk) -> Latents:
    """(B, 3, 128, 128) uint8 → the latents of the B pictures. Shows a progress bar."""
    small = shrunk(images, dalle2.decoder.config.image_size).to(dalle2.device)
    activity = f"inverting {len(images)} picture{'s' if len(images) > 1 else ''}"
    with working(activity, inversion_work(dalle2.clip, dalle2.decoder, walk, len(images))):
        parts = [invert(dalle2.clip, dalle2.decoder, part, walk) for part in small.split(CHUNK)]
    return Latents.joined(parts)


def enlarge(dalle2: DALLE2, image32: Tensor, seeds: list[int], size: int) -> Tensor:
    """(B, 3, 32, 32) in [-1, 1] → (B, 3, size, size) uint8 on the CPU, by the upsamplers.

    The noise is the same as that of `draw` with these seeds.
    """
    if size == image32.shape[-1]:
        return to_uint8(image32).cpu()
    made = dalle2.generate(
        [UNHEARD] * len(seeds), seeds, stop_after=f"image{size}", image32=image32
    )
    return to_uint8(getattr(made, f"image{size}")).cpu()


def settings_of(dalle2: DALLE2, walk: Walk, size: int) -> dict:
    """The settings of a picture, for the manifest."""
    sampling = asdict(dalle2.sampling)
    upsampling = {name: value for name, value in sampling.items() if name.startswith("upsampler")}
    lowest = dalle2.decoder.diffusion.lowest
    return {**asdict(walk), "lowest": lowest, **upsampling, "size": size}


def finish(
    folder: Path,
    pictures: Iterator[Drawn],
    total: int,
    first: dict[str, list[Tensor]],
    size: int,
    works: list[Work],
) -> None:
    """Writes all pictures and the grid, and prints where they are.

    `first` has the given pictures of each label. The grid shows them before the drawn ones.
    `works` is the work that `pictures` needs, for the progress bar.
    """
    started = time.monotonic()
    with working(drawing(total), works):
        grid = partial(save_strips, first=first, path=folder / "grid.png")
        written = write_results(folder, pictures, grid)
    say_where(written, total, size, time.monotonic() - started, folder)
    print(f"seeds and settings: {folder / 'manifest.jsonl'}")
