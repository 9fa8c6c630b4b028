"""`minidalle2 vary`: pictures → variations of each picture, one PNG per variation."""

from argparse import Namespace
from collections.abc import Iterator

from minidalle2.commands.manipulate import (
    enlarge,
    file_of,
    finish,
    invert_all,
    load,
    read_images,
    settings_of,
    shrunk,
)
from minidalle2.commands.options import make_folder
from minidalle2.commands.results import CHUNK, Drawn
from minidalle2.dalle2 import DALLE2
from minidalle2.evaluation.work import decoding_work, enlarging_work
from minidalle2.manipulations.inversion import Latents, Walk, decoder_noise
from minidalle2.manipulations.variations import vary
from minidalle2.storage.pictures import to_uint8


def run(args: Namespace) -> None:
    images = read_images(args.images)
    dalle2, walk = load(args)
    folder = make_folder(args.out)
    given = to_uint8(shrunk(images, args.size))
    first = {_label(args, k): [picture] for k, picture in enumerate(given)}
    total = len(images) * args.n
    latents = invert_all(dalle2, images, walk)
    works = decoding_work(dalle2.decoder, walk, total)
    works += enlarging_work(dalle2, total, args.size)
    finish(folder, variations(dalle2, latents, walk, args), total, first, args.size, works)


def variations(dalle2: DALLE2, latents: Latents, walk: Walk, args: Namespace) -> Iterator[Drawn]:
    """Draws n variations of each picture, with the seeds S, S + 1, …"""
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
            yield Drawn(file_of(start + i, path.stem), _label(args, k), about, enlarged[i])


def _label(args: Namespace, k: int) -> str:
    return f"{args.images[k].name} and variations with eta {args.eta:g}"
