"""`minidalle2 vary`: pictures → variations of each picture, one PNG per variation."""

from argparse import Namespace
from collections.abc import Iterator

from torch import Tensor

from minidalle2.commands.file_names import file_of
from minidalle2.commands.manipulate import (
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
from minidalle2.manipulations.inversion import Walk, decoder_noise
from minidalle2.manipulations.variations import vary
from minidalle2.storage.pictures import to_uint8


def run(args: Namespace) -> None:
    images = read_images(args.images)
    dalle2, walk = load(args)
    folder = output_folder(args.out, args.images)
    given = to_uint8(shrunk(images, args.size))
    first = {_label(args, k): [picture] for k, picture in enumerate(given)}
    total = len(images) * args.n
    finish(folder, variations(dalle2, images, walk, args), total, first, args.size)


def variations(dalle2: DALLE2, images: Tensor, walk: Walk, args: Namespace) -> Iterator[Drawn]:
    """Draws n variations of each picture, with the seeds S, S + 1, …"""
    latents = invert_all(dalle2, images, walk)
    jobs = [(k, args.seed + i) for k in range(len(images)) for i in range(args.n)]
    settings = settings_of(dalle2, walk, args.size)
    for start in range(0, len(jobs), CHUNK):
        part = jobs[start : start + CHUNK]
        rows, seeds = [k for k, _ in part], [seed for _, seed in part]
        image32 = vary(dalle2.decoder, latents[rows], args.eta, decoder_noise(seeds), walk)
        enlarged = enlarge(dalle2, image32, seeds, args.size)
        for i, (k, seed) in enumerate(part):
            path = args.images[k]
            about = {"image": str(path), "eta": args.eta, "seed": seed, "settings": settings}
            yield Drawn(file_of(start + i, path.stem), _label(args, k), about, enlarged[i])


def _label(args: Namespace, k: int) -> str:
    return f"{args.images[k].name} and variations with eta {args.eta:g}"
