"""No command leaves a mixture of old and new results, and none removes a file of someone else."""

import json
import os
import unicodedata
from dataclasses import replace

import pytest
import torch
from PIL import Image
from tiny_model import save_tiny

from minidalle2.commands import evaluate, export, results, speedrun
from minidalle2.commands.cli import main
from minidalle2.commands.output_folder import alone, earlier_export, earlier_results
from minidalle2.commands.results import Drawn, write_results
from minidalle2.storage.file_names import file_of, slug
from minidalle2.storage.ours import is_ours
from minidalle2.storage.pictures import save_image, save_png
from minidalle2.worlds.emoji.definition import EMOJI
from minidalle2.worlds.emoji.names import licences


def drawn(names: list[str], stop: BaseException | None = None):
    """Pictures with these names, then perhaps an error."""
    for name in names:
        yield Drawn(name, name, {}, torch.zeros(3, 8, 8, dtype=torch.uint8))
    if stop:
        raise stop


def write(folder, *names: str, stop: BaseException | None = None) -> None:
    """Like a command: pictures, manifest, grid."""
    grid = Image.new("RGB", (8, 8))
    write_results(
        folder, drawn(list(names), stop), lambda written: save_image(grid, folder / "grid.png")
    )


def found(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def manifest(folder) -> list[str]:
    lines = (folder / "manifest.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line)["file"] for line in lines]


A, B, C = "0000_a.png", "0001_b.png", "0000_c.png"


def test_new_results_replace_all_earlier_ones_and_nothing_else(tmp_path, capsys):
    write(tmp_path, A, B)
    for name in ("holiday.png", "notes.txt", "0007_mine.png"):
        (tmp_path / name).write_text("mine")
    assert capsys.readouterr().out == ""
    write(tmp_path, C)
    assert found(tmp_path) == [
        *(C, "0007_mine.png", "grid.png", "holiday.png", "manifest.jsonl", "notes.txt")
    ]
    assert manifest(tmp_path) == [C] and (tmp_path / "0007_mine.png").read_text() == "mine"
    said = capsys.readouterr().out
    assert said == f"removed the results of an earlier command from {tmp_path} (4 files)\n"


def test_an_error_before_the_first_picture_changes_nothing(tmp_path):
    write(tmp_path, A, B)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ZeroDivisionError):
        write(tmp_path, stop=ZeroDivisionError())
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_ctrl_c_leaves_new_results_only(tmp_path):
    write(tmp_path, A, B)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, C, stop=KeyboardInterrupt())
    assert found(tmp_path) == [C, "manifest.jsonl"] and manifest(tmp_path) == [C]
    write(tmp_path, A)
    assert found(tmp_path) == [A, "grid.png", "manifest.jsonl"]


def test_a_full_disk_leaves_no_half_picture(tmp_path, monkeypatch):
    def half(picture, path):
        save_png(picture, path)
        if path.name == B:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(results, "save_png", half)
    with pytest.raises(OSError):
        write(tmp_path, A, B)
    assert found(tmp_path) == [A, "manifest.jsonl"]
    with pytest.raises(OSError):
        write(tmp_path, B)
    assert found(tmp_path) == ["manifest.jsonl"]
    write(tmp_path, C)
    assert found(tmp_path) == [C, "grid.png", "manifest.jsonl"]


@pytest.mark.parametrize(
    "line",
    [
        '{"file": "../x.png"}',
        '{"file": "../0000_x.png"}',
        '{"file": "/0000_x.png"}',
        '{"file": "0000_a/../../x.png"}',
        '{"file": "..\\\\0000_x.png"}',
        '{"file": "C:0000_x.png"}',
        '{"file": "holiday.png"}',
        '{"file": "manifest.jsonl"}',
        '{"file": 3}',
        '{"name": "0000_a.png"}',
        '["0000_a.png"]',
        "no JSON",
        "[" * 100_000,
        "\ud800",
        "",
    ],
)
def test_a_manifest_of_someone_else_stops_the_command(tmp_path, line):
    folder = tmp_path / "out"
    folder.mkdir()
    for victim in (tmp_path / "x.png", tmp_path / "0000_x.png", folder / "holiday.png"):
        save_png(torch.zeros(3, 8, 8, dtype=torch.uint8), victim)
    (folder / "manifest.jsonl").write_bytes((line + "\n").encode("utf-8", "surrogatepass"))
    before = found(tmp_path), found(folder)
    with pytest.raises(ValueError, match="is not a file that minidalle2 wrote"):
        write(folder, C)
    assert (found(tmp_path), found(folder)) == before


def test_an_unfinished_line_is_no_file_of_ours(tmp_path):
    (tmp_path / "manifest.jsonl").write_text('{"file": "0000_a.png"}')  # without its line end
    with pytest.raises(ValueError, match="is not a file that minidalle2 wrote"):
        earlier_results(tmp_path)


