"""What commands share that begin with pictures: reading them, latents, pictures of any size."""

import time
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from minidalle2.commands.options import pick_device, weights_of
from minidalle2.commands.results import (
    CHUNK, Drawn, save_strips, say_where, slug, write_pictures,
)  # fmt: skip
from minidalle2.dalle2 import DALLE2, Sampling
from minidalle2.manipulations.inversion import Latents, Walk, invert
from minidalle2.pictures import load_square, to_uint8

SIDE = 128  # of what is kept of a given picture, as of those of a folder that is trained on
UNHEARD = "a picture"  # `generate` wants a prompt, but the upsamplers hear none


def read_images(paths: list[Path]) -> Tensor:
    """→ (B, 3, 128, 128) uint8, their middles. Raises ValueError for the first that is none."""
    return torch.stack([load_square(path, SIDE) for path in paths])


def load(args: Namespace) -> tuple[DALLE2, Walk]:
    """The machine of --world and --weights, and how --steps and --guidance have it walk."""
    device = pick_device(args.device)
    dalle2 = DALLE2.load(weights_of(args.world, args.weights), device)
    walk = Walk(args.steps, args.guidance)
    most = len(dalle2.decoder.diffusion.schedule) - walk.lowest
    if walk.steps > most:
        raise ValueError(f"--steps {walk.steps} is more than the {most} that these weights have")
    return dalle2, walk


def shrunk(images: Tensor, size: int) -> Tensor:
    """(B, 3, 128, 128) uint8 → (B, 3, size, size) in [-1, 1], by averages, as in training."""
    return F.avg_pool2d(images / 127.5 - 1, SIDE // size)


def invert_all(dalle2: DALLE2, images: Tensor, walk: Walk) -> Latents:
    """(B, 3, 128, 128) uint8 → their latents, B."""
    small = shrunk(images, dalle2.decoder.config.image_size).to(dalle2.device)
    parts = [invert(dalle2.clip, dalle2.decoder, part, walk) for part in small.split(CHUNK)]
    return Latents.joined(parts)


def enlarge(dalle2: DALLE2, image32: Tensor, seeds: list[int], size: int) -> Tensor:
    """(B, 3, 32, 32) in [-1, 1] → (B, 3, size, size) uint8 on the CPU, by the upsamplers, with the
    noise that `draw` has for these seeds."""
    if size == image32.shape[-1]:
        return to_uint8(image32).cpu()
    made = dalle2.generate(
        [UNHEARD] * len(seeds), seeds, stop_after=f"image{size}", image32=image32
    )
    return to_uint8(getattr(made, f"image{size}")).cpu()


def settings_of(walk: Walk, size: int) -> dict:
    """What the manifest says of how a picture was made."""
    upsampling = {k: v for k, v in asdict(Sampling()).items() if k.startswith("upsampler")}
    return {**asdict(walk), **upsampling, "size": size}


def file_of(i: int, *names: str) -> str:
    """0003_cat_to_dog.png"""
    return f"{i:04d}_{slug(' '.join(names))}.png"


def finish(
    folder: Path, pictures: Iterator[Drawn], total: int, first: dict[str, list[Tensor]], size: int
) -> None:
    """Writes what is drawn; `first` are the given pictures of each label, for the grid."""
    started = time.monotonic()
    written = write_pictures(folder, pictures, total)
    save_strips(written, first, folder / "grid.png")
    say_where(written, total, size, time.monotonic() - started, folder)
    print(f"seeds and settings in {folder / 'manifest.jsonl'}")
