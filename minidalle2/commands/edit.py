"""`minidalle2 edit`: pictures and two captions → each picture edited from the old to the new."""

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
from minidalle2.commands.options import say_unseen
from minidalle2.commands.output_folder import output_folder
from minidalle2.commands.results import CHUNK, Drawn
from minidalle2.dalle2 import DALLE2
from minidalle2.evaluation.work import decoding_work, enlarging_work
from minidalle2.manipulations.inversion import Latents, Walk
from minidalle2.manipulations.text_diff import direction, edit, fitting_theta
from minidalle2.storage.file_names import file_of
from minidalle2.storage.pictures import to_uint8


def run(args: Namespace) -> None:
    images = read_images(args.images)
    dalle2, walk = load(args)
    z_d = direction(dalle2.clip, dalle2.tokenizer, [args.old], [args.new])
    say_unseen([args.old, args.new], dalle2.tokenizer, args.world)
    folder = output_folder(args.out, args.images)
    compare(dalle2, images, args)
    latents = invert_all(dalle2, images, walk)
    farthest = thetas_of(dalle2, latents, args)
    given = to_uint8(shrunk(images, args.size))
    first = {_label(args, k, farthest[k]): [picture] for k, picture in enumerate(given)}
    frames = edited(dalle2, latents, z_d, farthest, walk, args)
    total = len(images) * args.frames
    works = decoding_work(dalle2.decoder, walk, total)
    works += enlarging_work(dalle2, total, args.size)
    finish(folder, frames, total, first, args.size, works)


def thetas_of(dalle2: DALLE2, latents: Latents, args: Namespace) -> list[float]:
    """The largest theta of each picture: --theta, or else the angle between the two captions."""
    if args.theta is not None:
        return [args.theta] * len(latents)
    captions = [args.old], [args.new]  # one pair for all pictures
    return fitting_theta(dalle2.clip, dalle2.tokenizer, latents.z_i, *captions)[:, 0].tolist()


def edited(
    dalle2: DALLE2,
    latents: Latents,
    z_d: Tensor,
    farthest: list[float],
    walk: Walk,
    args: Namespace,
) -> Iterator[Drawn]:
    """Draws `frames` pictures of each input, with theta from 0 to the largest theta of the input.

    A single frame has the largest theta.
    """
    shares = [1.0] if args.frames == 1 else [i / (args.frames - 1) for i in range(args.frames)]
    jobs = [(k, share * most) for k, most in enumerate(farthest) for share in shares]
    settings = settings_of(dalle2, walk, args.size)
    for start in range(0, len(jobs), CHUNK):
        part = jobs[start : start + CHUNK]
        rows, seeds = [k for k, _ in part], [args.seed] * len(part)
        theta = torch.tensor([[theta] for _, theta in part], device=dalle2.device)
        image32 = edit(dalle2.decoder, latents[rows], z_d, theta, walk)
        enlarged = enlarge(dalle2, image32, seeds, args.size)
        for i, (k, theta_k) in enumerate(part):
            path = args.images[k]
            about = {
                "image": str(path),
                "from": args.old,
                "to": args.new,
                "theta": round(theta_k, 6),
                "seed": args.seed,
                "settings": settings,
            }
            file = file_of(start + i, path.stem, "to", args.new)
            yield Drawn(file, _label(args, k, farthest[k]), about, enlarged[i])


def _label(args: Namespace, k: int, farthest: float) -> str:
    return f"{args.images[k].name}, {args.old} to {args.new}, theta to {farthest:.2f}"