@pytest.mark.parametrize("name", [A, "grid.png"])
def test_a_changed_result_is_kept_and_the_command_stops(tmp_path, name):
    write(tmp_path, A, B)
    Image.open(tmp_path / name).rotate(90).save(tmp_path / name)  # in another program
    before = found(tmp_path)
    with pytest.raises(ValueError, match=f"{name} has the name of a result, but"):
        write(tmp_path, C)
    assert found(tmp_path) == before


def test_a_file_of_someone_else_is_not_overwritten(tmp_path):
    write(tmp_path, A)
    (tmp_path / C).write_text("mine")
    with pytest.raises(ValueError, match="minidalle2 did not write this file"):
        write(tmp_path, C)
    assert found(tmp_path) == [A, C, "grid.png", "manifest.jsonl"]
    (tmp_path / "grid.png").write_text("mine")
    with pytest.raises(ValueError, match="grid.png has the name of a result"):
        write(tmp_path, A)
    assert {(tmp_path / name).read_text() for name in (C, "grid.png")} == {"mine"}


def test_a_result_without_a_line_stops_the_command(tmp_path):
    write(tmp_path, A, B)
    (tmp_path / "manifest.jsonl").unlink()
    with pytest.raises(ValueError, match=f"{A} is a result of minidalle2, but manifest.jsonl"):
        write(tmp_path, C)


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_links_are_not_followed(tmp_path):
    (tmp_path / "real").mkdir()
    write(tmp_path / "real", A)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / C).symlink_to(tmp_path / "real" / A)
    with pytest.raises(ValueError, match="did not write this file"):
        write(tmp_path / "out", C)
    assert is_ours(tmp_path / "real" / A) and not is_ours(tmp_path / "out" / C)


@pytest.mark.parametrize(("tar", "file"), [((), "metadata.jsonl"), (("--tar", "2"), "000000.tar")])
def test_a_data_set_and_drawings_do_not_share_a_folder(tmp_path, tar, file):
    (tmp_path / "data").mkdir()
    assert exported(tmp_path / "data", 2, *tar) == 0
    before = found(tmp_path / "data")
    said = rf"holds a data set, such as `export` writes \({file}\)"
    with pytest.raises(ValueError, match=said):
        write(tmp_path / "data", A)
    assert found(tmp_path / "data") == before
    (tmp_path / "drawn").mkdir()
    write(tmp_path / "drawn", A)
    before = found(tmp_path / "drawn")
    assert exported(tmp_path / "drawn", 2, *tar) == 2
    assert found(tmp_path / "drawn") == before


def test_two_commands_cannot_write_at_once(tmp_path):
    with alone(tmp_path), pytest.raises(ValueError, match="another command is writing to"):
        write(tmp_path, A)
    write(tmp_path, A)
    assert found(tmp_path) == [A, "grid.png", "manifest.jsonl"]  # and no lock


# The commands


@pytest.fixture
def weights(tiny_dalle2, few_steps, tmp_path_factory):
    tiny_dalle2.sampling = few_steps
    return save_tiny(tiny_dalle2, tmp_path_factory.mktemp("weights"))


@pytest.fixture
def picture(tmp_path):
    Image.new("RGB", (40, 40), "red").save(tmp_path / "red.png")
    image = Image.new("L", (40, 40))
    image.paste(255, (20, 0, 40, 40))
    image.save(tmp_path / "mask.png")
    return tmp_path / "red.png"


@pytest.mark.parametrize("command", ["draw", "vary", "edit", "blend", "inpaint"])
def test_every_drawing_command_replaces_results(weights, tmp_path, picture, command):
    words = {
        "draw": ["draw", "a red circle"],
        "vary": ["vary", picture, "-n", "1"],
        "edit": ["edit", picture, "--from", "a red circle", "--to", "a star", "--frames", "1"],
        "blend": ["blend", picture, "--text", "a star", "--frames", "2"],
        "inpaint": ["inpaint", picture, "--mask", tmp_path / "mask.png", "-n", "1"],
    }[command]
    out = tmp_path / "out"
    out.mkdir()
    write(out, *(f"{i:04d}_old.png" for i in range(9)))
    options = ["--size", "32", "--device", "cpu", "--weights", weights, "--out", out]
    options += [] if command == "draw" else ["--steps", "2"]
    assert main([str(word) for word in (*words, *options)]) == 0
    assert found(out) == sorted([*manifest(out), "grid.png", "manifest.jsonl"])
    assert not any("old" in name for name in found(out))


