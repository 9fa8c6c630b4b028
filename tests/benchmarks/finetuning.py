"""Fine-tuning on 300 icons that no training has seen, and a reading test of the drawings.

The icons are Kameleon by Streamline (CC BY 4.0). They are not part of the repository:

    npm pack @iconify-json/streamline-kameleon-color@1.2.2
    tar xzf iconify-json-streamline-kameleon-color-1.2.2.tgz
    python -m tests.benchmarks.finetuning folder package/icons.json runs/icons/pictures
    python -m minidalle2 train all --world runs/icons/pictures --from emoji --minutes 10 \\
        --out runs/icons/weights
    python -m tests.benchmarks.finetuning questions runs/icons/pictures runs/icons/weights \\
        runs/icons/reading
    python -m tests.benchmarks.finetuning score runs/icons/reading answers.txt

Two readers, who know neither the captions nor key.json, get the folder `drawn` or `real` with
numbered pictures and ten captions for each. They write lines such as `7 c` to answers.txt. `real`
has the training pictures themselves, so it is the ceiling. new.png shows a drawing of each new
caption, without selection. A picture is drawn once for a caption, with the default settings.
"""

import argparse
import io
import json
import random
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from minidalle2.dalle2 import DALLE2
from minidalle2.evaluation.rows import wilson_interval
from minidalle2.storage.pictures import (
    from_pillow,
    labelled_grid,
    load_square,
    save_image,
    save_png,
    to_uint8,
)
from minidalle2.worlds.folder.world import Folder

CAPTIONS = Path(__file__).parent / "icon_captions.json"  # icon → caption; 37 icons are left out
THINGS = 150  # in the folder, each in colour and in blue; the other things are the new captions
BLUE = " in blue"  # the end of the captions of the blue variants
QUESTIONS, CHOICES = 100, "abcdefghij"
ON_A_SHEET, COLUMNS = 20, 5
SIDE = 128
CREDIT = """\
Kameleon color icons by Streamline, https://github.com/webalys-hq/streamline-vectors,
CC BY 4.0, https://creativecommons.org/licenses/by/4.0/. Drawn at 128 px on white.
"""


def things() -> tuple[dict[str, str], dict[str, str]]:
    """Icon → caption of the things in the folder, and of the others."""
    captions = list(json.loads(CAPTIONS.read_text(encoding="utf-8")).items())
    random.Random(0).shuffle(captions)
    return dict(captions[:THINGS]), dict(captions[THINGS:])


def write_folder(icons: Path, out: Path) -> None:
    """Draws the icons of Iconify's icons.json as PNG files with metadata.jsonl."""
    drawings = json.loads(icons.read_text(encoding="utf-8"))
    (out / "LICENSES").mkdir(parents=True)
    (out / "LICENSES" / "ATTRIBUTION.md").write_text(CREDIT, encoding="utf-8")
    lines = []
    for icon, caption in sorted(things()[0].items()):
        for name, text in ((icon, caption), (f"{icon}-duo", caption + BLUE)):
            save_png(rasterised(drawings, name), out / f"{name}.png")
            lines.append(json.dumps({"file_name": f"{name}.png", "text": text}))
    (out / "metadata.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{len(lines)} pictures in {out}")


def rasterised(drawings: dict, name: str) -> Tensor:
    """An icon on white (3, 128, 128) uint8."""
    import resvg_py

    side, body = drawings["width"], drawings["icons"][name]["body"]
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {side} {side}">{body}</svg>'
    png = resvg_py.svg_to_bytes(svg_string=svg, width=SIDE, height=SIDE)
    drawn = Image.open(io.BytesIO(bytes(png))).convert("RGBA")
    paper = Image.new("RGBA", drawn.size, "white")
    return from_pillow(Image.alpha_composite(paper, drawn).convert("RGB"))


