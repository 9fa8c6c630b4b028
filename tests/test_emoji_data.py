"""data/emoji as it is committed: whole, licensed, small, drawn as it should be."""

import hashlib
import importlib.util
import json
import lzma
import re
import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from minidalle2.worlds.emoji import drawings as drawing
from minidalle2.worlds.emoji.drawings import halve, pictures, rasterise, read_style
from minidalle2.worlds.emoji.names import data_folder, drawings, names
from minidalle2.worlds.emoji.splits import held_out_names, held_out_pairs, hidden
from minidalle2.worlds.emoji.words import STYLE_LICENCES, STYLES

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "data" / "emoji"
COUNTS = {  # all, core, symbols, clocks
    "noto": (1414, 1200, 190, 24),
    "blob": (1084, 878, 182, 24),
    "twemoji": (1414, 1200, 190, 24),
    "openmoji": (1414, 1200, 190, 24),
    "fluent": (1394, 1181, 189, 24),
    "flat": (1394, 1181, 189, 24),
}
# Means of red, green, blue (premultiplied) and alpha at 32 px, 0 to 255.
MEANS = {
    "noto": (93.36, 81.19, 64.9, 133.15),
    "blob": (81.73, 72.63, 53.28, 117.73),
    "twemoji": (93.56, 82.39, 72.21, 137.83),
    "openmoji": (53.42, 47.62, 34.17, 99.14),
    "fluent": (98.57, 82.01, 82.32, 142.26),
    "flat": (93.94, 83.86, 75.59, 142.76),
}
LICENCE_FILES = {
    "Apache-2.0": "Apache-2.0.txt",
    "MIT": "MIT-fluent.txt",
    "CC-BY-4.0": "https://creativecommons.org/licenses/by/4.0/",
    "CC-BY-SA-4.0": "https://creativecommons.org/licenses/by-sa/4.0/",
}


@cache
def lock() -> dict:
    return json.loads((DATA / "sources.lock.json").read_text(encoding="utf-8"))


@cache
def text_of(name: str) -> str:
    path = DATA / name
    if path.exists():
        return path.read_text(encoding="utf-8")
    return lzma.decompress((DATA / f"{name}.xz").read_bytes()).decode()


def rows_of(style: str) -> list[int]:
    return [i for i, d in enumerate(drawings()) if d.style == style]


# --- what is there ------------------------------------------------------------------------------


@pytest.mark.parametrize("style", STYLES)
def test_counts(style):
    tiers = Counter(d.name.tier for d in drawings() if d.style == style)
    assert (sum(tiers.values()), tiers["core"], tiers["symbols"], tiers["clocks"]) == COUNTS[style]
    of_style = [name.key for name in names() if style in name.styles]
    assert list(read_style(style)["drawings"]) == of_style


def test_names_are_whole():
    assert len(names()) == len({name.key for name in names()}) == 1414
    for row in names():
        assert row.key == "-".join(f"{ord(c):04x}" for c in row.char if c != "\ufe0f")
        assert row.name and row.name_zh and row.subgroup and row.styles
        assert row.group != "flags" and not (row.group == "people-body" and "200d" in row.key)


def test_shortcodes_are_those_of_chat_systems():
    by_name = {row.name: row.shortcodes for row in names()}
    assert {"+1", "thumbsup", "thumbs_up"} <= set(by_name["thumbs up"])
    assert by_name["hot beverage"] == ("coffee", "hot_beverage")
    assert {"bee", "honeybee"} == set(by_name["honeybee"])
    for name, codes in by_name.items():
        assert codes and len(set(codes)) == len(codes), name
        assert all(re.fullmatch(r"[^\s:]+", code) for code in codes), name


def test_everything_is_as_it_was_built():
    built = lock()["built"]
    assert set(built) == {"names.jsonl", "splits.json", *(f"{style}.json" for style in STYLES)}
    for name, expected in built.items():
        assert hashlib.sha256(text_of(name).encode()).hexdigest() == expected, name