@pytest.mark.parametrize("command", ["vary", "inpaint"])
def test_an_input_is_not_replaced(weights, tmp_path, capsys, command):
    write(tmp_path, A, B)
    mask = ["--mask", str(tmp_path / B)] if command == "inpaint" else []
    given = tmp_path / "." / A
    if mask:
        Image.new("RGB", (8, 8), "red").save(given := tmp_path / "mine.png")
        image = Image.new("RGB", (8, 8))
        image.paste((255, 255, 255), (0, 0, 4, 8))
        save_image(image, tmp_path / B)
    before = found(tmp_path)
    options = ["--weights", str(weights), "--device", "cpu", "--out", str(tmp_path)]
    assert main([command, str(given), *mask, *options]) == 2
    said = capsys.readouterr().err
    assert "is a result of an earlier command in" in said and "--out" in said
    assert found(tmp_path) == before


def test_a_drawn_picture_can_be_varied_with_the_default_folders(
    weights, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    options = ["--weights", str(weights), "--device", "cpu", "--size", "32"]
    assert main(["draw", "a red circle", *options]) == 0
    one = f"outputs/{manifest(tmp_path / 'outputs')[0]}"
    assert main(["vary", one, "-n", "1", "--steps", "2", *options]) == 0
    assert main(["edit", one, "--from", "a", "--to", "b", "--steps", "2", *options]) == 0
    assert (tmp_path / one).exists()
    assert {"vary", "edit"} <= set(found(tmp_path / "outputs"))
    assert main(["draw", "a star", *options]) == 0  # and leaves the folders of the others
    assert {"vary", "edit"} <= set(found(tmp_path / "outputs"))


# export


def exported(folder, n=3, *options: str) -> int:
    command = ["export", "-n", str(n), "--size", "8", "--out", str(folder)]
    return main([*command, *options])


@pytest.mark.parametrize("tar", [(), ("--tar", "2")])
def test_an_interrupted_export_leaves_the_earlier_one(tmp_path, monkeypatch, tar):
    assert exported(tmp_path, 5, *tar) == 0
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def stopped(folder, *_):
        (folder / "000000.png").write_text("half")
        raise KeyboardInterrupt

    def interrupted(world, args, folder):
        stopped(folder)

    monkeypatch.setattr(export, "export_folder", interrupted)
    assert exported(tmp_path, 3, *tar) == 130
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_shorter_export_replaces_a_longer_one(tmp_path):
    for tar, names in ((), ["000000.png", "metadata.jsonl"]), (("--tar", "2"), ["000000.tar"]):
        folder = tmp_path / f"out{len(tar)}"
        assert exported(folder, 5, *tar) == 0
        (folder / "mine.png").touch()
        assert exported(folder, 1, *tar) == 0
        assert found(folder) == sorted([*names, "mine.png"])


def test_licences_do_not_stay_with_pictures_of_another_world(tmp_path):
    (tmp_path / "LICENSES").mkdir()
    for path in licences().iterdir():
        (tmp_path / "LICENSES" / path.name).write_bytes(path.read_bytes())
    (tmp_path / "LICENSES" / "mine.txt").write_text("mine")
    assert exported(tmp_path, 1) == 0
    assert found(tmp_path / "LICENSES") == ["mine.txt"]


@pytest.mark.parametrize("command", ["export", "evaluate"])
def test_a_licence_of_someone_else_is_not_overwritten(tmp_path, monkeypatch, capsys, command):
    mine = tmp_path / "LICENSES" / "ATTRIBUTION.md"
    mine.parent.mkdir()
    mine.write_text("mine")
    if command == "export":
        assert exported(tmp_path, 1, "--world", "emoji") == 2
    else:
        assert sheets_of(monkeypatch, tmp_path, EMOJI.report.sheets) == 2
    assert "ATTRIBUTION.md has the name of a licence" in capsys.readouterr().err
    assert found(tmp_path) == ["LICENSES"] and mine.read_text() == "mine"
    mine.write_bytes((licences() / mine.name).read_bytes())
    assert exported(tmp_path, 1, "--world", "emoji") == 0


def test_a_dataset_of_someone_else_is_not_replaced(tmp_path, capsys):
    Image.new("RGB", (8, 8)).save(tmp_path / "000000.png")
    lines = '{"file_name": "000000.png", "text": "a photo"}\n'
    (tmp_path / "metadata.jsonl").write_text(lines)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert exported(tmp_path, 1) == 2
    assert "000000.png has the name of a result" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    (tmp_path / "metadata.jsonl").write_text(lines.replace("000000", "cat"))
    with pytest.raises(ValueError, match="metadata.jsonl is not a file that minidalle2 wrote"):
        earlier_export(tmp_path)
    (tmp_path / "metadata.jsonl").unlink()
    with pytest.raises(ValueError, match="000000.png has the name of a result"):
        earlier_export(tmp_path)
    (tmp_path / "000000.png").rename(tmp_path / "000000.tar")
    with pytest.raises(ValueError, match="000000.tar has the name of a result"):
        earlier_export(tmp_path)


# evaluate and speedrun


def sheets_of(monkeypatch, folder, names, stop=None) -> int:
    def rows(weights, device, what, n, seed, pictures):
        for name in names:
            save_image(Image.new("RGB", (8, 8)), pictures / name)
        if stop:
            raise stop
        yield from ()

    world = replace(EMOJI, report=replace(EMOJI.report, evaluate=rows))
    monkeypatch.setattr(evaluate, "definition", lambda name: world)
    return main(
        ["evaluate", "--world", "emoji", "--weights", "w", "--device", "cpu"]
        + ["--pictures", str(folder)]
    )


def test_evaluate_replaces_all_sheets(tmp_path, monkeypatch, capsys):
    old, new = EMOJI.report.sheets[:3], EMOJI.report.sheets[4:]
    assert new == ("copying.png",)
    assert sheets_of(monkeypatch, tmp_path, old) == 0
    assert sheets_of(monkeypatch, tmp_path, []) == 0 and found(tmp_path) == sorted(old)
    (tmp_path / "mine.png").touch()
    assert sheets_of(monkeypatch, tmp_path, new, KeyboardInterrupt()) == 130
    assert found(tmp_path) == ["copying.png", "mine.png"]
    Image.new("RGB", (8, 8)).save(tmp_path / "copying.png")
    assert sheets_of(monkeypatch, tmp_path, old) == 2
    assert "copying.png has the name of a result" in capsys.readouterr().err


def test_a_speedrun_removes_the_record_of_other_weights(tmp_path):
    record = tmp_path / "record.json"
    speedrun.remove_record(record)
    record.write_text(json.dumps(dict.fromkeys(("hardware", "profile", "rows", "seconds"))))
    speedrun.remove_record(record)
    assert not record.exists()
    for text in ('{"tracks": []}', "[]", "3", "no JSON"):
        record.write_text(text)
        with pytest.raises(ValueError, match="record.json is not a record of a speedrun"):
            speedrun.remove_record(record)
        assert record.read_text() == text


# File names


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("A small, red circle.", "a_small_red_circle"),
        ("红苹果", "红苹果"),
        ("一只noto风格的狗，蓝色背景", "一只noto风格的狗_蓝色背景"),
        ("Cafe\u0301 & ÉCLAIR", "café_éclair"),
        ("नमस्ते दुनिया", "नमस्ते_दुनिया"),
        ("สวัสดี", "สวัสดี"),
        ("می\u200cخواهم", "میخواهم"),
        ("사과", "사과"),
        (unicodedata.normalize("NFD", "사과"), "사과"),
        ("маленький круг", "маленький_круг"),
        ('../..\\c:*?"<>|x', "c_x"),
        ("a\u202egnp.exe\x00\n", "agnp_exe"),
        ("🍎 ❤\ufe0f", "picture"),
        ("\udce9 \u0301", "picture"),
        ("...", "picture"),
        ("", "picture"),
    ],
)
def test_names_keep_the_letters_of_every_script(text, name):
    assert slug(text) == name


