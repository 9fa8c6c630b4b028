"""All that is measured of weights for the emoji, as rows of one table."""

import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import torch
from PIL import Image

from minidalle2.clip import CLIP, CLIPConfig
from minidalle2.dalle2 import DALLE2
from minidalle2.evaluation.emoji.copying import copying_rows, copying_sheet
from minidalle2.evaluation.emoji.judge import Judge
from minidalle2.evaluation.emoji.labels import core_members, scored
from minidalle2.evaluation.emoji.manipulations import manipulation_rows
from minidalle2.evaluation.emoji.naming import naming_rows
from minidalle2.evaluation.emoji.prompts import (
    LANGUAGES, Drawn, draw_rows, judged, prompt_of, real_pictures, sample_rows,
)  # fmt: skip
from minidalle2.evaluation.judging import load_judge
from minidalle2.pictures import labelled_grid
from minidalle2.tokenizer import Tokenizer
from minidalle2.training.checkpoints import load_model
from minidalle2.worlds.emoji.names import data_folder, drawings

WHAT = ("judge", "clip", "prompts", "copying", "manipulations")
SPLITS = ("seen", "pairs")  # whose names the judge knows
REAL = 2_000  # real drawings that the judge reads, of each split at most
IN_SHEET, COLUMNS = 48, 8


def evaluate(
    folder: Path,
    device: torch.device,
    what: list[str],
    n: int,
    seed: int,
    pictures: Path | None = None,
) -> Iterator[dict]:
    """Rows {what, name, split, n, accuracy, low, high} for the weights in `folder`.

    `judge`: what the judge makes of real drawings, the ceiling of `prompts`. `clip`: zero-shot
    naming, for which tokenizer and CLIP are enough. `prompts`: pictures drawn of n prompts, for
    each language and split. `copying`: how many of those drawn of held-out pairs are near-copies
    of a training picture. `manipulations`: n drawings from hand to hand. Sheets of what was
    drawn go into the folder `pictures`.
    """
    draws = bool({"prompts", "copying", "manipulations"} & set(what))
    reads = bool({"judge", "prompts", "manipulations"} & set(what))
    dalle2 = DALLE2.load(folder, device) if draws else None
    judge = load_judge("emoji", folder, device) if reads else None
    drawn = cache(  # the same drawings are asked for in both languages
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
        yield from naming_rows(clip, Tokenizer.load(folder / "tokenizer.json"))
    if "prompts" in what:
        for split in SPLITS:
            for language in LANGUAGES:
                made = drawn(split, language)
                if pictures:
                    save(prompts_sheet(judge, made), pictures / f"prompts_{split}_{language}.png")
                yield from prompt_rows(judge, made, split, language)
    if "copying" in what:
        made = drawn("pairs", "English")
        if pictures:
            save(copying_sheet(made), pictures / "copying.png")
            licences = data_folder() / "LICENSES"  # they must stay with the drawings
            shutil.copytree(licences, pictures / "LICENSES", dirs_exist_ok=True)
        yield from copying_rows(made)
    if "manipulations" in what:
        yield from manipulation_rows(dalle2, judge, n, seed)


def prompt_rows(judge: Judge, drawn: Drawn, split: str, language: str) -> Iterator[dict]:
    """Read at 128 px, and before the upsamplers added their strokes to the decoder's."""
    for about, images in ((language, drawn.images), (f"{language}, at 32 px", drawn.small)):
        read = judged(judge, drawn.rows, images)
        yield from scored("prompts", about, split, drawn.rows, read.name_rank, read.style_rank)


def prompts_sheet(judge: Judge, drawn: Drawn) -> Image.Image:
    """Pictures with what they should show (in English: the labels' font has no Chinese letters)
    and what the judge took them for."""
    rows, images = drawn.rows[:IN_SHEET], drawn.images[:IN_SHEET]
    reading = judged(judge, rows, images)
    cells = []
    for i, row in enumerate(rows.tolist()):
        said = "right" if not reading.name_rank[i] else f"right name is {reading.name_rank[i] + 1}."
        asked = prompt_of(*drawings()[row], "English")
        label = f"{asked} | read as {reading.name[i]}, {reading.style[i]}; {said}"
        cells.append((label, [images[i]]))
    return labelled_grid(cells, COLUMNS)


def save(sheet: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)
