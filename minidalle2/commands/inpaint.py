"""`minidalle2 inpaint`: pictures and a mask → the pictures, redrawn where the mask is white."""

from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from minidalle2.commands.manipulate import (
    SIDE,
    compare,
    enlarge,
    finish,
    load,
    read_images,
    settings_of,
    shrunk,
)
from minidalle2.commands.options import say_unseen
from minidalle2.commands.output_folder import output_folder
from minidalle2.commands.results import CHUNK, Drawn
from minidalle2.dalle2 import DALLE2
from minidalle2.evaluation.work import enlarging_work, inpainting_work
from minidalle2.manipulations.inpainting import Resampling, conditioned, inpaint
from minidalle2.manipulations.inversion import Walk, decoder_noise
from minidalle2.storage.file_names import file_of
from minidalle2.storage.pictures import load_square, size_of, to_uint8

WHITE = 128  # mean of RGB, 0 to 255, from which a pixel of the mask counts as white
REMEDY = "; paint white what should be redrawn and black what should be kept"
TRANSPARENT = (
    ", because its transparent part counts as white; paint black what should be kept, or save the "
    "mask without transparency on a black background"
)
GRAY = 0.0  # in [-1, 1]: shown in the grid where the given picture is redrawn


def run(args: Namespace) -> None:
    images = read_images(args.images)
    known = read_mask(args.mask, args.images)
    dalle2, walk = load(args)
    if args.new:
        say_unseen([args.new], dalle2.tokenizer, args.world)
    folder = output_folder(args.out, [*args.images, args.mask])
    compare(dalle2, images, args)
    kept = shrunk(images, args.size).masked_fill(~known_at(known, args.size), GRAY)
    first = {_label(args, k): [picture] for k, picture in enumerate(to_uint8(kept))}
    total = len(images) * args.n
    works = inpainting_work(dalle2, args.new, Resampling(walk.steps), walk.guidance, total)
    works += enlarging_work(dalle2, total, args.size)
    finish(folder, inpainted(dalle2, images, known, walk, args), total, first, args.size, works)


def read_mask(path: Path, images: list[Path]) -> Tensor:
    """→ (1, 1, 128, 128) bool: True where the pictures are kept, because the mask is not white.

    Raises ValueError if the mask is not a picture, if its size differs from that of a picture, or
    if all or none of it is white.
    """
    mask = load_square(path, SIDE)
    known = known_in(mask)
    w, h = size_of(path)
    for image in images:
        width, height = size_of(image)
        if (w, h) != (width, height):
            raise ValueError(
                f"the mask {path} has {w}x{h} pixels, but {image} has {width}x{height}; a mask of "
                "the same size would work"
            )
    if known.all():
        raise ValueError(f"the mask {path} has nothing white in its square centre{_darkness(mask)}")
    if not known.any():
        on_black = known_in(load_square(path, SIDE, paper="black"))
        reason = TRANSPARENT if on_black.any() else REMEDY
        raise ValueError(f"the mask {path} is completely white in its square centre{reason}")
    return known[None, None]


def known_in(mask: Tensor) -> Tensor:
    """(3, S, S) uint8 → (S, S) bool: True where the mask is not white."""
    return mask.float().mean(0) < WHITE


def _darkness(mask: Tensor) -> str:
    """Why nothing of a mask counts as white, and what would help."""
    lightest = round(mask.float().mean(0).max().item())
    if lightest == 0:
        return REMEDY
    return (
        f", because its lightest pixel has the value {lightest}, and white are the values from "
        f"{WHITE} to 255; save it with 255 where something should be redrawn and 0 elsewhere"
    )


def known_at(known: Tensor, size: int) -> Tensor:
    """(1, 1, 128, 128) bool → (1, 1, size, size): a pixel is known if all of its pixels are."""
    return F.max_pool2d((~known).float(), SIDE // size) == 0


def inpainted(
    dalle2: DALLE2, images: Tensor, known: Tensor, walk: Walk, args: Namespace
) -> Iterator[Drawn]:
    """Draws n results of each picture, with the seeds S, S + 1, …

    The known pixels of the result are those of the given picture, at every size.
    """
    decoder, resampling = dalle2.decoder, Resampling(walk.steps)
    small = shrunk(images, decoder.config.image_size).to(dalle2.device)
    known32 = known_at(known, decoder.config.image_size).to(dalle2.device)
    given, known_here = to_uint8(shrunk(images, args.size)), known_at(known, args.size)
    jobs = [(k, args.seed + i) for k in range(len(images)) for i in range(args.n)]
    settings = settings_of(dalle2, walk, args.size)
    for start in range(0, len(jobs), CHUNK):
        part = jobs[start : start + CHUNK]
        rows, seeds = [k for k, _ in part], [seed for _, seed in part]
        denoise = conditioned(dalle2, small[rows], args.new, seeds, walk.guidance)
        image32 = inpaint(
            decoder.diffusion, denoise, small[rows], known32, resampling, decoder_noise(seeds)
        )
        enlarged = enlarge(dalle2, image32, seeds, args.size)
        finished = torch.where(known_here, given[rows], enlarged)
        for i, (k, seed) in enumerate(part):
            path = args.images[k]
            about = {
                "image": str(path),
                "mask": str(args.mask),
                "to": args.new,
                "seed": seed,
                "settings": settings,
            }
            file = file_of(start + i, path.stem, *([args.new] if args.new else []))
            yield Drawn(file, _label(args, k), about, finished[i])


def _label(args: Namespace, k: int) -> str:
    return f"{args.images[k].name}, gray part redrawn" + (f": {args.new}" if args.new else "")