@pytest.mark.parametrize("letter", ["a", "果", "𠀀", "각", "é", "ก็", "क्षि"])
def test_names_are_short_enough_for_every_file_system(letter):
    name = file_of(12_345, letter * 300)
    for form in ("NFC", "NFD"):
        assert len(unicodedata.normalize(form, name).encode()) <= 255
    assert unicodedata.normalize("NFC", name) == name
    assert len(slug(letter * 300)) > 20 and slug(letter * 300)[-1] == slug(letter)[-1]


@pytest.mark.parametrize("text", ["CON", "nul", "COM1.txt", "aux.", "a. ", "LPT¹"])
def test_no_name_is_reserved_on_windows(text):
    stem, end = file_of(0, text).rsplit(".", 1)
    assert end == "png" and stem.startswith("0000_") and not stem.endswith((".", " "))


def test_the_manifest_names_the_files_in_every_script(weights, tmp_path):
    odd = os.fsdecode(b"caf\xe9.png") if os.name == "posix" else "café.png"
    Image.new("RGB", (40, 40), "red").save(tmp_path / "x.png")
    try:
        (tmp_path / "x.png").rename(tmp_path / odd)
    except OSError:  # macOS has Unicode names only
        odd = "x.png"
    out = tmp_path / "out"
    options = ["--weights", str(weights), "--device", "cpu", "--size", "32", "--out", str(out)]
    assert main(["draw", "红苹果", "Café", *options]) == 0
    assert manifest(out) == ["0000_红苹果.png", "0001_café.png"]
    assert set(manifest(out)) < set(found(out))
    assert main(["vary", str(tmp_path / odd), "-n", "1", "--steps", "2", *options]) == 0
    line = json.loads((out / "manifest.jsonl").read_text("utf-8"))
    assert line["image"] == str(tmp_path / odd) and (out / line["file"]).exists()
