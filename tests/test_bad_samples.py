"""Samples of tar files that are wrong: which are left out, why, and that all others are used."""

import io
import tarfile

import pytest
from PIL import Image

from minidalle2.worlds.report import Report
from minidalle2.worlds.shards.members import members
from minidalle2.worlds.shards.samples import samples
from minidalle2.worlds.shards.world import Shards


def picture(i: int, form: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (9, 9), (i, 0, 0)).save(buffer, form)
    return buffer.getvalue()


def read(path, files: list[tuple[str, bytes]]) -> tuple[list[str], str]:
    """A tar file of these files → the keys of its samples, and the report."""
    with tarfile.open(path / "a.tar", "w") as tar:
        for name, data in files:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    report = Report()
    return [sample.key for sample in samples(path / "a.tar", report)], str(report)


def sample(key: str, extensions: str = "png txt") -> list[tuple[str, bytes]]:
    return [
        (f"{key}.{e}", b"a cat" if e.endswith("txt") else picture(7)) for e in extensions.split()
    ]


DOT = "with a second dot in its name"


@pytest.mark.parametrize(
    ("files", "keys", "said"),
    [
        (sample("22.05") + sample("22.06"), [], f"2 {DOT} (a.tar/22.05.png, a.tar/22.06.png): "),
        (sample("s", "input.jpg outputs.txt"), [], f"1 {DOT} (a.tar/s.input.jpg): the name of"),
        (sample("s", "jpg out.txt"), [], f"1 {DOT} (a.tar/s.out.txt): the name of"),
        (sample("s", "in.jpg txt"), [], f"1 {DOT} (a.tar/s.in.jpg): the name of"),
        (sample("22") + sample("22.05") + sample("9"), ["22", "9"], f"1 {DOT} (a.tar/22.05.png)"),
        (sample("22.05") + sample("22"), ["22"], f"1 {DOT} (a.tar/22.05.png)"),
        (sample("s", "png seg.png a.npy"), [], "1 without a caption (a.tar/s): "),
        (sample("s", "txt a.npy"), [], "1 without a picture (a.tar/s): "),
        (sample("s", "png seg.png txt depth.png"), ["s"], ""),  # further pictures of a sample
        (sample("a.b/1") + sample("a.b/2"), ["a.b/1", "a.b/2"], ""),  # a dot in a folder
    ],
)
def test_names_with_several_dots(tmp_path, files, keys, said):
    found, report = read(tmp_path, files)
    assert found == keys and report.startswith(said) and bool(report) == bool(said)


@pytest.mark.parametrize(
    ("files", "keys", "said"),
    [
        (sample("5", "png png txt"), [], "1 with two files of the same name (a.tar/5.png): it is"),
        (sample("5", "png PNG txt"), [], "1 with two files of the same name (a.tar/5.png)"),
        (sample("5", "png txt txt"), [], "1 with two files of the same name (a.tar/5.txt)"),
        (sample("5") * 2 + sample("6"), ["6"], "1 with two files of the same name (a.tar/5.png)"),
        (sample("5", "png jpg txt"), [], "1 with more than one picture (a.tar/5): it has .png and"),
        (sample("5", "png txt cls cls"), ["5"], ""),  # other files do not matter
        (sample("5") + sample("6") + sample("5"), ["5", "6", "5"], ""),  # two samples, as there
    ],
)
def test_what_comes_twice_is_not_chosen_silently(tmp_path, files, keys, said):
    found, report = read(tmp_path, files)
    assert found == keys and report.startswith(said) and bool(report) == bool(said)


def test_samples_whose_files_lie_apart(tmp_path):
    """All pictures and then all captions, as `tar` packs folders in the order of the disk."""
    keys = [str(i) for i in range(5)]
    files = [f for key in keys for f in sample(key, "png")]
    files += [f for key in keys[1:] for f in sample(key, "txt")] + sample("9")
    found, report = read(tmp_path, files)
    assert found == ["9"]
    apart = "4 whose files lie apart (a.tar/1, a.tar/2, a.tar/3, …): a picture and its caption must"
    assert apart in report and "tar --sort=name" in report
    assert "1 without a caption (a.tar/0): put a .txt or .json file" in report


@pytest.mark.parametrize(
    ("picture_name", "caption_name"),
    [("A", "a"), ("caf\u00e9", "cafe\u0301"), ("x\\1", "x/1"), ("X/É", "x\\e\u0301")],
)
def test_names_that_differ_only_in_spelling(tmp_path, picture_name, caption_name):
    files = sample(picture_name, "png") + sample(caption_name, "txt") + sample("6")
    found, report = read(tmp_path, files)
    assert found == ["6"] and report == (
        f"1 whose files are spelled differently (a.tar/{picture_name}): write upper and lower "
        "case, accents and slashes alike in the names of both files"
    )