def test_the_folder_is_small():
    files = [p for p in DATA.rglob("*") if p.is_file() and "cache" not in p.parts]
    assert sum(p.stat().st_size for p in files if "__pycache__" not in p.parts) < 8e6


@pytest.mark.parametrize("style", STYLES)
def test_licence_and_credit_stand_beside_each_style(style):
    about = read_style(style)
    assert about["license"] == STYLE_LICENCES[style]
    attribution = (DATA / "LICENSES" / "ATTRIBUTION.md").read_text(encoding="utf-8")
    row = next(line for line in attribution.splitlines() if f"`{style}.json.xz`" in line)
    needed = LICENCE_FILES[about["license"]]
    assert needed in row and (needed.startswith("https") or (DATA / "LICENSES" / needed).exists())
    package, version = about["source"].rsplit(" ", 1)
    pinned = next(p for p in lock()["packages"] if p["name"] == package)
    assert pinned["version"] == version and pinned["license"] == about["license"]
    assert pinned["credit"] == about["credit"] and "recentred" in about["changes"]


def test_licence_texts_are_whole():
    ends = {
        "Apache-2.0.txt": ("TERMS AND CONDITIONS FOR USE", "limitations under the License."),
        "MIT-fluent.txt": ("Copyright (c) Microsoft Corporation", "SOFTWARE."),
        "MIT-emojibase.txt": ("Copyright (c) 2017-2019 Miles Johnson", "SOFTWARE."),
        "Unicode-3.0.txt": ("UNICODE LICENSE V3", "SPDX-License-Identifier: Unicode-3.0"),
    }
    for name, (inside, end) in ends.items():
        text = (DATA / "LICENSES" / name).read_text(encoding="utf-8")
        assert inside in text and text.rstrip().endswith(end), name


def test_card_tells_every_source():
    card = (DATA / "README.md").read_text(encoding="utf-8")
    for package in lock()["packages"]:
        assert package["name"] in card and package["version"] in card and package["sha256"] in card
    for style, counts in COUNTS.items():
        assert re.search(rf"\| {style} \|.*\b{counts[0]:,}\b", card), style


def test_svgs_need_nothing_from_outside():
    for style in STYLES:
        for key, svg in read_style(style)["drawings"].items():
            assert svg.startswith("<svg xmlns=") and svg.endswith("</svg>"), (style, key)
            assert not re.search(r"<(script|image|text|foreignObject|animate)|href=\"[^#]", svg)


# --- what is held out ---------------------------------------------------------------------------


def test_splits_are_what_the_card_says():
    assert len(held_out_names()) == 47
    assert Counter(held_out_pairs().values()) == dict.fromkeys(STYLES, 68)
    by_key = {name.key: name for name in names()}
    for key, style in held_out_pairs().items():
        assert style in by_key[key].styles and len(by_key[key].styles) >= 4
        assert by_key[key].tier == "core"
    keys = [held_out_names(), set(held_out_pairs()), hidden()]
    assert len(set.union(*map(set, keys))) == sum(map(len, keys))
    assert all(
        by_key[key].name == name
        for key, name in json.loads((DATA / "hide.json").read_text())["hidden"].items()
    )
    by_hand = json.loads((DATA / "held_out_names.json").read_text())
    assert {by_key[key].name for key in held_out_names()} == set(by_hand)


def test_words_of_held_out_names_are_seen():
    def words(name):
        return set(re.findall(r"[\w'’-]+", name.lower()))

    seen = set().union(
        *(words(n.name) for n in names() if n.key not in held_out_names() | hidden())
    )
    for name in names():
        if name.key in held_out_names():
            assert words(name.name) <= seen, name.name


def test_held_out_drawings_have_no_copy_in_their_style():
    """Else it would be seen in training after all; the same by another hand counts as well."""
    small = pictures(32).float() / 255
    on_white = small[:, :3] + 1 - small[:, 3:]
    everything = drawings()
    for i, (name, style) in enumerate(everything):
        if held_out_pairs().get(name.key) == style:
            near = [
                j
                for j, d in enumerate(everything)
                if (d.name.key == name.key) != (d.style == style)
            ]
            assert (on_white[near] - on_white[i]).abs().mean((1, 2, 3)).min() > 0.015, (name, style)


