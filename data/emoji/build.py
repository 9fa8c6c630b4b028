"""Builds the data of this folder from the packages that sources.lock.json lists.

    python data/emoji/build.py

Needs resvg-py, numpy and Pillow, and npm for the downloads. Takes about five minutes on one core.
The same versions of the packages, of resvg-py and of liblzma give the same bytes. These files are
built: names.jsonl, splits.json, the six <style>.json.xz, and the checksums in sources.lock.json.
hide.json, held_out_names.json and the texts are written by hand.
"""

import argparse
import hashlib
import json
import lzma
import re
import shutil
import subprocess
import tarfile
from pathlib import Path

import numpy as np
from vectors import draw, framed, frames, measured, resolve

HERE = Path(__file__).resolve().parent
TIERS = ("core", "symbols", "clocks")
# style: (package of the icons, package whose chars.json maps codepoints to names of icons)
STYLES = {
    "noto": ("@iconify-json/noto", "@iconify-json/noto"),
    "blob": ("@iconify-json/noto-v1", "@iconify-json/noto"),
    "twemoji": ("@iconify-json/twemoji", "@iconify-json/twemoji"),
    "openmoji": ("@iconify-json/openmoji", "@iconify-json/openmoji"),
    "fluent": ("@iconify-json/fluent-emoji", "@iconify-json/fluent-emoji-flat"),
    "flat": ("@iconify-json/fluent-emoji-flat", "@iconify-json/fluent-emoji-flat"),
}
NAMES_PACKAGE = "emojibase-data"
# Files of emojibase-data with the shortcodes of chat systems: GitHub, Slack, JoyPixels, and others.
SHORTCODES = ("github", "iamcal", "joypixels", "emojibase", "cldr")
# Drawings of noto-v1 that have an older name there: name today → older name. Other drawings with an
# older name are left out, because they show something else: dizzy-face has spiral eyes,
# question-mark is blue, and pistol is a gun.
BLOB_OLD_NAMES = {
    "enraged face": "pouting-face",
    "smiling face with open hands": "hugging-face",
    "bullseye": "direct-hit",
}
# (style, name) of icons that show something else: "cricket" of noto-v1 is the game, not the insect.
WRONG = {("blob", "cricket")}
PAIRS_PER_STYLE = 68
LEAST_OTHER_STYLES = 3  # in which the name of a held-out pair must be in the training set
CHANGES = "selected, cut at the icon's own canvas, recentred, rescaled"
COPY = 0.02  # two drawings at 32 px count as equal below this mean difference (1: black to white)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--packages", type=Path, default=HERE / "cache" / "packages")
    options.add_argument("--out", type=Path, default=HERE)
    args = options.parse_args()
    lock = json.loads((HERE / "sources.lock.json").read_text(encoding="utf-8"))
    archives = {row["name"]: fetch(row, args.packages) for row in lock["packages"]}
    names = read_names(archives[NAMES_PACKAGE])
    hidden = set(json.loads((HERE / "hide.json").read_text(encoding="utf-8"))["hidden"])
    held_out = json.loads((HERE / "held_out_names.json").read_text(encoding="utf-8"))
    styles, pictures = {}, {}
    for style, (package, chars) in STYLES.items():
        styles[style] = drawings_of(style, archives[package], archives[chars], names)
        pictures[style] = {key: small(source) for key, source in styles[style].items()}
        print(f"{style}: {len(styles[style])} drawings", flush=True)
    for row in names:
        row["styles"] = [style for style in STYLES if row["key"] in styles[style]]
    pairs = choose_pairs(names, hidden | held_out_keys(names, held_out), pictures)
    splits = {"names": sorted(held_out_keys(names, held_out)), "pairs": pairs}
    lock["built"] = write(args.out, names, splits, styles, lock["packages"])
    (args.out / "sources.lock.json").write_text(pretty(lock), encoding="utf-8", newline="\n")


def fetch(row: dict, folder: Path) -> Path:
    """The archive of a package. npm downloads it if it is not in `folder`."""
    path = folder / row["file"]
    if not path.exists():
        npm = shutil.which("npm")
        if npm is None:
            raise SystemExit(
                f"{path} is missing and npm, which downloads it, is not installed; install npm, or "
                "put the file there"
            )
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            [npm, "pack", f"{row['name']}@{row['version']}"],
            cwd=folder,
            check=True,
            stdout=subprocess.DEVNULL,
        )
    check_sha256(path, row["sha256"])
    return path


def check_sha256(path: Path, expected: str) -> None:
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != expected:
        raise SystemExit(
            f"{path} has sha256 {found}, but sources.lock.json says {expected}; delete the file "
            "and run the same command again"
        )


def read_json(archive: Path, name: str):
    with tarfile.open(archive) as tar:
        return json.load(tar.extractfile(f"package/{name}"))


def key_of(hexcode: str) -> str:
    """'2764-FE0F' → '2764': FE0F only means that the drawing is in colour."""
    return "-".join(part for part in hexcode.lower().split("-") if part != "fe0f")


def slug(label: str) -> str:
    plain = label.lower().replace("’", "").replace("ñ", "n")
    return re.sub("[^a-z0-9]+", "-", plain).strip("-")


