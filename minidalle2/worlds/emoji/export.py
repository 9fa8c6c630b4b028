"""Pictures → a folder of PNG files with metadata.jsonl, which Hugging Face's `imagefolder` loads.

A line of metadata.jsonl has `file_name`, `text` (the caption), `name`, `style`, `background`, and
the `license` of the drawing. The licences and credits are copied into the folder. They must stay
with the pictures.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from minidalle2.storage.pictures import save_png, to_uint8
from minidalle2.worlds.batches import caption_rng
from minidalle2.worlds.emoji.backgrounds import compose, sample_backgrounds
from minidalle2.worlds.emoji.captions import describe
from minidalle2.worlds.emoji.drawings import draw
from minidalle2.worlds.emoji.names import drawings, licences
from minidalle2.worlds.emoji.splits import check_split, members
from minidalle2.worlds.emoji.words import BACKGROUNDS, STYLE_LICENCES

AT_ONCE = 64  # pictures sampled at a time


def export(split: str, n: int, size: int, seed: int, folder: Path) -> Iterator[int]:
    """Writes n pictures of `size` px into an empty folder; yields the number written so far.

    Picture i depends on the split and the seed only, not on n. It shows the same drawing at every
    size. After all drawings of the split, the drawings repeat with other captions and backgrounds.
    """
    check_split(split)
    drawn_from = members(split)
    shutil.copytree(licences(), folder / "LICENSES", dirs_exist_ok=True)
    with open(folder / "metadata.jsonl", "w", encoding="utf-8", newline="\n") as metadata:
        for start in range(0, n, AT_ONCE):
            rows, backgrounds, captions = _sample(drawn_from, seed, start)
            drawn = to_uint8(compose(draw(rows, size), backgrounds))
            for i in range(min(AT_ONCE, n - start)):
                name, style = drawings()[int(rows[i])]
                file_name = f"{start + i:06d}.png"
                save_png(drawn[i], folder / file_name)
                facts = {
                    "file_name": file_name,
                    "text": captions[i],
                    "name": name.name,
                    "style": style,
                    "background": list(BACKGROUNDS)[int(backgrounds[i])],
                    "license": STYLE_LICENCES[style],
                }
                metadata.write(json.dumps(facts, ensure_ascii=False) + "\n")
            yield min(start + AT_ONCE, n)


def _sample(members: Tensor, seed: int, start: int) -> tuple[Tensor, Tensor, list[str]]:
    """Rows, backgrounds and captions of AT_ONCE pictures, from number `start` on."""
    order = torch.randperm(len(members), generator=torch.Generator().manual_seed(seed))
    places = torch.arange(start, start + AT_ONCE) % len(members)
    rows = members[order[places]]
    generator = torch.Generator().manual_seed((seed * 1_000_003 + start) % 2**63)
    backgrounds = sample_backgrounds(rows, generator)
    what = [drawings()[i] for i in rows.tolist()]
    return rows, backgrounds, describe(what, backgrounds.tolist(), caption_rng(generator))