def questions(captions: list[str], count: int) -> list[tuple[str, list[str]]]:
    """Trained captions, each with ten captions to choose from, which hold it.

    All ten are of one variant, so that the colour alone does not answer the question.
    """
    rng, asked = random.Random(1), []
    for caption in rng.sample(captions, count):
        alike = [c for c in captions if c.endswith(BLUE) == caption.endswith(BLUE)]
        others = rng.sample([c for c in alike if c != caption], len(CHOICES) - 1)
        asked.append((caption, rng.sample([caption, *others], len(CHOICES))))
    return asked


def write_questions(folder: Path, weights: Path, out: Path) -> None:
    world, dalle2 = Folder(folder), DALLE2.load(weights)
    rows = world.rows("train").tolist()
    of_caption = {world.captions[row]: row for row in rows}
    asked = questions(sorted(of_caption), QUESTIONS)
    files = [folder / world.files[of_caption[caption]] for caption, _ in asked]
    drawn = draw(dalle2, [caption for caption, _ in asked])
    write_test(asked, drawn, out / "drawn")
    write_test(asked, torch.stack([load_square(file, SIDE) for file in files]), out / "real")
    key = {i: CHOICES[choices.index(caption)] for i, (caption, choices) in enumerate(asked, 1)}
    (out / "key.json").write_text(json.dumps(key), encoding="utf-8")
    held_out = [world.captions[row] for row in world.rows("held_out").tolist()]
    new = sorted([*things()[1].values(), *held_out])
    cells = [(caption, [picture]) for caption, picture in zip(new, draw(dalle2, new), strict=True)]
    save_image(labelled_grid(cells, COLUMNS), out / "new.png")


def draw(dalle2: DALLE2, captions: list[str], at_once: int = 8) -> Tensor:
    """One drawing of each caption (N, 3, 128, 128) uint8."""
    parts = [captions[i : i + at_once] for i in range(0, len(captions), at_once)]
    return torch.cat([to_uint8(dalle2.generate(part).image128) for part in parts])


def write_test(asked: list[tuple[str, list[str]]], pictures: Tensor, out: Path) -> None:
    """Sheets of numbered pictures, and the captions to choose from."""
    out.mkdir(parents=True)
    cells = [(str(i), [picture]) for i, picture in enumerate(pictures, 1)]
    for first in range(0, len(cells), ON_A_SHEET):
        sheet = labelled_grid(cells[first : first + ON_A_SHEET], COLUMNS)
        save_image(sheet, out / f"{first + 1:03}.png")
    lines = [
        f"{i}: " + "; ".join(f"{c}) {text}" for c, text in zip(CHOICES, choices, strict=True))
        for i, (_, choices) in enumerate(asked, 1)
    ]
    (out / "questions.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def score(key: dict[str, str], answers: str) -> tuple[int, int]:
    """Lines such as `7 c` → how many are right, and how many were asked.

    A question without an answer is wrong.
    """
    given = dict(line.split()[:2] for line in answers.splitlines() if line.strip())
    right = sum(given.get(number, "").strip("():.") == letter for number, letter in key.items())
    return right, len(key)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    steps = parser.add_subparsers(dest="step", required=True)
    for step, paths in {
        "folder": ("icons", "out"),
        "questions": ("folder", "weights", "out"),
        "score": ("reading", "answers"),
    }.items():
        added = steps.add_parser(step)
        for path in paths:
            added.add_argument(path, type=Path)
    args = parser.parse_args()
    if args.step == "folder":
        write_folder(args.icons, args.out)
    elif args.step == "questions":
        write_questions(args.folder, args.weights, args.out)
    else:
        key = json.loads((args.reading / "key.json").read_text(encoding="utf-8"))
        right, n = score(key, args.answers.read_text(encoding="utf-8"))
        low, high = wilson_interval(right, n)
        print(f"{right} of {n} right: {right / n:.0%} ({low:.0%} to {high:.0%}); a guess: 10%")


if __name__ == "__main__":
    main()
