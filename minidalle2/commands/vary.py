"""`minidalle2 vary`: pictures → variations of each picture, one PNG per variation."""

from argparse import Namespace
from collections.abc import Iterator

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


def run(args: Namespace) -> None:
    images = read_images(args.images)
    dalle2, walk = load(args)
    folder = output_folder(args.out, args.images)
    compare(dalle2, images, args)
    given = to_uint8(shrunk(images, args.size))
    first = {_label(args, k): [picture] for k, picture in enumerate(given)}
    total = len(images) * args.n
    latents = invert_all(dalle2, images, walk)
    works = decoding_work(dalle2.decoder, walk, total)
    works += enlarging_work(dalle2, total, args.size)
    small = shrunk(images, dalle2.decoder.config.image_size).to(dalle2.device)
    decibels = exactness(dalle2, latents, small, walk) if args.eta == 0 else []
    drawn = variations(dalle2, latents, walk, args, decibels)
    finish(folder, drawn, total, first, args.size, works)
    for path, db in zip(args.images, decibels, strict=False):
        print(f"{path}: the reconstruction at 32 px has a PSNR of {db:.1f} dB ({SCALE})")


def exactness(dalle2: DALLE2, latents: Latents, small: Tensor, walk: Walk) -> list[float]:
    """The PSNR in dB of the reconstruction of each picture `small` (B, 3, 32, 32)."""
    with working("reconstructing", decoding_work(dalle2.decoder, walk, len(small))):
        starts = range(0, len(small), CHUNK)
        parts = [decode(dalle2.decoder, latents[i : i + CHUNK], walk) for i in starts]
    return psnr(torch.cat(parts), small).tolist()


def variations(
    dalle2: DALLE2, latents: Latents, walk: Walk, args: Namespace, decibels: list[float]
) -> Iterator[Drawn]:
    """Draws n variations of each picture, with the seeds S, S + 1, …

    With eta 0 the variations are reconstructions. Then `decibels` has the PSNR of each of them, for
    the manifest.
    """
    jobs = [(k, args.seed + i) for k in range(len(latents)) for i in range(args.n)]
    settings = settings_of(dalle2, walk, args.size)
    for start in range(0, len(jobs), CHUNK):
        part = jobs[start : start + CHUNK]
        rows, seeds = [k for k, _ in part], [seed for _, seed in part]
        image32 = vary(dalle2.decoder, latents[rows], args.eta, decoder_noise(seeds), walk)
        enlarged = enlarge(dalle2, image32, seeds, args.size)
        for i, (k, seed) in enumerate(part):
            path = args.images[k]
            about = {"image": str(path), "eta": args.eta, "seed": seed, "settings": settings}
            if decibels:
                about["psnr"] = round(decibels[k], 2)
            yield Drawn(file_of(start + i, path.stem), _label(args, k), about, enlarged[i])


def _label(args: Namespace, k: int) -> str:
    return f"{args.images[k].name} and variations with eta {args.eta:g}"
