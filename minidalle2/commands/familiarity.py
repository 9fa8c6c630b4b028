"""How far a user's pictures are from the training pictures, and the threshold of some weights.

familiarity.json in a folder of weights has the PSNR that 99 % of the training pictures reach
(manipulations/familiarity.py). This command measures it and writes the file:

python -m minidalle2.commands.familiarity minidalle2/weights/shapes shapes
"""

import json
import sys
from pathlib import Path

import torch
from torch import Tensor

from minidalle2.dalle2 import DALLE2, weights_folder
from minidalle2.manipulations.familiarity import restored
from minidalle2.storage.checkpoints import CheckpointError, reading, write_json
from minidalle2.storage.progress import doing
from minidalle2.training.world import World
from minidalle2.worlds.catalogue import open_world

FILE = "familiarity.json"
PICTURES, AT_ONCE = 512, 64
SHARE = 0.99  # of the training pictures; the others have a lower PSNR


def measured(dalle2: DALLE2, world: World, n: int = PICTURES) -> Tensor:
    """The PSNR in dB of n random training pictures, in ascending order."""
    images, _ = world.captioned(n, torch.Generator().manual_seed(0))
    parts = images.to(dalle2.device).split(AT_ONCE)
    return torch.cat([restored(dalle2.clip, dalle2.decoder, part) for part in parts]).sort().values


def write_threshold(weights: Path, world: World) -> float:
    """Measures the weights in a folder, and writes FILE to it. Returns the threshold in dB."""
    weights = weights_folder(weights)
    decibels = measured(DALLE2.load(weights), world)
    threshold = round(torch.quantile(decibels, 1 - SHARE).item(), 1)
    write_json(weights / FILE, {"decibels": threshold, "share": SHARE, "pictures": len(decibels)})
    return threshold


def load_threshold(weights: Path) -> float | None:
    """The threshold of the weights in a folder, None without FILE.

    Raises CheckpointError if the file has no number.
    """
    path = weights / FILE
    if not path.is_file():
        return None
    with reading(path):
        threshold = json.loads(path.read_text("utf-8"))["decibels"]
    if isinstance(threshold, bool) or not isinstance(threshold, int | float):
        raise CheckpointError(
            f"decibels in {path} is {threshold!r}, and not a number; measure it again with `python "
            f"-m minidalle2.commands.familiarity {weights} WORLD`"
        )
    return float(threshold)


def comparison(names: list[str], decibels: list[float], threshold: float | None) -> list[str]:
    """A line for each picture, and one that explains the numbers."""
    if threshold is None:
        return ["no threshold is known for these weights, so the pictures are not checked"]
    lines = []
    for name, db in zip(names, decibels, strict=True):
        verdict = "is in the range of the training pictures"
        if db < threshold:
            verdict = "is far from what the model knows; results may resemble it only roughly"
        lines.append(f"{name} ({db:.1f} dB) {verdict}")
    return [
        *lines,
        "the numbers: the PSNR with which the model restores a picture from slight noise; "
        f"{SHARE:.0%} of the training pictures have {threshold:.1f} dB or more",
    ]


def say_comparison(dalle2: DALLE2, weights: Path, paths: list[Path], images: Tensor) -> None:
    """Prints how far each of the pictures (B, 3, 32, 32) in [-1, 1] is from the training pictures.

    `weights` is the folder of the weights.
    """
    threshold = load_threshold(weights)
    decibels: list[float] = []
    if threshold is not None:
        with doing("comparing with the training pictures"):
            for part in images.to(dalle2.device).split(AT_ONCE):
                decibels += restored(dalle2.clip, dalle2.decoder, part).tolist()
    print(*comparison([path.name for path in paths], decibels, threshold), sep="\n")


if __name__ == "__main__":
    folder, name = Path(sys.argv[1]), sys.argv[2]
    print(f"{write_threshold(folder, open_world(name)):.1f} dB in {folder / FILE}")
