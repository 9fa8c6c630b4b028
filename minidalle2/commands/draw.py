"""`minidalle2 draw`: prompts → one PNG per picture, grid.png and manifest.jsonl."""

import math
import time
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

from minidalle2.commands import results
from minidalle2.commands.options import say_unseen, weights_of
from minidalle2.commands.output_folder import output_folder
from minidalle2.commands.results import Drawn, drawing, say_where, strips, write_results
from minidalle2.dalle2 import DALLE2, STAGES, Sampling
from minidalle2.evaluation.work import drawing_work
from minidalle2.storage.devices import pick_device
from minidalle2.storage.file_names import file_of
from minidalle2.storage.pictures import labelled_grid, save_image, to_uint8
from minidalle2.storage.progress import doing, working


@dataclass
class Job:
    """A picture to draw."""

    file: str
    prompt: str
    seed: int


def run(args: Namespace) -> None:
    prompts = read_prompts(args.prompts, args.prompts_file)
    device = pick_device(args.device)
    with doing("loading the weights"):
        dalle2 = DALLE2.load(weights_of(args.world, args.weights), device, args.prior)
    say_unseen(prompts, dalle2.tokenizer, args.world)
    folder = output_folder(args.out, [])
    sampling = sampling_of(dalle2.sampling, args.guidance)
    jobs = plan(prompts, args.n, args.seed)
    started = time.monotonic()
    settings = {"prior": args.prior, **asdict(sampling), "size": args.size}
    stages = STAGES[: STAGES.index(f"image{args.size}") + 1]
    with working(drawing(len(jobs)), drawing_work(dalle2, len(jobs), sampling, stages)):
        grid = partial(save_grid, n=args.n, path=folder / "grid.png")
        written = write_results(folder, pictures(dalle2, jobs, sampling, settings), grid)
    say_where(written, len(jobs), args.size, time.monotonic() - started, folder)
    print(f"prompts, seeds and settings: {folder / 'manifest.jsonl'}")


def sampling_of(default: Sampling, guidance: float | None) -> Sampling:
    """The default sampling with another guidance scale of the decoder.

    With a scale of 0 the decoder ignores the prompt. CLIP would still select the drawing that is
    nearest to the image embedding of the prompt, so only one drawing is made.
    """
    if guidance is None:
        return default
    drawings = 1 if guidance == 0 else default.drawings
    return replace(default, decoder_guidance=guidance, drawings=drawings)


def read_prompts(given: list[str], file: Path | None) -> list[str]:
    """The prompts of the command line, followed by those of the file.

    Raises ValueError if there are none, or if the file can't be read.
    """
    prompts = list(given)
    if file is not None:
        try:
            lines = file.read_text(encoding="utf-8-sig").split("\n")  # U+2028 ends no line
        except UnicodeDecodeError as error:
            line = 1 + error.object.count(b"\n", 0, error.start)
            raise ValueError(
                f"the prompts file {file} is no UTF-8 text (line {line}); save it as UTF-8"
            ) from error
        except OSError as error:
            raise ValueError(f"can't read the prompts file {file} ({error.strerror})") from error
        prompts += [line for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not prompts:
        raise ValueError("there is nothing to draw; give a prompt, for example 'a red circle'")
    return prompts


def plan(prompts: list[str], n: int, seed: int) -> list[Job]:
    """n pictures of each prompt, with the seeds `seed`, `seed` + 1, …"""
    pairs = [(prompt, seed + k) for prompt in prompts for k in range(n)]
    return [Job(file_of(i, p), p, s) for i, (p, s) in enumerate(pairs)]


def pictures(
    dalle2: DALLE2, jobs: list[Job], sampling: Sampling, settings: dict
) -> Iterator[Drawn]:
    """Draws the pictures in batches of CHUNK.

    `settings` are written to the manifest for each picture. settings["size"] is the side in pixels.
    """
    wanted = f"image{settings['size']}"
    for start in range(0, len(jobs), results.CHUNK):
        part = jobs[start : start + results.CHUNK]
        made = dalle2.generate(
            [job.prompt for job in part], [job.seed for job in part], sampling, stop_after=wanted
        )
        for job, picture in zip(part, to_uint8(getattr(made, wanted)).cpu(), strict=True):
            about = {"prompt": job.prompt, "seed": job.seed, "settings": settings}
            yield Drawn(job.file, job.prompt, about, picture)


def save_grid(written: list[Drawn], n: int, path: Path) -> None:
    """Saves a grid with one picture per cell, or, if n > 1, with the n pictures of a prompt."""
    cells = []
    for start in range(0, len(written), n):
        several = [drawn.picture for drawn in written[start : start + n]]
        cells += strips(written[start].label, several)
    columns = 1 if n > 1 else min(results.STRIP, math.ceil(len(cells) ** 0.5))
    save_image(labelled_grid(cells, columns), path)
