"""A world from any folder: what is read, what is left out and said, what is held out."""

import csv
import io
import json
import math
import os
import random
import struct
import zlib
from contextlib import suppress
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from minidalle2.commands.cli import main
from minidalle2.priors.kinds import PRIORS
from minidalle2.storage.decode import square
from minidalle2.storage.pictures import to_uint8
from minidalle2.tokenizer import clean
from minidalle2.training import stages
from minidalle2.training.embedded import Embedded
from minidalle2.training.recipe import Recipe
from minidalle2.training.world import Sizes
from minidalle2.worlds.folder.metadata import read_metadata
from minidalle2.worlds.folder.world import OTHER_SPLITS, Folder, _held_out
from minidalle2.worlds.report import Report

LEFT, RIGHT = (230, 40, 40), (40, 60, 220)


def two_colours(size=(160, 128), mode="RGB") -> Image.Image:
    """Red on the left, blue on the right."""
    picture = Image.new("RGB", size, LEFT)
    picture.paste(RIGHT, (size[0] // 2, 0, *size))
    return picture.convert(mode)


def saved(picture: Image.Image, form: str, **options) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()


def numbered(i: int, size=(40, 40)) -> Image.Image:
    return Image.new("RGB", size, (i % 256, i // 256, 99))


def write(folder, lines, pictures=None, name="metadata.jsonl"):
    """Lines are dicts or raw text; `pictures`: name → bytes, else each file_name gets its own."""
    folder.mkdir(parents=True, exist_ok=True)
    if pictures is None:
        names = [line["file_name"] for line in lines]
        pictures = {name: saved(numbered(i), "PNG") for i, name in enumerate(names)}
    for file, data in pictures.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(data)
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    (folder / name).write_text(text + "\n", encoding="utf-8")
    return folder


def lines_of(n, start=0):
    return [{"file_name": f"{i:04}.png", "text": f"thing {i}"} for i in range(start, start + n)]


@pytest.fixture
def opened(tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    return lambda path: Folder(path, cache)


def batch(world, n=8, split="train", size=32, seed=0):
    return world.captioned(n, torch.Generator().manual_seed(seed), split, size)


# --- decoding -----------------------------------------------------------------------------------


def colours(data: bytes) -> tuple[np.ndarray, np.ndarray]:
    """→ a pixel well on the left and one on the right."""
    picture = square(data, 128)
    assert picture.size == (128, 128) and picture.mode == "RGB"
    pixels = np.asarray(picture).astype(int)
    return pixels[64, 20], pixels[64, 108]


@pytest.mark.parametrize(
    ("mode", "form", "tolerance"),
    [
        ("RGB", "PNG", 1),
        ("RGB", "JPEG", 12),
        ("RGB", "WEBP", 25),
        ("RGB", "BMP", 1),
        ("RGB", "TIFF", 1),
        ("RGB", "PPM", 1),
        ("P", "PNG", 40),
        ("P", "GIF", 40),
        ("RGBA", "PNG", 1),
        ("CMYK", "JPEG", 12),
        ("CMYK", "TIFF", 2),
        ("YCbCr", "JPEG", 12),
    ],
)
def test_modes_and_formats(mode, form, tolerance):
    left, right = colours(saved(two_colours(mode=mode), form))
    assert abs(left - LEFT).max() <= tolerance and abs(right - RIGHT).max() <= tolerance


@pytest.mark.parametrize("mode", ["L", "LA", "1", "I;16", "I", "F"])
def test_grey_of_any_depth(mode):
    """Dark left, light right; 16 bits must not be cut off at 255."""
    grey = np.full((64, 64), 0.25)
    grey[:, 32:] = 0.75
    if mode == "I;16":
        picture = Image.fromarray((grey * 65535).astype(np.uint16))
    elif mode == "I":
        picture = Image.fromarray((grey * 65535).astype(np.int32))
    elif mode == "F":
        picture = Image.fromarray(grey.astype(np.float32))
    else:
        picture = Image.fromarray((grey * 255).astype(np.uint8)).convert(mode, dither=None)
        if mode == "1":
            picture = Image.fromarray(((grey > 0.5) * 255).astype(np.uint8)).convert("1")
    left, right = colours(saved(picture, "TIFF" if mode in ("I", "F") else "PNG"))
    expected = (0, 255) if mode == "1" else (64, 191)
    assert abs(left - expected[0]).max() <= 2 and abs(right - expected[1]).max() <= 2


def test_transparency_is_white():
    clear = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    clear.paste((200, 0, 0, 128), (32, 0, 64, 64))
    left, right = colours(saved(clear, "PNG"))
    assert left.tolist() == [255] * 3 and abs(right - (227, 127, 127)).max() <= 2
    palette = two_colours().quantize(8)
    index = palette.getpixel((0, 0))
    left, right = colours(saved(palette, "PNG", transparency=index))
    assert left.tolist() == [255] * 3 and abs(right - RIGHT).max() <= 3


def test_exif_says_which_way_is_up():
    upright = two_colours((128, 128))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned a quarter clockwise
    data = saved(upright.transpose(Image.Transpose.ROTATE_90), "JPEG", exif=exif, quality=95)
    left, right = colours(data)
    assert abs(left - LEFT).max() <= 12 and abs(right - RIGHT).max() <= 12


@pytest.mark.parametrize(
    "size", [(1, 1), (3, 2000), (2000, 3), (500, 129), (127, 128), (3000, 2000)]
)
def test_any_size_gives_its_square_centre(size):
    picture = Image.new("RGB", size, (0, 200, 0))
    width, height = size
    short = min(size)
    ends = Image.new("RGB", (max(1, (width - short) // 2), max(1, (height - short) // 2)), "red")
    if width != height:  # the crop loses both ends of the long side
        ends = ends.resize((ends.width, height) if width > height else (width, ends.height))
        picture.paste(ends, (0, 0))
        picture.paste(ends, (width - ends.width, height - ends.height))
    pixels = np.asarray(square(saved(picture, "PNG"), 128)).astype(int)
    assert pixels.shape == (128, 128, 3)
    inner = pixels[2:-2, 2:-2] if short > 10 else pixels[60:68, 60:68]
    assert abs(inner - (0, 200, 0)).max() <= (8 if short > 10 else 16)  # half a pixel shows


def test_shrinking_averages():
    """A fine checkerboard becomes grey; without antialiasing it would stay black and white."""
    board = np.indices((1024, 1024)).sum(0) % 2 * 255
    pixels = np.asarray(square(saved(Image.fromarray(board.astype(np.uint8)), "PNG"), 128))
    assert abs(pixels.astype(int) - 127).max() <= 4


def bomb(width=60_000, height=60_000) -> bytes:
    """A PNG's head that promises 3.6 gigapixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no picture",
        saved(two_colours(), "PNG")[:200],
        saved(two_colours(), "JPEG")[:400],
        saved(two_colours(), "EPS"),
        bomb(),
    ],
    ids=["empty", "text", "half a PNG", "half a JPEG", "a program", "a bomb"],
)
def test_what_is_no_picture(data):
    with pytest.raises(ValueError, match="not a readable picture"):
        square(data, 128)


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    form=st.sampled_from(["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "TGA", "ICO"]),
)
def test_broken_bytes_give_a_picture_or_a_valueerror(seed, form):
    rng, data = random.Random(seed), bytearray(saved(two_colours((48, 32)), form))
    for _ in range(rng.randint(1, 12)):
        data[rng.randrange(len(data))] = rng.randrange(256)
    with suppress(ValueError):
        assert square(bytes(data), 128).size == (128, 128)


# --- metadata -----------------------------------------------------------------------------------


def test_jsonl_and_csv_say_the_same(tmp_path, opened):
    lines = [
        {"file_name": "a.png", "text": 'A cat, "sleeping"', "more": [1]},
        {"file_name": "deep/er/b.png", "text": "Zwölf 猫\tauf  dem Dach."},
    ]
    write(tmp_path / "j", lines)
    write(
        tmp_path / "c",
        [],
        {line["file_name"]: (tmp_path / "j" / line["file_name"]).read_bytes() for line in lines},
    )
    (tmp_path / "c/metadata.jsonl").unlink()
    with open(tmp_path / "c/metadata.csv", "w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, ["text", "file_name"])
        writer.writeheader()
        writer.writerows({k: line[k] for k in ("text", "file_name")} for line in lines)
    for kind in "jc":
        world = opened(tmp_path / kind)
        assert world.files == ["a.png", "deep/er/b.png"]
        assert world.captions == ['a cat, "sleeping"', "zwölf 猫 auf dem dach"]
    assert torch.equal(
        batch(opened(tmp_path / "j"), 2, size=128)[0], batch(opened(tmp_path / "c"), 2, size=128)[0]
    )


def test_everything_wrong_is_in_one_summary_and_nothing_is_fatal(tmp_path, opened):
    good = lines_of(6)
    pictures = {line["file_name"]: saved(numbered(i), "PNG") for i, line in enumerate(good)}
    pictures |= {
        "text.png": b"no picture",
        "half.jpg": saved(two_colours(), "JPEG")[:300],
        "copy.png": pictures["0002.png"],
        "silent.png": saved(numbered(70), "PNG"),
        "blank.png": saved(numbered(71), "PNG"),
        "unlisted.png": saved(numbered(72), "PNG"),
        "half_a_character.png": saved(numbered(73), "PNG"),
    }
    bad = [
        {"file_name": "text.png", "text": "x"},
        {"file_name": "half.jpg", "text": "x"},
        {"file_name": "copy.png", "text": "x"},
        {"file_name": "silent.png"},
        {"file_name": "blank.png", "text": " . "},
        {"file_name": "gone.png", "text": "x"},
        {"file_name": "./0001.png", "text": "again"},
        {"file_name": "../secret.png", "text": "x"},
        {"file_name": "/etc/x.png", "text": "x"},
        {"file_name": "C:\\x.png", "text": "x"},
        {"file_name": "half_a_character.png", "text": "\ud800"},
        {"file_name": "nul\0.png", "text": "x"},
        {"file_name": "long" * 2000, "text": "x"},
        {"text": "no name"},
        {"file_name": 7, "text": "x"},
        "{broken",
        "[" * 100_000,
        "[]",
        "",
    ]
    (tmp_path / "secret.png").write_bytes(saved(numbered(99), "PNG"))
    world = opened(write(tmp_path / "f", good + bad, pictures))
    assert world.files == [line["file_name"] for line in good]
    summary = world.summary
    for part in (
        "6 pictures to train on, 0 held out",
        "2 unreadable (text.png, half.jpg)",
        "1 the same picture as another (copy.png)",
        "1 without a caption (silent.png)",
        "1 with an empty caption (blank.png)",
        "1 without a line in the metadata (unlisted.png)",
        "1 listed twice (0001.png)",
        "3 outside the folder (../secret.png, /etc/x.png, C:\\x.png)",
        "3 missing (gone.png",
        "1 with a caption that is not Unicode text (half_a_character.png)",
        '1 without a file_name (metadata.jsonl line 20): expected "file_name", found text',
        '1 with a number as its "file_name" instead of text (metadata.jsonl line 21)',
        "2 with broken JSON (metadata.jsonl line 22, metadata.jsonl line 23)",
        "1 with JSON that is not an object (metadata.jsonl line 24)",
    ):
        assert part in summary, (part, summary)
    assert len(summary) < 3000 and "nul?.png, longlonglong" in summary
    assert opened(tmp_path / "f").summary == summary  # from the cache, too


def test_few_pictures_warn(tmp_path, opened):
    assert "fewer than 300 pictures" in opened(write(tmp_path / "few", lines_of(4))).summary
    many = opened(write(tmp_path / "many", lines_of(330)))
    assert "fewer" not in many.summary and "left out" not in many.summary


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda f: f.mkdir(), "no metadata.jsonl or metadata.csv"),
        (lambda f: f.touch(), "is not a folder"),
        (lambda f: write(f, []), "its metadata is empty"),
        (lambda f: write(f, lines_of(2), {}), "no usable picture in .*: 2 missing"),
        (lambda f: write(f, lines_of(1), {"0000.png": b"x"}), "no usable picture .*1 unreadable"),
        (
            lambda f: write(f, ["name;text", "a;b"], {}, "metadata.csv"),
            "has the columns name;text;",
        ),
        (lambda f: write(f, [], {}, "metadata.csv"), "file_name,text in its first line"),
        (lambda f: write(f / "test", lines_of(3)), "none to train on"),
    ],
)
def test_folders_that_cannot_be_used(tmp_path, opened, make, sentence):
    make(tmp_path / "f")
    with pytest.raises(ValueError, match=sentence) as error:
        opened(tmp_path / "f")
    assert "\n" not in str(error.value)


def test_metadata_that_is_no_text(tmp_path, opened):
    for name in ("metadata.jsonl", "metadata.csv"):
        folder = write(tmp_path / name, [])
        (folder / "metadata.jsonl").unlink()
        (folder / name).write_bytes("file_name,text\na.png,Käse\n".encode("latin-1"))
        with pytest.raises(ValueError, match="not UTF-8 text"):
            opened(folder)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=5,
)
names = st.sampled_from(["0000.png", "0001.png", ".", "..", "", "sub", "metadata.jsonl"]) | values
json_lines = st.fixed_dictionaries({}, optional={"file_name": names, "text": values}).map(
    json.dumps
)
noise = st.binary(max_size=60) | st.text(max_size=60).map(lambda t: t.encode("utf-8", "replace"))


@settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    lines=st.lists(json_lines.map(str.encode) | noise, max_size=8),
    name=st.sampled_from(["metadata.jsonl", "metadata.csv"]),
    header=st.booleans(),
)
def test_any_metadata_gives_captions_or_a_valueerror(tmp_path, lines, name, header):
    folder = tmp_path / "f"
    write(folder, lines_of(2))
    (folder / "metadata.jsonl").unlink()
    (folder / "metadata.csv").unlink(missing_ok=True)
    (folder / name).write_bytes(b"\n".join([b"file_name,text"] * header + lines))
    report = Report()
    try:
        found = read_metadata(folder, report)
    except ValueError as error:
        assert str(error).isprintable()
        return
    assert all((folder / file).is_file() and text.strip() for file, text in found.items())
    assert str(report).isprintable() and len(str(report)) < 3000


# --- splits, batches and the cache --------------------------------------------------------------


def test_held_out_is_fixed_by_names_and_never_in_train(tmp_path, opened):
    world = opened(write(tmp_path / "a", lines_of(400)))
    train, held_out = (set(world.rows(split).tolist()) for split in ("train", "held_out"))
    assert not train & held_out and len(train) + len(held_out) == 400 and 8 <= len(held_out) <= 35
    names = {world.files[row] for row in held_out}
    captions = {world.captions[row] for row in held_out}
    for make in (world.captioned, world.near_misses):
        assert not captions & set(make(1200, torch.Generator().manual_seed(0))[1])
    assert set(batch(world, 100, "held_out")[1]) == captions
    more = opened(write(tmp_path / "b", lines_of(600)))  # 200 more: none of the others moves
    again = {more.files[row] for row in more.rows("held_out").tolist()}
    assert names == {name for name in again if int(name[:4]) < 400}


def test_from_twenty_pictures_on_one_is_held_out():
    for start in range(0, 2000, 20):
        files = [f"{i}.png" for i in range(start, start + 20)]
        assert 1 <= sum(_held_out(files)) < 20
    assert sum(sum(_held_out([f"{i}.png"])) for i in range(50)) == 0  # never all there is


def test_few_pictures_hold_none_out_and_say_so(tmp_path, opened):
    world = opened(write(tmp_path / "f", lines_of(3)))
    with pytest.raises(ValueError, match="has 3 pictures, too few to hold one out"):
        batch(world, split="held_out")


@pytest.mark.parametrize("at_root", [True, False])
def test_folders_of_other_splits_are_held_out_whole(tmp_path, opened, at_root):
    train, test = lines_of(30), lines_of(12, 100)
    if at_root:
        lines = [{**line, "file_name": f"train/{line['file_name']}"} for line in train]
        lines += [{**line, "file_name": f"test/{line['file_name']}"} for line in test]
        write(tmp_path, lines)
    else:
        write(tmp_path / "train", train)
        pictures = {
            line["file_name"]: saved(numbered(500 + i), "PNG") for i, line in enumerate(test)
        }
        write(tmp_path / "test", test, pictures)
    world = opened(tmp_path)
    held_out = {world.files[row] for row in world.rows("held_out").tolist()}
    assert {f"test/{line['file_name']}" for line in test} <= held_out
    assert 12 <= len(held_out) <= 17 and len(world.files) == 42
    assert "test" in OTHER_SPLITS and "train" not in OTHER_SPLITS


def test_near_misses_with_fewer_captions_than_a_group(tmp_path, opened):
    lines = [{"file_name": f"{i}.png", "text": f"kind {i % 3}"} for i in range(18)]
    captions = opened(write(tmp_path / "f", lines)).near_misses(20, torch.Generator())[1]
    for start in (0, 8):
        assert len(set(captions[start : start + 8])) == 3
    assert len(captions) == 20


def test_pictures_go_with_their_captions(tmp_path, opened):
    """Also after some were left out, in every kind of batch."""
    lines = lines_of(120)
    pictures = {line["file_name"]: saved(numbered(2 * i), "PNG") for i, line in enumerate(lines)}
    for i in (0, 50, 51):
        pictures[f"{i:04}.png"] = b"broken"
    world = opened(write(tmp_path / "f", lines, pictures))
    generator = torch.Generator().manual_seed(0)
    for make in (world.captioned, world.near_misses):
        images, captions = make(60, generator)
        reds = to_uint8(images)[:, 0, 16, 16].tolist()
        assert [f"thing {red // 2}" for red in reds] == captions


def embedded_for(recipe, world, clip=None, tokenizer=None):
    """The embeddings that the job of a prior draws from."""
    model = SimpleNamespace(config=SimpleNamespace(clip_embedding=4))
    kind = replace(PRIORS["regression"], prepared=lambda config, z_i, z_t: model)
    clip = clip or SimpleNamespace(config=SimpleNamespace(embedding=4))
    setting = SimpleNamespace(
        world=world,
        clip=clip,
        tokenizer=tokenizer,
        device="cpu",
        prefetch=lambda batches: batches,
        network=lambda stage, new: new(),
    )
    return stages.prior_job(kind, setting, recipe).draw.__self__


@pytest.mark.parametrize("n, steps, thousands", [(40, 900, 1), (300, 900, 3), (300, 20, 1)])
def test_a_prior_embeds_no_more_than_there_is(tmp_path, opened, n, steps, thousands):
    """Eight passes over the training pictures, in thousands, all of which are among them."""
    world = opened(write(tmp_path / "f", lines_of(n)))
    clip = SimpleNamespace(
        config=SimpleNamespace(embedding=4),
        parameters=lambda: iter([torch.zeros(1)]),
        encode_image=lambda images: torch.zeros(len(images), 4),
        encode_text=lambda tokens: torch.ones(len(tokens), 4),
    )
    tokenizer = SimpleNamespace(cut=lambda captions: torch.zeros(len(captions), 3))
    embedded = embedded_for(Recipe(steps=steps, batch_size=50), world, clip, tokenizer)
    assert len(embedded.z_i) == len(embedded.z_t) == len(embedded.captions) == 1_000 * thousands
    assert (embedded.z_i == 0).all() and (embedded.z_t == 1).all()
    drawn = set(embedded.captions)
    assert drawn == {world.captions[row] for row in world.rows("train").tolist()}


def test_a_long_training_takes_more_embeddings(monkeypatch):
    """Each some six to ten times."""
    asked = []

    def embed(world, clip, tokenizer, n, prefetch):
        asked.append(n)
        return Embedded(None, None, [], tokenizer)

    monkeypatch.setattr(stages, "embed", embed)
    endless = SimpleNamespace(enough=math.inf, sizes=Sizes())
    for steps in (100, 4_000, 16_000):
        embedded_for(Recipe(steps=steps, batch_size=256), endless)
    assert asked == [25_600 // 6, stages.EMBEDDED, 409_600]


def test_pictures_are_read_once_and_anew_when_they_change(tmp_path, opened, monkeypatch):
    from minidalle2.worlds.folder import world as module

    folder, read = write(tmp_path / "f", lines_of(5)), []
    monkeypatch.setattr(module, "square", lambda data, side: read.append(1) or square(data, side))
    first = batch(opened(folder), 5)
    assert len(read) == 5
    again = batch(opened(folder), 5)
    assert len(read) == 5 and torch.equal(first[0], again[0]) and first[1] == again[1]
    lines = [{**line, "text": "new " + line["text"]} for line in lines_of(5)]
    write(folder, lines, {})
    assert all(text.startswith("new thing") for text in batch(opened(folder), 5)[1])
    assert len(read) == 5  # captions are not kept
    (folder / "0003.png").write_bytes(saved(numbered(99, (41, 41)), "PNG"))
    assert not torch.equal(batch(opened(folder), 5)[0], first[0]) and len(read) == 10


def test_a_damaged_cache_is_made_anew(tmp_path):
    folder, cache = write(tmp_path / "f", lines_of(5)), tmp_path / "cache"
    first = batch(Folder(folder, cache), 5)[0]
    (pixels,) = cache.glob("*.u8")
    os.truncate(pixels, pixels.stat().st_size // 2)
    assert torch.equal(batch(Folder(folder, cache), 5)[0], first)
    (folder / "0000.png").write_bytes(saved(numbered(99, (41, 41)), "PNG"))
    Folder(folder, cache)
    assert len(list(cache.glob("*.u8"))) == 1 or os.name == "nt"  # the older one is gone


def test_the_same_folder_read_by_datasets(tmp_path, opened, monkeypatch):
    """Shapes as `export` writes them, and a folder of mixed modes: same captions, same pixels."""
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import datasets

    command = ["export", "--world", "shapes", "-n", "12", "--size", "128"]
    assert main([*command, "--out", str(tmp_path / "shapes/train")]) == 0
    mixed = {
        "a.png": saved(two_colours((300, 200), "RGBA"), "PNG"),
        "b.jpg": saved(two_colours((90, 260)), "JPEG"),
        "deep/c.png": saved(two_colours((64, 64), "P"), "PNG"),
        "d.webp": saved(two_colours((128, 200)), "WEBP"),
    }
    lines = [{"file_name": name, "text": f"The picture {name}."} for name in mixed]
    write(tmp_path / "mixed", lines, mixed)
    for name in ("shapes", "mixed"):
        theirs = datasets.load_dataset(
            "imagefolder",
            data_dir=str(tmp_path / name),
            split="train",
            cache_dir=str(tmp_path / "hf"),
        )
        ours = opened(tmp_path / name)
        rows = {clean(row["text"]): row["image"] for row in theirs}
        assert len(rows) == len(theirs) and set(ours.captions) == set(rows)
        pictures, captions = batch(ours, len(ours.rows("train")), size=128)
        for picture, caption in zip(to_uint8(pictures), captions, strict=True):
            theirs_square = np.asarray(square(saved(rows[caption], "PNG"), 128))
            # a JPEG may be decoded at a smaller size here, never at 128 px and below
            assert np.abs(picture.permute(1, 2, 0).numpy().astype(int) - theirs_square).max() <= 1