# --- pixels -------------------------------------------------------------------------------------


@pytest.mark.parametrize("style", STYLES)
def test_pixels_are_the_golden_ones(style):
    means = pictures(32)[rows_of(style)].float().mean((0, 2, 3))
    assert means.tolist() == pytest.approx(MEANS[style], abs=0.3)


def test_every_drawing_is_there_centred_and_whole():
    alpha = pictures(128)[:, 3]
    hairline = [d.style == "blob" and d.name.name == "nerd face" for d in drawings()]  # at its top
    alpha = alpha[~torch.tensor(hairline)]
    across, down = (alpha.amax(dim) >= 16 for dim in (1, 2))  # (N, 128)
    assert across.any(1).all()
    for ink in (across, down):
        first = ink.int().argmax(1)
        last = 127 - ink.flip(1).int().argmax(1)
        assert ((first + last - 127).abs() <= 3).all()  # centred to 1.5 px
        assert (first >= 1).all() and (last <= 126).all()  # nothing touches the border
    span = across.sum(1).maximum(down.sum(1)).float() / 128
    assert span.max() <= 0.98 and span.min() > 0.05
    styles = [d.style for d, out in zip(drawings(), hairline, strict=True) if not out]
    for style in STYLES:
        of_style = torch.tensor([s == style for s in styles])
        assert span[of_style].quantile(0.75).item() == pytest.approx(0.94, abs=0.015)


def test_smaller_sizes_are_box_averages():
    for size in (64, 32):
        large, small = pictures(2 * size), pictures(size)
        rows = slice(0, None, 37)
        assert np.array_equal(halve(large[rows].numpy()), small[rows].numpy())
    box = np.array([[[[0, 1], [2, 4]]]] * 4, np.uint8).reshape(1, 4, 2, 2)
    assert halve(box).tolist() == [[[[2]]] * 4]  # 1.75, rounded


def test_colours_are_premultiplied():
    for size in (32, 64):
        drawn = pictures(size)
        assert (drawn[:, :3].amax(1) <= drawn[:, 3]).all()


def test_rasterise_by_hand():
    square = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 4 4">{}</svg>'
    half = '<path d="M0 0h2v4h-2z" fill="#f00" fill-opacity="0.5"/>'
    drawn = rasterise(square.format(half), 4)
    assert drawn.shape == (4, 4, 4) and drawn.dtype == np.uint8
    assert drawn[3, :, :2].tolist() == [[128] * 2] * 4 and not drawn[:, :, 2:].any()
    assert abs(int(drawn[0, 0, 0]) - 128) <= 1 and not drawn[1:3].any()


def test_where_resvg_fails_the_double_size_is_averaged(monkeypatch):
    svg = read_style("noto")["drawings"]["1f980"]
    at_once, calls = rasterise(svg, 64), []
    resvg = drawing._resvg

    def fails_at_64(svg, size):
        calls.append(size)
        return None if size == 64 else resvg(svg, size)

    monkeypatch.setattr(drawing, "_resvg", fails_at_64)
    averaged = rasterise(svg, 64)
    assert calls == [64, 128]
    assert np.abs(averaged.astype(int) - at_once).mean() < 2


# --- one clear sentence -------------------------------------------------------------------------


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    """An empty cache folder, and nothing remembered."""
    caches = (drawing.pictures, drawing.fingerprint, drawing.read_style)
    for function in caches:
        function.cache_clear()
    monkeypatch.setenv("MINIDALLE2_CACHE", str(tmp_path))
    yield tmp_path
    monkeypatch.undo()
    for function in caches:
        function.cache_clear()


@pytest.fixture
def two_drawings(fresh, monkeypatch):
    monkeypatch.setattr(drawing, "drawings", lambda: drawings()[:2])
    return fresh


