"""`minidalle2 vary`: pictures → variations of each picture, one PNG per variation."""

from argparse import Namespace
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from minidalle2.commands.manipulate import (
    compare,
    enlarge,
    finish,
    invert_all,
    load,
    read_images,
    settings_of,
    shrunk,
)
from minidalle2.commands.output_folder import output_folder
from minidalle2.commands.results import CHUNK, Drawn
from minidalle2.dalle2 import DALLE2
from minidalle2.evaluation.work import decoding_work, enlarging_work
from minidalle2.manipulations.inversion import Latents, Walk, decode, decoder_noise, psnr
from minidalle2.manipulations.variations import vary
from minidalle2.storage.file_names import file_of
from minidalle2.storage.pictures import to_uint8
from minidalle2.storage.progress import working

SCALE = "it is no exact copy; from about 35 dB on, differences are hardly visible"


@dataclass
class Reconstructions:
    """The variations with eta 0, which do not depend on the seed."""

    image32: Tensor  # (B, 3, 32, 32)
    decibels: list[float]  # PSNR of each one


def run(args: Namespace) -> None:
    images = read_images(args.images)
    dalle2, walk = load(args)
    folder = output_folder(args.out, args.images)
    compare(dalle2, images, args)
    given = to_uint8(shrunk(images, args.size))
    first = {_label(args, k): [picture] for k, picture in enumerate(given)}
    total = len(images) * args.n
    latents = invert_all(dalle2, images, walk)
    works, exact = enlarging_work(dalle2, total, args.size), None
    if args.eta == 0:
        exact = reconstructed(dalle2, latents, images, walk)
    else:
        works += decoding_work(dalle2.decoder, walk, total)
    finish(folder, variations(dalle2, latents, walk, args, exact), total, first, args.size, works)
    for path, db in zip(args.images, exact.decibels if exact else [], strict=False):
        print(f"{path}: the reconstruction at 32 px has a PSNR of {db:.1f} dB ({SCALE})")


def reconstructed(dalle2: DALLE2, latents: Latents, images: Tensor, walk: Walk) -> Reconstructions:
    """Decodes the latents of the pictures (B, 3, 128, 128) uint8. Shows a progress bar."""
    small = shrunk(images, dalle2.decoder.config.image_size).to(dalle2.device)
    with working("reconstructing", decoding_work(dalle2.decoder, walk, len(small))):
        starts = range(0, len(small), CHUNK)
        parts = [decode(dalle2.decoder, latents[i : i + CHUNK], walk) for i in starts]
    image32 = torch.cat(parts)
    return Reconstructions(image32, psnr(image32, small).tolist())


def variations(
    dalle2: DALLE2, latents: Latents, walk: Walk, args: Namespace, exact: Reconstructions | None
) -> Iterator[Drawn]:
    """Draws n variations of each picture, with the seeds S, S + 1, …

    `exact` has the variations if eta is 0. The manifest then has their PSNR.
    """
    jobs = [(k, args.seed + i) for k in range(len(latents)) for i in range(args.n)]
    settings = settings_of(dalle2, walk, args.size)
    for start in range(0, len(jobs), CHUNK):
        part = jobs[start : start + CHUNK]
        rows, seeds = [k for k, _ in part], [seed for _, seed in part]
        if exact:
            image32 = exact.image32[rows]
        else:
            image32 = vary(dalle2.decoder, latents[rows], args.eta, decoder_noise(seeds), walk)
        enlarged = enlarge(dalle2, image32, seeds, args.size)
        for i, (k, seed) in enumerate(part):
            path = args.images[k]
            about = {"image": str(path), "eta": args.eta, "seed": seed, "settings": settings}
            if exact:
                about["psnr"] = round(exact.decibels[k], 2)
            yield Drawn(file_of(start + i, path.stem), _label(args, k), about, enlarged[i])


def _label(args: Namespace, k: int) -> str:
    return f"{args.images[k].name} and variations with eta {args.eta:g}"
