"""A world from tar files: what is read, what is left out, which batches, and what --tar writes."""

import io
import json
import os
import random
import sys
import tarfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from test_distributed import CPU, launch, losses_of
from test_distributed import tiny as make_tiny

from minidalle2.commands.cli import main
from minidalle2.scale import loop as scale_loop
from minidalle2.scale.distributed import number, own_rows, processes, together
from minidalle2.training import stages
from minidalle2.worlds.captions import BadCaption
from minidalle2.worlds.catalogue import label_of, open_world
from minidalle2.worlds.folder.world import Folder
from minidalle2.worlds.report import Report
from minidalle2.worlds.shards.members import BrokenShard
from minidalle2.worlds.shards.names import expand, label, names_shards, shards_of
from minidalle2.worlds.shards.sample import caption_of
from minidalle2.worlds.shards.samples import samples
from minidalle2.worlds.shards.world import Shards
from minidalle2.worlds.stored import distinct


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def picture(i: int, form="PNG", size=(50, 40)) -> bytes:
    """A colour of its own, with black lines at its left: about plain ones a fresh upsampler is
    right, and what it then learns from is rounding."""
    buffer, image = io.BytesIO(), Image.new("RGB", size, (i % 256, i // 256, 99))
    for x in range(0, size[0] // 3, 5):
        image.paste((0, 0, 0), (x, 0, x + 2, size[1]))
    image.save(buffer, form)
    return buffer.getvalue()


def write(path: Path, files: list[tuple[str, bytes]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in files:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def pairs(start: int, stop: int) -> list[tuple[str, bytes]]:
    named = [(f"{i:05}.png", picture(i), f"{i:05}.txt", f"Thing {i}.") for i in range(start, stop)]
    return [file for p, data, t, text in named for file in ((p, data), (t, text.encode()))]


@pytest.fixture
def opened(tmp_path):
    return lambda name: Shards(str(name), tmp_path / "cache")


@pytest.fixture
def shards(tmp_path) -> Path:
    """120 samples in three shards."""
    for shard in range(3):
        write(tmp_path / f"s/{shard:03}.tar", pairs(40 * shard, 40 * shard + 40))
    return tmp_path / "s"


def refused(capsys, *command: str) -> str:
    """Runs a command that must fail → its one sentence."""
    assert main(list(command)) == 2
    said = capsys.readouterr()
    assert said.err.startswith("minidalle2: ") and said.err.count("\n") == 1
    return said.err


# --- names --------------------------------------------------------------------------------------


def test_patterns():
    assert expand("a-{08..11}.tar") == ["a-08.tar", "a-09.tar", "a-10.tar", "a-11.tar"]
    assert expand("{0..1}/{2..3}.tar") == ["0/2.tar", "0/3.tar", "1/2.tar", "1/3.tar"]
    assert expand("plain.tar") == ["plain.tar"]
    for wrong in ("{3..1}.tar", "{0..99999999999}.tar", "{0..9999}{0..9999}.tar"):
        with pytest.raises(ValueError, match="stands for no shard or for more than"):
            expand(wrong)


def test_which_names_are_shards(shards, tmp_path, monkeypatch):
    monkeypatch.setenv("MINIDALLE2_CACHE", str(tmp_path / "cache"))
    pattern = str(shards / "{000..001}.tar")
    assert [path.name for path in shards_of(pattern)] == ["000.tar", "001.tar"]
    assert len(shards_of(str(shards))) == 3
    assert label(str(shards)) == label(pattern) == label_of(pattern) == "s"
    assert isinstance(open_world(str(shards)), Shards) and isinstance(open_world(pattern), Shards)
    assert not names_shards("shapes") and not names_shards(str(tmp_path))
    (shards / "metadata.jsonl").write_text('{"file_name": "a.png", "text": "a"}\n')
    (shards / "a.png").write_bytes(picture(1))
    assert isinstance(open_world(str(shards)), Folder)


def test_a_missing_shard_is_named(shards, capsys):
    said = refused(capsys, "train", "clip", "--world", str(shards / "{001..009}.tar"))
    assert "7 of 9 shards" in said and "the first of them is" in said and "003.tar;" in said
    assert "1 of 1 shards" in refused(capsys, "train", "clip", "--world", "atlantis.tar")


# --- samples ------------------------------------------------------------------------------------


def test_grouping_captions_and_everything_that_is_wrong(tmp_path, opened):
    files = [
        ("a/1.jpg", picture(1, "JPEG")),
        ("a/1.json", b'{"caption": "From JSON."}'),
        ("a/1.npy", b"passed over"),
        ("b/1.webp", picture(2, "WEBP")),
        ("b/1.txt", b" From  txt "),
        ("b/1.json", b'{"text": "not this"}'),
        ("2.PNG", picture(3)),
        ("2.TXT", b"large letters"),
        ("3.png", picture(4)),
        ("4.txt", b"alone"),
        ("5.png", picture(5)),
        ("5.txt", b" . "),
        ("6.png", picture(6)),
        ("6.txt", b"\xff\xfe\xfd"),
        ("7.png", picture(7)),
        ("7.json", b"{"),
        ("8.png", picture(8)),
        ("8.json", b'{"title": "no key"}'),
        ("9.png", picture(9)),
        ("9.json", b'{"text": "\\ud800"}'),
        ("10.png", picture(10)),
        ("10.txt", b"a" * (1 << 20)),
        ("10.seg.png", picture(0)),
        ("11.png", picture(11)),
        ("11.txt", b"a" * ((1 << 20) + 1)),
        (".hidden.png", picture(0)),
        ("dir/README", b"no sample"),
        ("3.txt", b"too late"),
    ]
    path, report = write(tmp_path / "x/a.tar", files), Report()
    found = list(samples(path, report))
    assert [sample.key for sample in found] == ["a/1", "b/1", "2", "10"]
    data = path.read_bytes()
    for sample, number_ in zip(found, (1, 2, 3, 10), strict=True):
        piece = sample.picture
        form = {"a/1": "JPEG", "b/1": "WEBP"}.get(sample.key, "PNG")
        assert data[piece.offset : piece.offset + piece.size] == picture(number_, form)
    texts = [
        caption_of(data[p.offset : p.offset + p.size], p.extension)
        for p in (sample.caption for sample in found[:3])
    ]
    assert texts == ["From JSON.", " From  txt ", "large letters"]
    said = str(report)
    for part in (
        '1 without a caption (a.tar/8): expected the key "text" or "caption", found title',
        "1 without a picture (a.tar/4): put a .png",
        "1 whose files lie apart (a.tar/3): a picture and its caption must be adjacent",
        "1 with an empty caption (a.tar/5)",
        "1 with broken JSON (a.tar/7)",
        "2 with a caption that is not Unicode text (a.tar/6, a.tar/9)",
        "1 with a caption that is far too long (a.tar/11)",
    ):
        assert part in said, (part, said)
    assert f"left out: {said}" in opened(path).summary
    assert f"left out: {said}" in opened(path).summary  # from the index as well


def test_json_that_is_no_caption():
    for written, problem in (
        (b"[]", "with JSON that is not an object; write one object"),
        (b"7", "with JSON that is not an object"),
        (b'{"text": 7}', 'with a number as its "text" instead of text'),
        (b'{"text": null, "caption": "x"}', 'with null as its "text" instead of text'),
        (b'{"title": "x"}', 'without a caption; expected .*"text" or "caption", found title'),
    ):
        with pytest.raises(BadCaption, match=problem):
            caption_of(written, "json")
    with pytest.raises(BadCaption, match="broken JSON"):
        caption_of(b"[" * 100_000, "json")


def test_what_cannot_be_decoded_gives_its_turn_to_the_next(tmp_path, opened):
    files = pairs(0, 30)
    files[8] = (files[8][0], b"no picture")
    files[20] = (files[20][0], picture(10)[:60])
    world = opened(write(tmp_path / "x/a.tar", files))
    n = world.enough // 8
    pictures, captions = world.captioned(n, seeded(), size=128)
    assert not {"thing 4", "thing 10"} & set(captions)
    reds = ((pictures[:, 0, 64, 64] + 1) * 127.5).round().int().tolist()
    assert [f"thing {red}" for red in reds] == captions
    said = "2 unreadable (a.tar/00004.png, a.tar/00010.png): it has no known format, or "
    assert world.unreadable().startswith(said) and "save it as PNG" in world.unreadable()
    hopeless = [(name, b"x" if name.endswith("png") else data) for name, data in files]
    with pytest.raises(
        ValueError, match="100 pictures of .* can't be decoded, .*: it has no known"
    ):
        opened(write(tmp_path / "y/a.tar", hopeless)).captioned(2, seeded())


def test_the_command_says_what_could_not_be_decoded(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MINIDALLE2_CACHE", str(tmp_path / "cache"))
    make_tiny(monkeypatch.setattr)
    files = pairs(0, 12)
    files[8] = (files[8][0], b"no picture")
    path = write(tmp_path / "x/a.tar", files)
    command = ["train", "--world", str(path), "--profile", "smoke", "--out", str(tmp_path / "o")]
    assert main([*command, "--device", "cpu", "tokenizer"]) == 0
    assert main([*command, "--device", "cpu", "clip"]) == 0
    said = capsys.readouterr().out
    assert "1 unreadable (a.tar/00004.png)" in said and "samples to train on" in said


# --- broken and hostile tar files -----------------------------------------------------------------


def test_a_star_is_not_understood(shards):
    with pytest.raises(ValueError, match=r"contains a \*, .* give the folder of the tar files"):
        shards_of(str(shards / "*.tar"))


@pytest.mark.parametrize("place", ["header", "picture", "between", "padding", "end"])
def test_a_truncated_tar_loses_only_the_samples_after_the_cut(shards, opened, place):
    path = shards / "001.tar"
    with tarfile.open(path) as tar:
        member = tar.getmembers()[41]
    cut = {
        "header": member.offset + 100,
        "picture": member.offset_data + 3,
        "between": member.offset,
        "padding": member.offset_data + member.size,
        "end": path.stat().st_size // 10240 * 10240 - 10240,
    }
    path.write_bytes(path.read_bytes()[: cut[place]])
    world = opened(shards)
    assert "1 tar file with a fault (001.tar): " in world.summary
    assert "001.tar is cut off or broken" in world.summary
    assert "download or write it again" in world.summary
    found = sum(world._index.count(split) for split in ("train", "held_out"))
    assert found == {"end": 119}.get(place, 100)  # the last sample is in the last 10,240 bytes


def test_without_a_complete_tar_file_there_is_one_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MINIDALLE2_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "tars"
    folder.mkdir()
    (folder / "a.tar").write_bytes(b"<html>not found</html>")
    said = refused(capsys, "train", "clip", "--world", str(folder), "--out", str(tmp_path / "o"))
    assert "a.tar is not a plain tar file" in said and "download or write it again" in said
    assert not list((tmp_path / "cache").glob("*.tmp*")) and not (tmp_path / "o").exists()


@pytest.mark.parametrize("where", [10, 124, 150, 156])  # name, size, checksum, type
def test_a_damaged_header_costs_one_sample(shards, opened, where):
    path = shards / "001.tar"
    with tarfile.open(path) as tar:
        start = tar.getmembers()[41].offset  # the caption of the twenty-first sample
    data = bytearray(path.read_bytes())
    data[start + where] = ord("8") if where == 150 else data[start + where] ^ 255  # 8 is not octal
    path.write_bytes(data)
    world = opened(shards)
    assert sum(world._index.count(split) for split in ("train", "held_out")) == 119
    assert f"1 with a damaged header (001.tar at byte {start:,}): what lies there" in world.summary
    assert "1 without a caption (001.tar/00060)" in world.summary


LARGE = (1 << 80) | (1 << 62)  # a header's size in binary, beyond what can be read


@pytest.mark.parametrize("kind", [b"L", b"x", b"g", b"0", b"S"])
@pytest.mark.parametrize(
    "size", [b"\x80" + LARGE.to_bytes(11, "big"), b"\xff" * 12, b"77777777777\0"]
)
def test_a_size_that_lies_is_a_broken_shard(tmp_path, kind, size):
    path = write(tmp_path / "a.tar", pairs(0, 6))
    data = bytearray(path.read_bytes())
    with tarfile.open(path) as tar:
        start = tar.getmembers()[4].offset
    data[start + 124 : start + 136], data[start + 156 : start + 157] = size, kind
    repair(data, start)
    path.write_bytes(data)
    with pytest.raises(BrokenShard):
        list(samples(path, Report()))


def repair(data: bytearray, start: int) -> None:
    """Make the checksum of the header at `start` right."""
    data[start + 148 : start + 156] = b" " * 8
    data[start + 148 : start + 156] = b"%06o\0 " % sum(data[start : start + 512])


@pytest.mark.parametrize("layout", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_damaged_headers_give_samples_or_a_broken_shard(tmp_path, layout):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w", format=layout) as tar:
        for name, data in pairs(0, 6):
            member = tarfile.TarInfo("ä" * 60 + "/" + "l" * 120 + name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    whole, outcomes = path.read_bytes(), set()
    for seed in range(300):
        rng, data = random.Random(seed), bytearray(whole)
        for _ in range(rng.randint(1, 3)):
            start = rng.randrange(len(data) // 512) * 512
            data[start + rng.choice((rng.randrange(512), 124, 130, 156))] = rng.randrange(256)
            repair(data, start)
        path.write_bytes(data)
        try:
            outcomes.add(len(list(samples(path, Report()))))
        except BrokenShard as error:
            outcomes.add("broken" if "\n" not in str(error) else str(error))
    assert outcomes <= {"broken", *range(7)} and {"broken", 6} <= outcomes, outcomes


@pytest.mark.parametrize("data", [b"", b"text" * 999, picture(1)])
def test_no_tar_at_all(tmp_path, opened, data):
    (tmp_path / "a.tar").write_bytes(data)
    with pytest.raises(ValueError, match=r"a\.tar is not a plain tar file; download"):
        opened(tmp_path / "a.tar")


def test_a_shard_that_shrinks_meanwhile(shards, opened):
    world = opened(shards)
    for path in shards.iterdir():
        os.truncate(path, 1024)
    with pytest.raises(ValueError, match="is shorter than it was"):
        world.captioned(8, seeded())


def test_names_in_a_tar_are_never_paths(tmp_path, opened, monkeypatch):
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    monkeypatch.chdir(tmp_path)
    hostile = ["../../evil", "/minidalle2-evil", "C:\\evil", "a/../../evil"]
    files = [
        file
        for i, name in enumerate(hostile * 9)
        for file in ((f"{name}{i}.png", picture(i)), (f"{name}{i}.txt", b"thing"))
    ]
    path = write(tmp_path / "x/a.tar", files)
    with tarfile.open(path, "a") as tar:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
            tar.addfile(tarfile.TarInfo("link.png"), io.BytesIO())
            link = tarfile.TarInfo("link.txt")
            link.type, link.linkname = kind, str(secret)
            tar.addfile(link)
    before = {file for file in tmp_path.rglob("*") if "cache" not in file.parts}
    world = opened(path)
    pictures, captions = world.captioned(20, seeded())
    assert len(pictures) == 20 and set(captions) == {"thing"}  # of a link nothing is read
    assert "without a caption" in world.summary
    assert {file for file in tmp_path.rglob("*") if "cache" not in file.parts} == before
    assert not list(Path("/").glob("minidalle2-evil*"))
    for folder in (tmp_path.parent, tmp_path.parent.parent):
        assert not list(folder.glob("evil*"))


# --- batches ------------------------------------------------------------------------------------


def test_pictures_and_captions_are_those_of_the_folder(tmp_path, opened):
    """The same files as a folder of pictures: the same pixels, at every size."""
    sizes = [(90, 260), (300, 200), (64, 64), (7, 5)]
    noise = np.random.default_rng(0)
    lines, files = [], []
    (tmp_path / "f").mkdir()
    for i, (width, height) in enumerate(sizes * 4):
        pixels = noise.integers(256, size=(height, width, 3), dtype=np.uint8)
        form = ("PNG", "JPEG", "WEBP")[i % 3]
        buffer, name = io.BytesIO(), f"{i}.{form.lower()}"
        Image.fromarray(pixels).save(buffer, form)
        (tmp_path / "f" / name).write_bytes(buffer.getvalue())
        lines.append(json.dumps({"file_name": name, "text": f"Thing {i}."}))
        files += [(name, buffer.getvalue()), (f"{i}.txt", f"Thing {i}.".encode())]
    (tmp_path / "f/metadata.jsonl").write_text("\n".join(lines))
    folder, world = Folder(tmp_path / "f", tmp_path / "c"), opened(write(tmp_path / "a.tar", files))
    for size in (128, 64, 48, 32, 1):
        of_folder = folder._batch(torch.arange(len(folder.files)), size)
        theirs = dict(zip(of_folder[1], of_folder[0], strict=True))
        pictures, captions = world.captioned(world.enough // 8, seeded(), size=size)
        assert len(captions) >= 12
        for ours, caption in zip(pictures, captions, strict=True):
            assert torch.equal(ours, theirs[caption])


def test_the_interface_of_a_world(shards, opened):
    world = opened(shards)
    assert not world.forkable and world.judge is None and world.unreadable() == ""
    for make in ("captioned", "near_misses", "contrasting"):
        a, b, other = (getattr(world, make)(19, seeded(s)) for s in (3, 3, 4))
        assert a[0].shape == (19, 3, 32, 32) and a[0].abs().max() <= 1 and len(a[1]) == 19
        assert torch.equal(a[0], b[0]) and a[1] == b[1] != other[1]
        assert len(set(a[1])) == 19 if make != "near_misses" else len(set(a[1][:8])) == 8
    crops = [world.crops(9, seeded(s), 128) for s in (3, 3)]
    assert crops[0].shape == (9, 3, 32, 32) and torch.equal(*crops)
    for wrong in (0, 129):
        with pytest.raises(ValueError, match=f"no pictures of {wrong} px"):
            world.captioned(1, seeded(), size=wrong)
    with pytest.raises(ValueError, match="no crops of pictures of 48 px"):
        world.crops(1, seeded(), 48)
    with pytest.raises(ValueError, match="unknown split 'test'.*train, held_out"):
        world.captioned(1, seeded(), "test")
    assert world.captioned(0, seeded())[0].shape == (0, 3, 32, 32)


def test_crops_are_windows_of_the_pictures(tmp_path, opened):
    pixels = np.random.default_rng(0).integers(256, size=(128, 128, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    files = [f for i in range(3) for f in ((f"{i}.png", buffer.getvalue()), (f"{i}.txt", b"x"))]
    world = opened(write(tmp_path / "a.tar", files))
    whole = world.captioned(1, seeded(), size=64)[0]
    windows = whole.unfold(2, 16, 2).unfold(3, 16, 2)  # (1, 3, y, x, 16, 16)
    for crop in world.crops(20, seeded(), 64):
        assert (windows == crop[:, None, None]).flatten(4).all(-1).all(1).any()


def test_held_out_stays_held_out_when_a_shard_is_added(shards, opened):
    world = opened(shards)
    train, held_out = (
        set(world.captioned(world._index.count(split), seeded(), split)[1])
        for split in ("train", "held_out")
    )
    assert not train & held_out and len(train | held_out) == 120 and 1 <= len(held_out) <= 15
    write(shards / "000a.tar", pairs(500, 520))
    more = opened(shards)
    assert held_out <= set(more.captioned(more._index.count("held_out"), seeded(), "held_out")[1])


def test_distinct_rows():
    for total, n in ((10, 3), (10, 9), (10, 25), (10**12, 64), (1, 4), (5, 0)):
        rows = distinct(total, n, seeded())
        assert rows.shape == (n,) and len(set(rows.tolist())) == min(n, total)
        assert torch.equal(rows, distinct(total, n, seeded()))
        assert not n or 0 <= rows.min() <= rows.max() < total
    counts = torch.zeros(50)
    for seed in range(2_000):
        counts[distinct(50, 10, seeded(seed))] += 1
    assert (counts / 400 - 1).abs().max() < 0.25  # four and a half deviations


def test_the_index_is_kept_and_made_anew(shards, opened, tmp_path, monkeypatch):
    first = opened(shards).captioned(8, seeded())[1]
    kept = sorted(path.name for path in (tmp_path / "cache").iterdir())
    with monkeypatch.context() as patch:
        patch.setattr("minidalle2.worlds.shards.index.samples", None)  # not read again
        assert opened(shards).captioned(8, seeded())[1] == first
    write(shards / "003.tar", pairs(120, 121))
    assert opened(shards)._index.count("train") + opened(shards)._index.count("held_out") == 121
    now = sorted(path.name for path in (tmp_path / "cache").iterdir())
    assert now != kept and len(now) == len(kept) or os.name == "nt"  # the older one is gone


# --- training -----------------------------------------------------------------------------------


def train(stage: str, world: Shards, folder: Path, stop_at: int | None = None) -> list[float]:
    train_stage = stages.train_stage if processes() == 1 else scale_loop.train_stage
    return losses_of(train_stage(stage, world, folder, "smoke", CPU), stop_at)


TRAINED = ("tokenizer", "clip", "prior", "decoder", "upsampler64")


def work(folder: Path) -> None:
    """What each of the two processes does."""
    make_tiny()
    world = Shards(str(folder / "s"), folder / "cache")
    with together(lambda: CPU):
        rows = [world.captioned(16, seeded(step), rows=own_rows(16)) for step in range(3)]
        torch.save(rows, folder / f"rows-{number()}.pt")
        every = {stage: train(stage, world, folder / "by_two") for stage in TRAINED[:2]}
        every |= {stage: train(stage, world, folder / "later") for stage in TRAINED[2:]}
        every["resumed"] = train("clip", world, folder / "begun")
        (folder / f"losses-{number()}.json").write_text(json.dumps(every))


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    for shard in range(3):
        write(folder / f"s/{shard:03}.tar", pairs(40 * shard, 40 * shard + 40))
    write(folder / "s/bad.tar", [("a.png", b"no picture"), ("a.txt", b"x"), *pairs(200, 230)])
    world = Shards(str(folder / "s"), folder / "cache")
    with pytest.MonkeyPatch.context() as patch:
        make_tiny(patch.setattr)
        alone = {stage: train(stage, world, folder / "alone") for stage in TRAINED}
        (folder / "losses.json").write_text(json.dumps(alone))
        for begun in ("begun", "killed"):
            for stage in ("tokenizer", "clip"):
                train(stage, world, folder / begun, stop_at=2)
        (folder / "later/clip").mkdir(parents=True)  # stages after the same CLIP
        for needed in ("tokenizer.json", "clip/config.json", "clip/model.safetensors"):
            (folder / "later" / needed).write_bytes((folder / "alone" / needed).read_bytes())
        resumed = train("clip", Shards(str(folder / "s"), folder / "cache"), folder / "killed")
        (folder / "resumed.json").write_text(json.dumps(resumed))
    launch(2, __file__, str(folder))
    return folder


def test_two_processes_share_the_batches_of_one(trained):
    world = Shards(str(trained / "s"), trained / "cache")
    halves = [torch.load(trained / f"rows-{process}.pt") for process in (0, 1)]
    for step in range(3):
        images, captions = world.captioned(16, seeded(step))
        assert torch.equal(images, torch.cat([half[step][0] for half in halves]))
        assert captions == [caption for half in halves for caption in half[step][1]]


def test_a_process_decodes_its_own_rows_only(shards, opened, monkeypatch):
    """The rows of a batch do not depend on which of them are asked for."""
    from minidalle2.worlds.shards import world as module

    decoded, square = [], module.square
    monkeypatch.setattr(module, "square", lambda *data: decoded.append(1) or square(*data))
    world = opened(shards)
    for make in ("captioned", "contrasting"):
        images, captions = getattr(world, make)(16, seeded(2))
        for rows in (slice(0, 8), slice(8, 16)):
            decoded.clear()
            own = getattr(world, make)(16, seeded(2), rows=rows)
            assert len(decoded) == 8
            assert torch.equal(own[0], images[rows]) and own[1] == captions[rows]


@pytest.mark.parametrize("stage", TRAINED[1:])
def test_two_processes_have_the_losses_of_one(trained, stage):
    alone = json.loads((trained / "losses.json").read_text())[stage]
    first, second = (
        json.loads((trained / f"losses-{process}.json").read_text())[stage] for process in (0, 1)
    )
    assert first == second and len(alone) == 4
    assert first[0] == pytest.approx(alone[0], rel=1e-5)
    assert first == pytest.approx(alone, rel=2e-3)  # see test_distributed.py


def test_a_resumed_training_is_the_undisturbed_one(trained):
    alone = json.loads((trained / "losses.json").read_text())["clip"]
    assert json.loads((trained / "resumed.json").read_text()) == alone[2:]
    weights = [
        (trained / run / "clip/model.safetensors").read_bytes() for run in ("alone", "killed")
    ]
    assert weights[0] == weights[1]
    resumed = json.loads((trained / "losses-0.json").read_text())["resumed"]
    assert resumed == pytest.approx(alone[2:], rel=2e-3)  # begun by one process, ended by two


# --- memory -------------------------------------------------------------------------------------


def peak(name: Path, cache: Path) -> int:
    """Most bytes that Python and numpy held while shards were opened and a batch was read."""
    tracemalloc.start()
    world = Shards(str(name), cache)
    world.captioned(16, seeded())
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return most


def test_memory_does_not_grow_with_the_samples_of_a_shard(tmp_path):
    data = picture(3)
    for n in (50, 300, 3_000):
        files = [f for i in range(n) for f in ((f"{i}.png", data), (f"{i}.txt", b"thing"))]
        write(tmp_path / f"{n}.tar", files)
    peak(tmp_path / "50.tar", tmp_path / "cache")  # imports and caches
    few, many = (peak(tmp_path / f"{n}.tar", tmp_path / "cache") for n in (300, 3_000))
    assert many < few + 200_000, (few, many)  # its index alone has 144,000 bytes, on disk


@pytest.mark.skipif(os.name == "nt", reason="a hole of 4 GB takes 4 GB there")
def test_memory_does_not_grow_with_the_bytes_of_a_shard(tmp_path):
    """4 GB that belong to a sample, but are no picture, are passed over and never read."""
    path = write(tmp_path / "a.tar", pairs(0, 30))
    with open(path, "r+b") as file, tarfile.open(path) as tar:
        end = max(member.offset_data + 512 for member in tar.getmembers())
        large = tarfile.TarInfo("huge.bin")
        large.size = 4 << 30
        file.seek(end)
        file.write(large.tobuf(tarfile.GNU_FORMAT))
        file.truncate(end + 512 + large.size + 1024)
    assert path.stat().st_size > 4 << 30
    assert peak(path, tmp_path / "cache") < 8 << 20


# --- export -------------------------------------------------------------------------------------


def exported(folder: Path, n=25, tar="10", world="shapes") -> list[Path]:
    command = ["export", "--world", world, "-n", str(n), "--size", "128", "--out", str(folder)]
    assert main([*command, "--tar", tar]) == 0
    return sorted(folder.iterdir())


def test_export_and_open_again(tmp_path, opened, capsys, bars):
    files = exported(tmp_path / "tar")
    assert [path.name for path in files] == ["000000.tar", "000001.tar", "000002.tar"]
    assert "25 pictures of 128 px in 3 tar files" in capsys.readouterr().out
    plain = ["export", "--world", "shapes", "-n", "25", "--size", "128"]
    assert main([*plain, "--out", str(tmp_path / "plain")]) == 0
    folder, world = Folder(tmp_path / "plain", tmp_path / "c"), opened(tmp_path / "tar")
    everything = folder._batch(torch.arange(25), 128)
    theirs = {caption: image for image, caption in zip(*everything, strict=True)}
    assert len(theirs) == 25
    activities = ["reading the pictures in plain", "looking for changed pictures"]
    activities += ["indexing the tar files", "packing 25 pictures", "drawing 25 pictures"]
    assert set(activities) == set(bars.full())
    assert bars.moves["packing 25 pictures"] == 25 < bars.moves["indexing the tar files"]
    n = {split: world._index.count(split) for split in ("train", "held_out")}
    assert sum(n.values()) == 25
    pictures, captions = world.captioned(n["train"], seeded(), size=128)
    assert all(torch.equal(p, theirs[c]) for p, c in zip(pictures, captions, strict=True))


def test_bytes_repeat_and_hold_nothing_of_the_machine(tmp_path):
    first, second = exported(tmp_path / "a"), exported(tmp_path / "b")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    with tarfile.open(first[1]) as tar:
        members = tar.getmembers()
        facts = json.load(tar.extractfile("000010.json"))
        assert tar.extractfile("000010.txt").read().decode() == facts["text"]
        assert facts["file_name"] == "000010.png" and facts["objects"]
    assert [member.name for member in members[:4]] == [
        "000010.png",
        "000010.txt",
        "000010.json",
        "000011.png",
    ]
    assert {(m.mtime, m.uid, m.gid, m.uname, m.gname) for m in members} == {(0, 0, 0, "", "")}


def test_a_shorter_export_leaves_no_shard_of_a_longer_one(tmp_path):
    exported(tmp_path / "a", 25)
    (tmp_path / "a/mine.tar").write_bytes(b"")
    assert [path.name for path in exported(tmp_path / "a", 12)] == [
        "000000.tar",
        "000001.tar",
        "mine.tar",
    ]


def test_folders_and_tar_files_are_not_mixed(tmp_path, capsys):
    exported(tmp_path / "tar")
    command = ["export", "-n", "2", "--out"]
    assert "already holds tar files" in refused(capsys, *command, str(tmp_path / "tar"))
    assert main([*command, str(tmp_path / "plain")]) == 0
    said = refused(capsys, *command, str(tmp_path / "plain"), "--tar")
    assert "already holds a folder of pictures" in said
    assert "tar can't be evaluated or exported" in refused(
        capsys, *command, str(tmp_path / "o"), "--world", str(tmp_path / "tar")
    )


def test_the_licences_of_emoji_come_along(tmp_path):
    files = exported(tmp_path / "e", 6, "4", "emoji")
    assert [path.name for path in files] == ["000000.tar", "000001.tar", "LICENSES"]
    assert (tmp_path / "e/LICENSES/ATTRIBUTION.md").is_file()


if __name__ == "__main__":
    work(Path(sys.argv[1]))