def test_missing_resvg_is_one_sentence(two_drawings, monkeypatch):
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    with pytest.raises(ValueError, match=r"resvg-py, which is not installed; pip install"):
        pictures(32)


def test_cache_is_enough_without_resvg(two_drawings, monkeypatch, bars):
    drawn = pictures(64)
    assert sorted(p.name.rsplit("-")[-1] for p in two_drawings.glob("*.npz")) == [
        "128.npz",
        "32.npz",
        "64.npz",
    ]
    stored = [f"storing the emoji of {size} px (first use only)" for size in (128, 64, 32)]
    assert bars.full() == ["drawing the emoji (first use only)", *stored]
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    pictures.cache_clear()
    assert (pictures(64) == drawn).all()


ANOTHER_DRAWS = """
import os, sys, time; from pathlib import Path; from minidalle2.storage.locks import locked
path = Path(sys.argv[1])
with locked(path.with_name("emoji.lock")):
    print("held", flush=True); time.sleep(1); os.replace(path.with_suffix(".kept"), path)
"""


def test_what_another_process_draws_is_waited_for(two_drawings, monkeypatch):
    drawn = pictures(32)
    path = next(two_drawings.glob("*-32.npz"))
    path.rename(path.with_suffix(".kept"))
    pictures.cache_clear()
    monkeypatch.setattr(drawing, "_draw_all", lambda: pytest.fail("drawn a second time"))
    command = [sys.executable, "-c", ANOTHER_DRAWS, str(path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        assert (pictures(32) == drawn).all()
    assert other.returncode == 0


def test_damaged_cache_is_drawn_again(two_drawings):
    drawn = pictures(32)
    path = next(two_drawings.glob("*-32.npz"))
    path.write_bytes(path.read_bytes()[:300])
    pictures.cache_clear()
    assert (pictures(32) == drawn).all()
    assert not list(two_drawings.glob("*.tmp"))


def test_missing_data_is_one_sentence(fresh, monkeypatch, tmp_path):
    import minidalle2.worlds.emoji.names as naming

    monkeypatch.setattr(naming, "__file__", str(tmp_path / "a" / "b" / "c" / "d" / "names.py"))
    with pytest.raises(ValueError, match=r"data is not at .*emoji; .* run from a clone"):
        data_folder()
    monkeypatch.setattr(drawing, "data_folder", lambda: tmp_path)
    with pytest.raises(ValueError, match=r"noto.json.xz is missing; restore it"):
        read_style("noto")
    (tmp_path / "noto.json.xz").write_bytes(b"no xz")
    with pytest.raises(ValueError, match=r"noto.json.xz is damaged .*; restore it"):
        read_style("noto")


def test_unknown_size_is_one_sentence():
    with pytest.raises(ValueError, match="there are no emoji of 48 px; 32, 64, 128 px would work"):
        pictures(48)


# --- build.py -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def build():
    sys.path.insert(0, str(DATA))
    try:
        spec = importlib.util.spec_from_file_location("build_emoji", DATA / "build.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        yield module
    finally:
        sys.path.remove(str(DATA))
        sys.modules.pop("vectors", None)


def test_build_reads_what_the_lock_pins(build):
    pinned = {package["name"] for package in lock()["packages"]}
    assert pinned == {name for both in build.STYLES.values() for name in both} | {
        build.NAMES_PACKAGE
    }
    assert all(re.fullmatch("[0-9a-f]{64}", package["sha256"]) for package in lock()["packages"])
    constraints = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert lock()["drawn_with"].replace(" ", "==") in constraints.splitlines()


def test_build_refuses_another_archive(build, tmp_path):
    (tmp_path / "x.tgz").write_bytes(b"other")
    row = {"name": "x", "version": "1", "file": "x.tgz", "sha256": "0" * 64}
    with pytest.raises(SystemExit, match="sources.lock.json says 0000"):
        build.fetch(row, tmp_path)


def test_build_names_keys_and_tiers(build):
    assert build.key_of("2764-FE0F-200D-1F525") == "2764-200d-1f525"
    assert build.slug("Woman’s hat") == "womans-hat" and build.slug("piñata") == "pinata"
    assert build.tier_of("two-thirty", "travel-places", "time") == "clocks"
    assert build.tier_of("alarm clock", "travel-places", "time") == "core"
    assert build.tier_of("red circle", "symbols", "geometric") == "core"
    assert build.tier_of("Aries", "symbols", "zodiac") == "symbols"


def test_shortcodes_are_joined(build, monkeypatch):
    files = {"github": {"A": "x", "B": ["y", "z"]}, "iamcal": {"A": ["x", "w"]}, "cldr": {"C": "v"}}
    monkeypatch.setattr(build, "SHORTCODES", tuple(files))
    monkeypatch.setattr(build, "read_json", lambda _, name: files[Path(name).stem])
    assert build.read_shortcodes(Path("a")) == {"A": ["x", "w"], "B": ["y", "z"], "C": ["v"]}


def test_aliases_are_followed_and_flipped(build):
    package = {
        "prefix": "p",
        "width": 4,
        "height": 4,
        "icons": {"left": {"body": "<a/>", "height": 5}},
        "aliases": {
            "right": {"parent": "left", "hFlip": True},
            "again": {"parent": "right"},
            "back": {"parent": "again", "hFlip": True},
            "odd": {"parent": "left", "rotate": 1},
        },
    }
    assert build.resolve(package, "left") == ("<a/>", 4, 5)
    flipped = '<g transform="translate(4 0) scale(-1 1)"><a/></g>'
    assert build.resolve(package, "right") == build.resolve(package, "again") == (flipped, 4, 5)
    assert build.resolve(package, "back") == ("<a/>", 4, 5)
    assert build.resolve(package, "none") is None
    with pytest.raises(ValueError, match="alias odd of p has the unknown fields {'rotate'}"):
        build.resolve(package, "odd")


def test_frames_share_one_scale_and_centre_each(build):
    boxes = {str(i): (0, 0, 8, 4) for i in range(9)} | {"large": (-1, 0, 19, 4)}
    frames = build.frames(boxes)
    left, top, side = frames["0"]
    assert side == pytest.approx(8 / 0.94) and (left + side / 2, top + side / 2) == (4, 2)
    assert frames["large"][2] == pytest.approx(20 / 0.96)


def test_frames_of_any_side_are_drawn_true(build):
    """resvg-py would take a viewBox of 30.5 alone for 30 pixels, and draw it too large."""
    source = build.framed('<path d="M10.25 10.25h10v10h-10z"/>', 0, 0, 30.5)
    left, top, right, bottom = sys.modules["vectors"].ink_of(build.draw(source, 122), 0, 30.5 / 122)
    assert (left, top, right, bottom) == pytest.approx((10.25, 10.25, 20.25, 20.25), abs=0.01)


def test_what_lies_outside_the_canvas_is_cut(build):
    inside = '<path d="M1 1h2v2h-2z"/>'
    body, box = build.measured(inside, 4, 4)
    assert body == inside and box == pytest.approx((1, 1, 3, 3), abs=0.05)
    body, box = build.measured('<path d="M-3 1h5v2h-5z"/>', 4, 4)
    assert body.startswith('<svg width="4" height="4"')
    assert box == pytest.approx((0, 1, 2, 3), abs=0.05)


def test_copies_are_found(build):
    white, gray = np.ones((32, 32, 3)), np.full((32, 32, 3), 0.5)
    pictures = {"noto": {"a": white, "b": white, "c": gray}, "blob": {"c": gray * 1.001, "a": gray}}
    assert build.has_copy("a", "noto", pictures)  # b, in the same style
    assert build.has_copy("c", "noto", pictures)  # c by another hand
    assert not build.has_copy(
        "a", "blob", {"noto": {"a": white}, "blob": pictures["blob"] | {"c": white}}
    )
