"""`minidalle2 blend`: pictures and texts → an interpolation of two of them, or mixtures of more."""

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
from minidalle2.commands.options import say_unseen
from minidalle2.commands.output_folder import output_folder
from minidalle2.commands.results import CHUNK, Drawn
from minidalle2.dalle2 import DALLE2
from minidalle2.evaluation.work import decoding_work, drawing_work, enlarging_work
from minidalle2.manipulations.blending import latents_of_text, mix, starting_noise
from minidalle2.manipulations.interpolation import between
from minidalle2.manipulations.inversion import Latents, Walk, decode
from minidalle2.storage.file_names import file_of
from minidalle2.storage.pictures import to_uint8
from minidalle2.storage.progress import working


@dataclass
class Frame:
    """A picture to decode."""

    latents: Latents  # B = 1
    about: dict  # for the manifest
    seed: int  # of the upsamplers' noise


def run(args: Namespace) -> None:
    ends = len(args.images) + len(args.texts)
    if ends < 2:
        raise ValueError(
            "blend needs at least two inputs: two pictures, or a picture and a --text, or two texts"
        )
    images = read_images(args.images) if args.images else torch.empty(0, 3, 128, 128)
    dalle2, walk = load(args)
    if args.texts:
        say_unseen(args.texts, dalle2.tokenizer, args.world)
    folder = output_folder(args.out, args.images)
    if args.images:
        compare(dalle2, images, args)
    label = (" to " if ends == 2 else " + ").join(names(args))
    first = {}
    if ends > 2 and args.images:
        first[label] = list(to_uint8(shrunk(images, args.size)))
    latents = all_latents(dalle2, images, args.texts, walk, args.seed)
    n = args.frames
    works = decoding_work(dalle2.decoder, walk, n) + enlarging_work(dalle2, n, args.size)
    finish(folder, pictures(dalle2, latents, walk, args, label), n, first, args.size, works)


def names(args: Namespace) -> list[str]:
    return [path.name for path in args.images] + args.texts


def all_latents(dalle2: DALLE2, images: Tensor, texts: list[str], walk: Walk, seed: int) -> Latents:
    """The latents of the pictures, followed by those of the texts."""
    parts = [invert_all(dalle2, images, walk)] if len(images) else []
    if texts:
        works = drawing_work(dalle2, len(texts), stages=("image_embeddings",))
        with working("imagining the texts", works):
            parts += [latents_of_text(dalle2, text, seed, dalle2.sampling) for text in texts]
    return Latents.joined(parts)


def way(dalle2: DALLE2, latents: Latents, args: Namespace) -> Iterator[Frame]:
    """Frames from the first of two latents to the second, both included."""
    x_T = starting_noise(dalle2, [args.seed]) if args.x_T == "fixed" else None
    for theta in torch.linspace(0, 1, args.frames, dtype=torch.float64).tolist():
        share = torch.tensor([theta], dtype=torch.float32, device=dalle2.device)
        frame = between(latents[:1], latents[1:], share, x_T)
        yield Frame(frame, {"theta": round(theta, 6), "x_T": args.x_T}, args.seed)


def mixtures(dalle2: DALLE2, latents: Latents, args: Namespace) -> Iterator[Frame]:
    """Mixtures of all latents in equal shares. Each frame has noise of its own."""
    n = len(latents)
    z_i = mix(latents.z_i, torch.full((n,), 1 / n, device=dalle2.device))[None]
    for seed in range(args.seed, args.seed + args.frames):
        frame = Latents(z_i, starting_noise(dalle2, [seed]))
        yield Frame(frame, {"shares": [round(1 / n, 6)] * n}, seed)


def pictures(
    dalle2: DALLE2, latents: Latents, walk: Walk, args: Namespace, label: str
) -> Iterator[Drawn]:
    frames = list((way if len(latents) == 2 else mixtures)(dalle2, latents, args))
    settings = settings_of(dalle2, walk, args.size)
    ends = {"images": [str(path) for path in args.images], "texts": args.texts}
    for start in range(0, len(frames), CHUNK):
        part = frames[start : start + CHUNK]
        latents_of_part = Latents.joined([frame.latents for frame in part])
        image32 = decode(dalle2.decoder, latents_of_part, walk)
        enlarged = enlarge(dalle2, image32, [frame.seed for frame in part], args.size)
        for i, frame in enumerate(part):
            about = {**ends, **frame.about, "seed": frame.seed, "settings": settings}
            file = file_of(start + i, *(path.stem for path in args.images), *args.texts)
            yield Drawn(file, label, about, enlarged[i])
