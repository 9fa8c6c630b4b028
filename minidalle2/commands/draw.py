"""`minidalle2 draw`: prompts → one PNG a picture, grid.png and manifest.jsonl."""

import json
import math
import re
import time
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from torch import Tensor
from tqdm import tqdm

from minidalle2.commands.options import make_folder, pick_device, weights_of
from minidalle2.dalle2 import DALLE2, Sampling, clean
from minidalle2.pictures import labelled_grid, save_png, to_uint8
from minidalle2.tokenizer import Tokenizer
from minidalle2.worlds.world import label_of

CHUNK = 16  # pictures drawn at a time
IN_GRID = 64  # pictures that the grid shows at most
STRIP = 8  # pictures side by side in the grid


@dataclass
class Job:
    """One picture to draw."""

    file: str
    prompt: str
    seed: int


def run(args: Namespace) -> None:
    prompts = read_prompts(args.prompts, args.prompts_file)
    device = pick_device(args.device)
    dalle2 = DALLE2.load(weights_of(args.world, args.weights), device, args.prior)
    unseen = check_prompts(prompts, dalle2.tokenizer)
    if unseen:
        print(
            f"the {label_of(args.world)} world has never seen: {', '.join(unseen)} (drawn anyway)"
        )
    folder = make_folder(args.out)
    sampling = Sampling()
    if args.guidance is not None:
        sampling.decoder_guidance = args.guidance
    jobs = plan(prompts, args.n, args.seed)
    started = time.monotonic()
    settings = {"prior": args.prior, **asdict(sampling), "size": args.size}
    for_grid = draw_all(dalle2, jobs, sampling, settings, folder)
    seconds = time.monotonic() - started
    save_grid(for_grid, args.n, folder / "grid.png")
    shown = f", the first {IN_GRID} in" if len(jobs) > IN_GRID else ", all in"
    plural = "s" if len(jobs) > 1 else ""
    print(f"drew {len(jobs)} picture{plural} of {args.size} px in {seconds:.1f} s")
    print(f"from {folder / jobs[0].file} on{shown} {folder / 'grid.png'}")
    print(f"prompts, seeds and settings in {folder / 'manifest.jsonl'}")


def read_prompts(given: list[str], file: Path | None) -> list[str]:
    """Those of the command line, then those of the file. Raises ValueError where there are none."""
    prompts = list(given)
    if file is not None:
        try:
            lines = file.read_text(encoding="utf-8-sig").splitlines()
        except UnicodeDecodeError as error:
            raise ValueError(
                f"the prompts file {file} is no UTF-8 text; save it as UTF-8"
            ) from error
        except OSError as error:
            raise ValueError(f"can't read the prompts file {file} ({error.strerror})") from error
        prompts += [line for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not prompts:
        raise ValueError("there is nothing to draw; give a prompt, say 'a red circle'")
    return prompts


def check_prompts(prompts: list[str], tokenizer: Tokenizer) -> list[str]:
    """→ the words that training never had. Raises ValueError for a prompt that can't be drawn,
    before the first of a long list is."""
    for prompt in prompts:
        if any("\ud800" <= c <= "\udfff" for c in prompt):  # bytes that the shell's encoding lacks
            raise ValueError(
                f"the prompt {ascii(prompt)[:60]} is no Unicode text; type it as UTF-8"
            )
        tokenizer([clean(prompt)])
    return tokenizer.unseen_words(" ".join(clean(prompt) for prompt in prompts))


def plan(prompts: list[str], n: int, seed: int) -> list[Job]:
    """n pictures of each prompt, with seeds seed, seed + 1, …"""
    pairs = [(prompt, seed + k) for prompt in prompts for k in range(n)]
    return [Job(f"{i:04d}_{slug(p)}.png", p, s) for i, (p, s) in enumerate(pairs)]


def slug(prompt: str) -> str:
    """'A small, red circle.' → 'a_small_red_circle'; plain ASCII, for any file system."""
    return re.sub(r"[^a-z0-9]+", "_", clean(prompt))[:60].strip("_") or "picture"


def draw_all(
    dalle2: DALLE2, jobs: list[Job], sampling: Sampling, settings: dict, folder: Path
) -> list[tuple[str, Tensor]]:
    """Write every picture and its line of the manifest, with `settings`; → (prompt, picture) of the
    first IN_GRID.

    The manifest grows with the pictures, so Ctrl-C leaves a true one.
    """
    for_grid = []
    with (
        open(folder / "manifest.jsonl", "w", encoding="utf-8") as manifest,
        tqdm(total=len(jobs), unit="picture", disable=None) as bar,  # None: only on a terminal
    ):
        for job, picture in pictures(dalle2, jobs, sampling, settings["size"]):
            save_png(picture, folder / job.file)
            line = {**asdict(job), "settings": settings}
            manifest.write(json.dumps(line, ensure_ascii=False) + "\n")
            for_grid += [(job.prompt, picture)] if len(for_grid) < IN_GRID else []
            bar.update()
    return for_grid


def pictures(
    dalle2: DALLE2, jobs: list[Job], sampling: Sampling, size: int
) -> Iterator[tuple[Job, Tensor]]:
    """Yields each job with its picture, (3, size, size) uint8."""
    for start in range(0, len(jobs), CHUNK):
        part = jobs[start : start + CHUNK]
        made = dalle2.generate(
            [job.prompt for job in part],
            [job.seed for job in part],
            sampling,
            stop_after=f"image{size}",
        )
        yield from zip(part, to_uint8(getattr(made, f"image{size}")).cpu(), strict=True)


def save_grid(drawn: list[tuple[str, Tensor]], n: int, path: Path) -> None:
    """A cell a picture, or, where each prompt has several, a strip of pictures a prompt."""
    cells = []
    for start in range(0, len(drawn), n):
        several = drawn[start : start + n]
        for left in range(0, len(several), STRIP):
            strip = [picture for _, picture in several[left : left + STRIP]]
            cells.append((several[0][0], strip))
    columns = 1 if n > 1 else min(STRIP, math.ceil(len(cells) ** 0.5))
    labelled_grid(cells, columns).save(path)
