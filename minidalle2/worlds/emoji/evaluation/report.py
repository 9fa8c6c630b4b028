"""All measurements of weights of the emoji world, as rows of one table."""

import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import torch
from PIL import Image

from minidalle2.clip import CLIP, CLIPConfig
from minidalle2.dalle2 import DALLE2
from minidalle2.evaluation.judging import judge_beside
from minidalle2.storage.checkpoints import load_model, load_tokenizer
from minidalle2.storage.pictures import labelled_grid, save_image
from minidalle2.storage.progress import doing
from minidalle2.worlds.emoji.evaluation.copying import copying_rows, copying_sheet
from minidalle2.worlds.emoji.evaluation.manipulations import manipulation_rows
from minidalle2.worlds.emoji.evaluation.naming import naming_rows
from minidalle2.worlds.emoji.evaluation.natural import natural_rows
from minidalle2.worlds.emoji.evaluation.prompts import (
    LANGUAGES,
    Drawn,
    draw_rows,
    judged,
    prompt_of,
    real_pictures,
    sample_rows,
)
from minidalle2.worlds.emoji.judge import JUDGE, Judge
from minidalle2.worlds.emoji.labels import core_members, scored
from minidalle2.worlds.emoji.names import drawings, licences

WHAT = ("judge", "clip", "prompts", "copying", "manipulations")
ON_REQUEST = ("natural",)  # measured only if it is asked for, so that nothing is tuned with it
SPLITS = ("seen", "pairs")  # splits with names that the judge knows
REAL = 2_000  # real drawings of each split that the judge reads, at most
IN_SHEET, COLUMNS = 48, 8
PROMPTS, COPYING = "prompts_{}_{}.png", "copying.png"  # names of the sheets
SHEETS = (*(PROMPTS.format(s, language) for s in SPLITS for language in LANGUAGES), COPYING)


def evaluate(
    folder: Path,
    device: torch.device,
    what: list[str],
    n: int,
    seed: int,
    pictures: Path | None = None,
) -> Iterator[dict]:
    """Yields rows {what, name, split, n, accuracy, low, high} for the weights in `folder`.

    `judge`: the judge's accuracy on real drawings, which is the upper limit of `prompts`. `clip`:
    zero-shot naming, which needs only the tokenizer and CLIP. `prompts`: the accuracy of pictures
    drawn from n prompts, for each language and split. `copying`: the share of near-copies of
    training pictures among the pictures drawn for held-out pairs. `manipulations`: n drawings with
    another style. `natural`: prompts as people type them, all of them whatever n is. Sheets of the
    drawn pictures are written to the folder `pictures`, if it is given.
    """
    draws = bool({"prompts", "copying", "manipulations", "natural"} & set(what))
    reads = bool({"judge", "prompts", "manipulations", "natural"} & set(what))
    with doing("loading the weights"):
        dalle2 = DALLE2.load(folder, device) if draws else None
        judge = judge_beside(JUDGE, "emoji", folder, device) if reads else None
    drawn = cache(  # prompts of both languages ask for the same drawings
        lambda split, language: draw_rows(
            dalle2, sample_rows(core_members(split), n, seed), language
        )
    )
    if "judge" in what:
        for split in SPLITS:
            rows = sample_rows(core_members(split), REAL, seed)
            reading = judged(judge, rows, real_pictures(rows))
            yield from scored(
                "judge", "real drawings", split, rows, reading.name_rank, reading.style_rank
            )
    if "clip" in what:
        clip = load_model(folder / "clip", "clip", CLIPConfig, CLIP).to(device)
        yield from naming_rows(clip, load_tokenizer(folder / "tokenizer.json"))
    if "prompts" in what:
        for split in SPLITS:
            for language in LANGUAGES:
                made = drawn(split, language)
                if pictures:
                    sheet = prompts_sheet(judge, made)
                    save_image(sheet, pictures / PROMPTS.format(split, language))
                yield from prompt_rows(judge, made, split, language)
    if "copying" in what:
        made = drawn("pairs", "English")
        if pictures:
            save_image(copying_sheet(made), pictures / COPYING)
            shutil.copytree(licences(), pictures / "LICENSES", dirs_exist_ok=True)
        yield from copying_rows(made)
    if "manipulations" in what:
        yield from manipulation_rows(dalle2, judge, n, seed)
    if "natural" in what:
        yield from natural_rows(dalle2, judge)


def prompt_rows(judge: Judge, drawn: Drawn, split: str, language: str) -> Iterator[dict]:
    """Rows of readings at 128 px, and at 32 px, before the upsamplers add strokes."""
    for about, images in ((language, drawn.images), (f"{language}, at 32 px", drawn.small)):
        read = judged(judge, drawn.rows, images)
        yield from scored("prompts", about, split, drawn.rows, read.name_rank, read.style_rank)


def prompts_sheet(judge: Judge, drawn: Drawn) -> Image.Image:
    """Pictures with what they should show and what the judge reads.

    The labels are in English.
    """
    rows, images = drawn.rows[:IN_SHEET], drawn.images[:IN_SHEET]
    reading = judged(judge, rows, images)
    cells = []
    for i, row in enumerate(rows.tolist()):
        said = "right" if not reading.name_rank[i] else f"right name is {reading.name_rank[i] + 1}."
        asked = prompt_of(*drawings()[row], "English")
        label = f"{asked} | read as {reading.name[i]}, {reading.style[i]}; {said}"
        cells.append((label, [images[i]]))
    return labelled_grid(cells, COLUMNS)
