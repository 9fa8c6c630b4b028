"""The exported folder: its convention, its truth, its seeds."""

import json

import pytest
import torch

from minidalle2.commands.cli import main
from minidalle2.storage.pictures import load_png, save_png, to_uint8
from minidalle2.worlds.shapes.drawing import BACKGROUND_RGB, COLOUR_RGB, INK, RADII
from minidalle2.worlds.shapes.export import export
from minidalle2.worlds.shapes.scenes import (
    BACKGROUNDS,
    COLOURS,
    HELD_OUT_COLOUR,
    SHAPES,
    SIZES,
    SPLITS,
    WORDS,
)

# Where a shape surely has ink, in radii from its centre; elsewhere the centre itself has.
INSIDE = {"ring": (0.8, 0.0), "moon": (-0.5, 0.0)}


def run(folder, split="train", n=40, size=64, seed=0):
    for _ in export(split, n, size, seed, folder):
        pass
    return [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]


def test_the_command_writes_pictures_and_metadata(tmp_path, capsys):
    out = tmp_path / "data" / "train"
    command = ["export", "--world", "shapes", "--split", "train", "-n", "12", "--size", "32"]
    assert main([*command, "--seed", "1", "--out", str(out)]) == 0
    assert "12 pictures of 32 px" in capsys.readouterr().out
    rows = [json.loads(line) for line in (out / "metadata.jsonl").read_text().splitlines()]
    files = sorted(path.name for path in out.iterdir())
    assert files == [f"{i:06d}.png" for i in range(12)] + ["metadata.jsonl"]
    assert [row["file_name"] for row in rows] == files[:-1]
    assert set(rows[0]) == {"file_name", "text", "objects", "background", "words"}
    assert all(load_png(out / name).shape == (3, 32, 32) for name in files[:-1])


@pytest.mark.parametrize("split", SPLITS)
def test_ground_truth_is_in_the_pixels_and_in_the_text(tmp_path, split):
    rows = run(tmp_path, split, n=60, size=128)
    for row in rows:
        picture = (load_png(tmp_path / row["file_name"]) + 1) / 2
        corner = BACKGROUND_RGB[BACKGROUNDS.index(row["background"])]
        assert (picture[:, 0, 0] - corner).abs().max() < 0.01
        assert all(word in WORDS and word in row["text"] for word in row["words"])
        for thing in row["objects"]:
            assert set(thing) == {"shape", "color", "size", "x", "y"}
            assert f"{thing['color']} {thing['shape']}" in row["text"]
            dx, dy = INSIDE.get(thing["shape"], (0, 0))
            radius = RADII[SIZES.index(thing["size"])].item()
            x, y = thing["x"] + dx * radius, thing["y"] + dy * radius
            rgb = COLOUR_RGB[COLOURS.index(thing["color"])]
            assert (picture[:, int(128 * y), int(128 * x)] - rgb).abs().max() < 0.01, (row, thing)
        if row["words"]:
            assert ((picture - INK[:, None, None]).abs().amax(0) < 0.01).sum() > 128
    pairs = {(o["shape"], o["color"]) for row in rows for o in row["objects"]}
    held_out = {(s, COLOURS[c]) for s, c in zip(SHAPES, HELD_OUT_COLOUR.tolist(), strict=True)}
    assert bool(pairs & held_out) == (split == "pairs")


def test_a_picture_depends_on_its_seed_only(tmp_path):
    """Not on how many there are, nor, but for its pixels, on the size."""
    few, many = run(tmp_path / "few", n=5), run(tmp_path / "many", n=300)
    assert many[:5] == few and len({row["text"] for row in many}) > 150
    assert (tmp_path / "few/000004.png").read_bytes() == (tmp_path / "many/000004.png").read_bytes()
    assert run(tmp_path / "large", n=5, size=96) == few
    assert run(tmp_path / "other", n=5, seed=1) != few


@pytest.fixture(autouse=True)
def _folders(tmp_path):
    for name in ("few", "many", "large", "other"):
        (tmp_path / name).mkdir()


def test_large_pictures_are_drawn_a_few_at_a_time(tmp_path):
    assert list(export("train", 3, 1024, 0, tmp_path)) == [1, 2, 3]
    assert load_png(tmp_path / "000000.png").shape == (3, 1024, 1024)


def test_png_round_trip_is_exact(tmp_path):
    picture = torch.randint(256, (3, 5, 7), dtype=torch.uint8)
    save_png(picture, tmp_path / "p.png")
    assert torch.equal(to_uint8(load_png(tmp_path / "p.png")), picture)


def test_a_foreign_file_is_no_picture(tmp_path):
    (tmp_path / "p.png").write_text("no picture")
    with pytest.raises(ValueError, match="not a readable picture"):
        load_png(tmp_path / "p.png")
    with pytest.raises(ValueError, match="there is no picture"):
        load_png(tmp_path / "q.png")