@pytest.mark.parametrize("form", ["tiff", "bmp", "gif", "jp2"])
def test_formats_that_are_not_read(tmp_path, form):
    found, report = read(tmp_path, sample("4", f"{form} txt") + sample("5", form) + sample("6"))
    said = "2 with a picture in a format that is not read from tar files (a.tar/4, a.tar/5): "
    assert found == [
        "6"
    ] and report == f"{said}.{form} is not read; convert the pictures to PNG, " + ("JPEG or WebP")


def test_everything_else_that_is_no_sample_is_counted(tmp_path):
    files = sample("1", "mp4 cls") + sample("2", "png cls") + sample("3", "txt cls")
    files += [("4.png", b""), ("4.txt", b"x"), ("README", b"x"), (".hidden.png", b"x")]
    found, report = read(tmp_path, files + sample("6"))
    assert found == ["6"]
    assert "1 with neither a picture nor a caption (a.tar/1): .mp4, .cls: only .png" in report
    found = "directly after the picture, with the same path (found: .png, .cls)"
    assert f"1 without a caption (a.tar/2): put a .txt or .json file {found}" in report
    assert "1 without a picture (a.tar/3)" in report
    assert "1 with an empty file as its picture (a.tar/4): write or download" in report


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_links_are_named(tmp_path, kind):
    files = dict([*sample("1"), *sample("2"), *sample("3")])
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            if name in ("1.png", "2.txt"):
                member.type, member.linkname = kind, "3.png"
                data = b""
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    report = Report()
    assert [found.key for found in samples(tmp_path / "a.tar", report)] == ["3"]
    assert "1 without a picture because it is a link (a.tar/1.png): pack the files" in str(report)
    assert "1 without a caption because it is a link (a.tar/2.txt): pack the files" in str(report)


@pytest.mark.parametrize("layout", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_after_a_damaged_header_all_others_are_found(tmp_path, layout):
    """Also with long names, whose headers come in several blocks."""
    path, names = tmp_path / "a.tar", [f"{'d' * 60}/{'é' * 20}{i}.png" for i in range(6)]
    with tarfile.open(path, "w", format=layout) as tar:
        for i, name in enumerate(names):
            member = tarfile.TarInfo(name)
            member.size = 700 + i
            tar.addfile(member, io.BytesIO(bytes([i]) * member.size))
    data = bytearray(path.read_bytes())
    with tarfile.open(path) as tar:
        headers = [member.offset_data - 512 for member in tar.getmembers()]
    for i in (1, 2, 4):
        data[headers[i]] ^= 64
    path.write_bytes(data)
    report = Report()
    found = list(members(path, report))
    assert {member.size for member in found} >= {700, 703, 705} and len(found) <= 6
    assert all(data[m.offset : m.offset + m.size] == bytes([m.size - 700]) * m.size for m in found)
    if layout == tarfile.USTAR_FORMAT:
        # neighbouring damaged headers are one place
        assert [member.name for member in found] == [names[i] for i in (0, 3, 5)]
        assert str(report).startswith(f"2 with a damaged header (a.tar at byte {headers[1]:,}, ")


def test_the_reasons_of_undecodable_pictures_reach_the_user(tmp_path, monkeypatch):
    files = sample("0") + sample("1") + [("2.png", picture(3)[:40]), ("2.txt", b"x")]
    large = io.BytesIO()
    Image.new("RGB", (90, 80)).save(large, "PNG")
    files += [("3.png", large.getvalue()), ("3.txt", b"x")]
    read(tmp_path, files)
    monkeypatch.setattr("minidalle2.storage.decode.MOST_PIXELS", 100)
    monkeypatch.setattr("minidalle2.worlds.shards.index.HELD_OUT", 0)
    world = Shards(str(tmp_path / "a.tar"), tmp_path / "cache")
    for row in range(4):
        world._sample(row, "train", 32)
    said = world.unreadable()
    assert "1 unreadable (a.tar/2.png): it has no known format, or its beginning is" in said
    assert "1 with too many pixels (a.tar/3.png): it has 0 million pixels (90 x 80), and" in said


def test_archives_that_are_not_read_are_named(tmp_path):
    (tmp_path / "s/more").mkdir(parents=True)
    read(tmp_path / "s", sample("0") + sample("1") + sample("2"))
    for other in ("more/b.tar", "c.tar.gz"):
        (tmp_path / "s" / other).touch()
    summary = Shards(str(tmp_path / "s"), tmp_path / "cache").summary
    assert "1 not read because it is packed (c.tar.gz): unpack it" in summary
    assert f"1 not read because it is in a subfolder (more/b.tar): open {tmp_path}" in summary
