"""Pictures → a folder of PNGs with metadata.jsonl, which Hugging Face's `imagefolder` loads.

A line of metadata.jsonl: `file_name`, `text` (the caption), `name`, `style`, `background`, and the
`license` of that drawing. The licences and credits are copied into the folder: they must stay with
the pictures.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from minidalle2.pictures import save_png, to_uint8
from minidalle2.worlds.emoji.backgrounds import compose, sample_backgrounds
from minidalle2.worlds.emoji.captions import describe
from minidalle2.worlds.emoji.names import data_folder, drawings
from minidalle2.worlds.emoji.splits import check_split, members
from minidalle2.worlds.emoji.words import BACKGROUNDS, STYLE_LICENCES
from minidalle2.worlds.emoji.world import draw
from minidalle2.worlds.shapes.export import remove_pictures_from
from minidalle2.worlds.shapes.world import caption_rng

AT_ONCE = 64  # pictures


def export(split: str, n: int, size: int, seed: int, folder: Path) -> Iterator[int]:
    """Write n pictures of `size` px; yields how many are written so far.

    Picture i depends on split and seed only, not on n, and shows the same at every size; after all
    drawings of the split, they come again with other captions and backgrounds.
    """
    check_split(split)
    drawn_from = members(split)
    remove_pictures_from(n, folder)
    shutil.copytree(data_folder() / "LICENSES", folder / "LICENSES", dirs_exist_ok=True)
    with open(folder / "metadata.jsonl", "w", encoding="utf-8", newline="\n") as metadata:
        for start in range(0, n, AT_ONCE):
            rows, backgrounds, captions = _sample(drawn_from, seed, start)
            drawn = to_uint8(compose(draw(rows, size), backgrounds))
            for i in range(min(AT_ONCE, n - start)):
                name, style = drawings()[int(rows[i])]
                file_name = f"{start + i:06d}.png"
                save_png(drawn[i], folder / file_name)
                facts = {
                    "file_name": file_name, "text": captions[i], "name": name.name, "style": style,
                    "background": list(BACKGROUNDS)[int(backgrounds[i])],
                    "license": STYLE_LICENCES[style],
                }  # fmt: skip
                metadata.write(json.dumps(facts, ensure_ascii=False) + "\n")
            yield min(start + AT_ONCE, n)


def _sample(members: Tensor, seed: int, start: int) -> tuple[Tensor, Tensor, list[str]]:
    """Rows, backgrounds and captions of the AT_ONCE pictures from `start` on."""
    order = torch.randperm(len(members), generator=torch.Generator().manual_seed(seed))
    places = torch.arange(start, start + AT_ONCE) % len(members)
    rows = members[order[places]]
    generator = torch.Generator().manual_seed((seed * 1_000_003 + start) % 2**63)
    backgrounds = sample_backgrounds(rows, generator)
    what = [drawings()[i] for i in rows.tolist()]
    return rows, backgrounds, describe(what, backgrounds.tolist(), caption_rng(generator))
