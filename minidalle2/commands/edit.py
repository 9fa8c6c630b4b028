"""`minidalle2 edit`: pictures and two captions → each picture on its way from one to the other."""

from argparse import Namespace
from collections.abc import Iterator

import torch
from torch import Tensor

from minidalle2.commands.manipulate import (
    enlarge, file_of, finish, invert_all, load, read_images, settings_of, shrunk,
)  # fmt: skip
from minidalle2.commands.options import make_folder, say_unseen
from minidalle2.commands.results import CHUNK, Drawn
from minidalle2.dalle2 import DALLE2
from minidalle2.manipulations.inversion import Walk
from minidalle2.manipulations.text_diff import direction, edit
from minidalle2.pictures import to_uint8


def run(args: Namespace) -> None:
    images = read_images(args.images)
    dalle2, walk = load(args)
    z_d = direction(dalle2.clip, dalle2.tokenizer, [args.old], [args.new])
    say_unseen([args.old, args.new], dalle2.tokenizer, args.world)
    folder = make_folder(args.out)
    given = to_uint8(shrunk(images, args.size))
    first = {_label(args, k): [picture] for k, picture in enumerate(given)}
    frames = edited(dalle2, images, z_d, walk, args)
    finish(folder, frames, len(images) * args.frames, first, args.size)


def edited(
    dalle2: DALLE2, images: Tensor, z_d: Tensor, walk: Walk, args: Namespace
) -> Iterator[Drawn]:
    """Of each picture `frames`, theta from 0 to the one asked for; a single frame has all of it."""
    if args.frames == 1:
        thetas = [args.theta]
    else:
        thetas = torch.linspace(0, args.theta, args.frames, dtype=torch.float64).tolist()
    latents = invert_all(dalle2, images, walk)
    jobs = [(k, theta) for k in range(len(images)) for theta in thetas]
    settings = settings_of(walk, args.size)
    for start in range(0, len(jobs), CHUNK):
        part = jobs[start : start + CHUNK]
        rows, seeds = [k for k, _ in part], [args.seed] * len(part)
        theta = torch.tensor([[theta] for _, theta in part], device=dalle2.device)
        image32 = edit(dalle2.decoder, latents[rows], z_d, theta, walk)
        enlarged = enlarge(dalle2, image32, seeds, args.size)
        for i, (k, share) in enumerate(part):
            path = args.images[k]
            about = {
                "image": str(path), "from": args.old, "to": args.new, "theta": round(share, 6),
                "seed": args.seed, "settings": settings,
            }  # fmt: skip
            file = file_of(start + i, path.stem, "to", args.new)
            yield Drawn(file, _label(args, k), about, enlarged[i])


def _label(args: Namespace, k: int) -> str:
    return f"{args.images[k].name}, {args.old} to {args.new}, theta to {args.theta:g}"
