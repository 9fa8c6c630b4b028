"""`minidalle2 vary`: pictures → variations of each picture, one PNG per variation."""

from argparse import Namespace
from collections.abc import Iterator

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
from minidalle2.manipulations.inversion import Latents, Walk, decoder_noise, psnr
from minidalle2.manipulations.variations import vary
from minidalle2.storage.file_names import file_of
from minidalle2.storage.pictures import to_uint8

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
    exactness: dict[str, float] = {}
    drawn = variations(dalle2, latents, small, walk, args, exactness)
    finish(folder, drawn, total, first, args.size, works)
    for name, decibels in exactness.items():
        print(f"{name}: the reconstruction at 32 px has a PSNR of {decibels:.1f} dB ({SCALE})")


def variations(
    dalle2: DALLE2,
    latents: Latents,
    small: Tensor,
    walk: Walk,
    args: Namespace,
    exactness: dict[str, float],
) -> Iterator[Drawn]:
    """Draws n variations of each picture, with the seeds S, S + 1, …

    With eta 0 the variations are reconstructions. Then their PSNR in dB, compared with the pictures
    `small` (B, 3, 32, 32), is written to the manifest and, for each path, to `exactness`.
    """
    jobs = [(k, args.seed + i) for k in range(len(latents)) for i in range(args.n)]
    settings = settings_of(dalle2, walk, args.size)
    for start in range(0, len(jobs), CHUNK):
        part = jobs[start : start + CHUNK]
        rows, seeds = [k for k, _ in part], [seed for _, seed in part]
        image32 = vary(dalle2.decoder, latents[rows], args.eta, decoder_noise(seeds), walk)
        decibels = psnr(image32, small[rows]).tolist()
        enlarged = enlarge(dalle2, image32, seeds, args.size)
        for i, (k, seed) in enumerate(part):
            path = args.images[k]
            about = {"image": str(path), "eta": args.eta, "seed": seed, "settings": settings}
            if args.eta == 0:
                about["psnr"] = exactness[str(path)] = round(decibels[i], 2)
            yield Drawn(file_of(start + i, path.stem), _label(args, k), about, enlarged[i])


def _label(args: Namespace, k: int) -> str:
    return f"{args.images[k].name} and variations with eta {args.eta:g}"
