"""The commands, run in this process on a tiny untrained model."""

import json
import re
import subprocess
import sys
import types
from dataclasses import replace

import pytest
from PIL import Image
from tiny_model import save_tiny
from torch import nn

from minidalle2.commands import arguments, evaluate, results, train
from minidalle2.commands.cli import main
from minidalle2.dalle2 import Sampling
from minidalle2.priors.kinds import PRIORS
from minidalle2.storage.devices import pick_device
from minidalle2.storage.labels import length, wrap
from minidalle2.storage.pictures import load_png
from minidalle2.training import stages
from minidalle2.training.run import Step
from minidalle2.worlds.shapes.definition import SHAPES

CIRCLE, TWO = "a small red circle", "A large blue square, left of a Star."


@pytest.fixture
def weights(tiny_dalle2, tmp_path_factory):
    return save_tiny(tiny_dalle2, tmp_path_factory.mktemp("weights"))


def draw_with(weights, out, *options) -> int:
    return main(["draw", *options, "--weights", str(weights), "--device", "cpu", "--out", str(out)])


def manifest(folder) -> list[dict]:
    lines = (folder / "manifest.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_draw_writes_a_picture_a_prompt_a_grid_and_a_manifest(weights, tmp_path, capsys):
    assert draw_with(weights, tmp_path, CIRCLE, TWO) == 0
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [
        "0000_a_small_red_circle.png",
        "0001_a_large_blue_square_left_of_a_star.png",
        "grid.png",
        "manifest.jsonl",
    ]
    lines = manifest(tmp_path)
    assert [(line["prompt"], line["seed"]) for line in lines] == [(CIRCLE, 0), (TWO, 0)]
    assert [line["file"] for line in lines] == names[:2]
    assert lines[0]["settings"] == {"prior": "diffusion", **vars(Sampling()), "size": 128}
    assert Image.open(tmp_path / names[0]).size == (128, 128)
    said = capsys.readouterr().out
    assert str(tmp_path / "grid.png") in said and "2 pictures of 128 px" in said
    assert "never seen" not in said


@pytest.mark.parametrize("size", [32, 64])
def test_draw_stops_at_the_size_asked_for(weights, tmp_path, size):
    assert draw_with(weights, tmp_path, CIRCLE, "--size", str(size)) == 0
    assert Image.open(tmp_path / "0000_a_small_red_circle.png").size == (size, size)
    assert manifest(tmp_path)[0]["settings"]["size"] == size


def test_n_counts_seeds_up(weights, tmp_path):
    several, alone = tmp_path / "several", tmp_path / "alone"
    draw_with(weights, several, CIRCLE, "a green star", "-n", "2", "--seed", "5", "--size", "32")
    assert [(line["prompt"], line["seed"]) for line in manifest(several)] == [
        (CIRCLE, 5),
        (CIRCLE, 6),
        ("a green star", 5),
        ("a green star", 6),
    ]
    draw_with(weights, alone, CIRCLE, "--seed", "6", "--size", "32")
    first, second = (load_png(several / f"000{i}_a_small_red_circle.png") for i in (0, 1))
    again = load_png(alone / "0000_a_small_red_circle.png")
    assert (first - second).abs().max() > 0.5
    assert (second - again).abs().max() < 1.5 / 127.5  # at most one grey level: other batch sizes


def test_same_seed_same_bytes(weights, tmp_path):
    for folder in ("a", "b"):
        draw_with(weights, tmp_path / folder, CIRCLE, TWO, "--seed", "3", "--size", "64")
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_guidance_reaches_the_decoder(weights, tmp_path):
    for guidance in ("1", "6"):
        draw_with(weights, tmp_path / guidance, CIRCLE, "--guidance", guidance, "--size", "32")
        assert manifest(tmp_path / guidance)[0]["settings"]["decoder_guidance"] == float(guidance)
    name = "0000_a_small_red_circle.png"
    assert (tmp_path / "1" / name).read_bytes() != (tmp_path / "6" / name).read_bytes()


def test_guidance_zero_ignores_the_prompt(weights, tmp_path):
    """Only one drawing is made, because CLIP would select by z_i, which depends on the prompt."""
    assert draw_with(weights, tmp_path, CIRCLE, "a green star", "--guidance", "0") == 0
    assert {line["settings"]["drawings"] for line in manifest(tmp_path)} == {1}
    first, second = (load_png(tmp_path / line["file"]) for line in manifest(tmp_path))
    assert (first - second).abs().max() < 1.5 / 127.5  # one grey level: rows of one batch


def test_prompts_file_skips_blank_lines_and_comments(weights, tmp_path):
    file = tmp_path / "prompts.txt"
    file.write_bytes("\ufeffa red circle\r\n\r\n  # no prompt\na café under a star\n".encode())
    out = tmp_path / "out"
    assert draw_with(weights, out, CIRCLE, "--prompts-file", str(file), "--size", "32") == 0
    assert [line["prompt"] for line in manifest(out)] == [
        CIRCLE,
        "a red circle",
        "a café under a star",
    ]
    assert (out / "0002_a_café_under_a_star.png").exists()


def test_more_pictures_than_a_chunk_and_than_the_grid(weights, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(results, "CHUNK", 2)
    monkeypatch.setattr(results, "IN_GRID", 3)
    assert draw_with(weights, tmp_path, CIRCLE, "-n", "5", "--size", "32") == 0
    assert len(manifest(tmp_path)) == 5 and len(list(tmp_path.glob("000*.png"))) == 5
    assert "the first 3" in capsys.readouterr().out


def test_the_grid_shows_the_pictures_above_their_labels(weights, tmp_path):
    draw_with(weights, tmp_path, CIRCLE, "a red star", "-n", "3")
    grid, picture = load_png(tmp_path / "grid.png"), load_png(tmp_path / "0004_a_red_star.png")
    rows = [
        top
        for top in range(grid.shape[1] - 128)
        if (grid[:, top : top + 128, 152:280] == picture).all()
    ]
    assert len(rows) == 1
    label = grid[:, rows[0] + 130 : rows[0] + 148, 12:140]
    assert (label < 0).any()  # ink
    assert (grid[:, :, -12:] == 1).all()  # and none of it leaves the grid


def test_labels_wrap_to_the_width_and_long_ones_end_in_dots():
    chinese = "红苹果，蓝色背景" * 9
    for text in (
        "a large red circle above a small blue square",
        "w" * 90,
        "круг " * 60,
        chinese,
        "a",
    ):
        lines = wrap(text, 128)
        assert max(map(length, lines)) <= 128 and len(lines) <= 8
    assert wrap("a large red circle", 1000) == ["a large red circle"]
    assert wrap("word " * 200, 128)[-1].endswith("…")


def test_ctrl_c_while_drawing_keeps_what_is_drawn(weights, tmp_path, monkeypatch, capsys):
    saved = results.save_png

    def press_after_two(picture, path):
        if path.name.startswith("0002"):
            raise KeyboardInterrupt
        saved(picture, path)

    monkeypatch.setattr(results, "save_png", press_after_two)
    assert draw_with(weights, tmp_path, CIRCLE, "-n", "4", "--size", "32") == 130
    assert capsys.readouterr().err == "minidalle2: stopped\n"
    assert len(manifest(tmp_path)) == 2


@pytest.mark.parametrize(
    "command",
    ["", "draw", "vary", "blend", "edit", "inpaint", "train", "evaluate", "export", "names"],
)
def test_help_reads_well(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([*command.split(), "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 100
    if command:
        assert f"example:\n  minidalle2 {command} " in text
    if command == "train":
        assert ", ".join(stages.STAGES) in " ".join(text.split())


def test_help_does_not_wait_for_torch():
    code = "import sys, minidalle2.commands.cli as c; c.build_parser(); assert 'torch' not in "
    code += "sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_draw_offers_every_prior():
    assert tuple(PRIORS) == arguments.PRIORS


def test_auto_takes_the_best_device_that_is_there(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: True)
    assert pick_device("auto").type == "mps"
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert pick_device("auto").type == "cuda"
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    assert pick_device("auto").type == "cpu"


def fake_stage(stage, world, folder, profile, device, minutes, execution, weights):
    """Three steps; notes what it was called with."""
    calls.append((stage, folder.name, profile, device.type, minutes))
    for i in range(1, 4):
        yield Step(i, 3, 1.0 / i, 1.0, 1e-3, float(i), nn.Identity())
        if stage == stop_in:
            (folder / stage).mkdir()
            (folder / stage / "training.safetensors").touch()
            raise KeyboardInterrupt


calls, stop_in = [], ""


@pytest.fixture
def fake_training(monkeypatch):
    calls.clear()
    monkeypatch.setattr(train, "steps_of", fake_stage)
    monkeypatch.setattr(
        train, "split_minutes", lambda names, m, _: {n: m / len(names) for n in names}
    )


def test_train_one_stage(fake_training, tmp_path, capsys):
    out = str(tmp_path / "run")
    command = ["train", "clip", "--profile", "smoke", "--minutes", "3", "--out", out]
    assert main([*command, "--device", "cpu"]) == 0
    assert calls == [
        ("tokenizer", "run", "smoke", "cpu", None),
        ("clip", "run", "smoke", "cpu", 3.0),
    ]
    assert "clip" in (said := capsys.readouterr().out) and "3 steps, loss 0.3333" in said


def test_train_all_shares_the_minutes_out(fake_training, tmp_path, capsys):
    command = ["train", "all", "--minutes", "8", "--out", str(tmp_path), "--device", "cpu"]
    assert main(command) == 0
    assert [call[0] for call in calls] == list(stages.ALL)
    assert {call[0]: call[4] for call in calls}["decoder"] == 8 / len(stages.ALL)
    said = capsys.readouterr().out
    assert all(stage in said for stage in stages.ALL)
    assert said.splitlines()[-1].startswith("all ")


def test_train_does_not_start_over_unasked(fake_training, tmp_path, capsys):
    (tmp_path / "prior").mkdir()
    (tmp_path / "prior" / "training.safetensors").touch()
    command = ["train", "all", "--out", str(tmp_path), "--device", "cpu"]
    assert main(command) == 2
    assert calls == []
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "--resume" in said
    assert "already holds a training of prior" in said
    assert main([*command, "--resume"]) == 0


def test_ctrl_c_in_training_says_where_the_model_is(fake_training, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys.modules[__name__], "stop_in", "decoder")
    assert main(["train", "all", "--out", str(tmp_path), "--device", "cpu"]) == 130
    said = capsys.readouterr().err
    assert said.startswith("minidalle2: stopped") and said.count("\n") == 1
    assert str(tmp_path / "decoder") in said and "--resume" in said


def test_ctrl_c_before_the_first_step(tmp_path, monkeypatch, capsys):
    def stop(*_):
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr(train, "steps_of", stop)
    assert main(["train", "prior", "--out", str(tmp_path), "--device", "cpu"]) == 130
    assert "before prior had begun" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "loop"),
    [
        ((), "train_stage"),
        (("--parts", "2"), "train_stage_at_scale"),
        (("--recompute",), "train_stage_at_scale"),
    ],
)
def test_the_plain_loop_trains_unless_an_option_needs_the_other(
    tmp_path, monkeypatch, options, loop
):
    used = []

    def recorded(name):
        def steps(*arguments):
            used.append((name, arguments[6:]))
            yield Step(1, 1, 1.0, 1.0, 1e-3, 1.0, nn.Identity())

        return steps

    for name in ("train_stage", "train_stage_at_scale"):
        monkeypatch.setattr(train, name, recorded(name))
    command = ["train", "judge", "--out", str(tmp_path), "--device", "cpu", *options]
    assert main(command) == 0
    execution = train.Execution(2 if "--parts" in options else 1, "--recompute" in options)
    assert used == [(loop, (None,) if loop == "train_stage" else (execution, None))]


def test_train_names_the_stages_it_knows(tmp_path, capsys):
    assert main(["train", "encoder", "--out", str(tmp_path)]) == 2
    assert "'encoder'" in (said := capsys.readouterr().err) and "upsampler64" in said


ROWS = [
    {
        "what": "prompts",
        "name": "two objects",
        "split": "seen",
        "n": 500,
        "accuracy": 0.934,
        "low": 0.909,
        "high": 0.953,
    },
    {
        "what": "clip",
        "name": "image to text",
        "split": "pairs",
        "n": 512,
        "accuracy": 0.87,
        "low": None,
        "high": None,
    },
]


def test_evaluate_prints_a_table_and_writes_json(tmp_path, monkeypatch, capsys):
    asked = types.SimpleNamespace()

    def rows(folder, device, what, n, seed, pictures):
        asked.call = (str(folder), device.type, what, n, seed)
        assert pictures is None
        yield from ROWS

    shapes = replace(SHAPES, report=replace(SHAPES.report, evaluate=rows))
    monkeypatch.setattr(evaluate, "definition", {"shapes": shapes}.get)
    file = tmp_path / "new" / "results.json"
    command = ["evaluate", "--weights", "w", "--what", "prompts,clip", "-n", "9", "--seed", "4"]
    assert main([*command, "--json", str(file), "--device", "cpu"]) == 0
    assert asked.call == ("w", "cpu", ["prompts", "clip"], 9, 4)
    written = json.loads(file.read_text())
    assert set(written) == {"rows", "hardware", "minutes"} and written["rows"] == ROWS
    assert written["hardware"].startswith("cpu")
    lines = capsys.readouterr().out.splitlines()
    assert "93.4%" in lines[1] and "90.9% to 95.3%" in lines[1] and "87.0%" in lines[2]
    ends = [re.search(r"accuracy|\d+\.\d%", line).end() for line in lines[:3]]
    assert len(set(ends)) == 1


def test_evaluate_refuses_what_it_does_not_know(capsys):
    assert main(["evaluate", "--what", "prompts,beauty"]) == 2
    assert "'beauty'" in (said := capsys.readouterr().err) and "judge,clip,probe,prompts" in said