def read_names(archive: Path) -> list[dict]:
    """One row per emoji, in the order of Unicode.

    Left out: flags, components, and people that consist of several joined codepoints.
    """
    groups = read_json(archive, "meta/groups.json")
    chinese = {row["hexcode"]: row for row in read_json(archive, "zh/data.json")}
    shortcodes = read_shortcodes(archive)
    rows = []
    for row in sorted(read_json(archive, "en/data.json"), key=lambda row: row.get("order", 0)):
        group = groups["groups"].get(str(row.get("group")), "component")
        person = group == "people-body" and "200D" in row["hexcode"]
        if person or group in ("component", "flags"):
            continue
        subgroup = groups["subgroups"][str(row["subgroup"])]
        zh = chinese[row["hexcode"]]
        rows.append(
            {
                "key": key_of(row["hexcode"]),
                "char": row["emoji"],
                "name": row["label"],
                "keywords": row.get("tags", []),
                "group": group,
                "subgroup": subgroup,
                "tier": tier_of(row["label"], group, subgroup),
                "name_zh": zh["label"],
                "keywords_zh": zh.get("tags", []),
                "shortcodes": shortcodes[row["hexcode"]],
            }
        )
    return rows


def read_shortcodes(archive: Path) -> dict[str, list[str]]:
    """Codepoints → the shortcodes of all chat systems, each shortcode once."""
    found: dict[str, dict[str, None]] = {}
    for system in SHORTCODES:
        for code, said in read_json(archive, f"en/shortcodes/{system}.json").items():
            said = [said] if isinstance(said, str) else said
            found.setdefault(code, {}).update(dict.fromkeys(said))
    return {code: list(said) for code, said in found.items()}


def tier_of(label: str, group: str, subgroup: str) -> str:
    if group == "symbols" and subgroup != "geometric":
        return "symbols"
    return "clocks" if label.endswith(("o’clock", "-thirty")) else "core"


def drawings_of(style: str, archive: Path, chars: Path, names: list[dict]) -> dict[str, str]:
    """Key of a codepoint → SVG, in the order of the names."""
    package = read_json(archive, "icons.json")
    icons = {key_of(code): icon for code, icon in read_json(chars, "chars.json").items()}
    bodies, boxes = {}, {}
    for row in names:
        if (style, row["name"]) in WRONG:
            continue
        candidates = [icons.get(row["key"], ""), slug(row["name"])]
        if style == "blob":
            candidates.append(BLOB_OLD_NAMES.get(row["name"], ""))
        found = next(filter(None, (resolve(package, name) for name in candidates)), None)
        if found:
            bodies[row["key"]], boxes[row["key"]] = measured(*found)
    return {key: framed(bodies[key], *frame) for key, frame in frames(boxes).items()}


def small(source: str) -> np.ndarray:
    """SVG → picture (32, 32, 3) in [0, 1] on white, drawn at 64 px and averaged."""
    picture = draw(source, 64) / 255
    alpha = picture[:, :, 3:]
    on_white = picture[:, :, :3] * alpha + 1 - alpha
    return on_white.reshape(32, 2, 32, 2, 3).mean((1, 3))


def held_out_keys(names: list[dict], held_out: list[str]) -> set[str]:
    keys = {row["name"]: row["key"] for row in names}
    return {keys[name] for name in held_out}


def choose_pairs(names: list[dict], barred: set[str], pictures: dict) -> dict[str, str]:
    """Chooses the held-out pairs: key → the style in which this name is held out.

    Each style has the same number of pairs. A hash determines the choice. A name must exist in at
    least three other styles, so that it can be learned from them. A drawing is never held out if a
    nearly equal drawing has the same style or the same name, because it would be known from
    training.
    """
    core = [row["key"] for row in names if row["tier"] == "core" and row["key"] not in barred]
    core.sort(key=lambda key: hashlib.sha256(f"held-out pair {key}".encode()).hexdigest())
    pairs: dict[str, str] = {}
    for turn in range(PAIRS_PER_STYLE * len(STYLES)):
        style = list(STYLES)[turn % len(STYLES)]
        pairs[
            next(
                key
                for key in core
                if key not in pairs
                and key in pictures[style]
                and sum(key in drawn for drawn in pictures.values()) > LEAST_OTHER_STYLES
                and not has_copy(key, style, pictures)
            )
        ] = style
    return {row["key"]: pairs[row["key"]] for row in names if row["key"] in pairs}


def has_copy(key: str, style: str, pictures: dict) -> bool:
    others = [picture for other, picture in pictures[style].items() if other != key]
    others += [drawn[key] for other, drawn in pictures.items() if other != style and key in drawn]
    return bool((np.abs(np.stack(others) - pictures[style][key]).mean((1, 2, 3)) < COPY).any())


def write(out: Path, names: list, splits: dict, styles: dict, packages: list) -> dict[str, str]:
    """Writes all built files. Returns {file name: sha256 of its text before compression}."""
    by_name = {row["name"]: row for row in packages}
    texts = {
        "names.jsonl": "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in names),
        "splits.json": pretty(splits),
    }
    for style, drawings in styles.items():
        row = by_name[STYLES[style][0]]
        about = {
            "style": style,
            "source": f"{row['name']} {row['version']}",
            "credit": row["credit"],
            "license": row["license"],
            "changes": CHANGES,
        }
        texts[f"{style}.json"] = json.dumps({**about, "drawings": drawings}, ensure_ascii=False)
    for name, text in texts.items():
        if name.endswith((".jsonl", "splits.json")):
            (out / name).write_text(text, encoding="utf-8", newline="\n")
        else:
            (out / f"{name}.xz").write_bytes(lzma.compress(text.encode(), preset=9))
    return {name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts.items()}


def pretty(value) -> str:
    return json.dumps(value, ensure_ascii=False, indent=1) + "\n"


if __name__ == "__main__":
    main()
