"""Bad input: one sentence on stderr, exit code 2, no traceback, nothing written."""

import subprocess
import sys
from dataclasses import replace

import pytest
from tiny_model import save_tiny

from minidalle2.commands.cli import main
from minidalle2.prior import Prior
from minidalle2.storage.checkpoints import CheckpointError, save_model
from minidalle2.training.run import TrainingError


@pytest.fixture
def weights(tiny_dalle2, tmp_path_factory):
    return save_tiny(tiny_dalle2, tmp_path_factory.mktemp("weights"))


@pytest.fixture
def refuse(weights, tmp_path, capsys):
    """Runs a command that must fail; returns its one sentence."""

    def run(*command: str) -> str:
        if command[0] == "draw" and "--weights" not in command:
            command += ("--weights", str(weights))
        if command[0] in ("draw", "export") and "--out" not in command:
            command += ("--out", str(tmp_path / "out"))
        assert main(list(command)) == 2
        said = capsys.readouterr()
        assert said.out == "" and not (tmp_path / "out").exists()
        assert said.err.startswith("minidalle2: ") and said.err.count("\n") == 1
        return said.err

    return run


@pytest.mark.parametrize("prompt", ["", "   ", "\n\t", ".", " . "])
def test_empty_prompt(refuse, prompt):
    assert "the prompt is empty" in refuse("draw", "a red circle", prompt)


def test_no_prompt_at_all(refuse, tmp_path):
    assert "nothing to draw" in refuse("draw")
    (tmp_path / "prompts.txt").write_text("# only a comment\n\n")
    assert "nothing to draw" in refuse("draw", "--prompts-file", str(tmp_path / "prompts.txt"))


def test_prompt_far_too_long(refuse):
    said = refuse("draw", "a red circle", "a very long prompt " * 5000)
    assert "tokens" in said and "at most 64" in said and "shorten" in said and len(said) < 300


def test_prompts_file_missing_or_not_text(refuse, tmp_path):
    for file in (tmp_path / "no.txt", tmp_path):
        assert "can't read the prompts file" in refuse("draw", "--prompts-file", str(file))
    (tmp_path / "latin1.txt").write_bytes("ein Würfel\n".encode("latin-1"))
    assert "no UTF-8 text" in refuse("draw", "--prompts-file", str(tmp_path / "latin1.txt"))


def test_a_prompt_that_is_no_unicode(refuse):
    assert "no Unicode text" in refuse("draw", "a red \udcff circle")


@pytest.mark.parametrize(
    ("prompt", "unseen"),
    [
        ("a green dragon above a Castle", "dragon, castle"),
        ("красный круг", "красный, круг"),
        ("أحمر دائرة", "أحمر, دائرة"),
        ("赤い丸", "赤, い, 丸"),  # Chinese characters are words
        ("लाल वृत्त", "लाल, वृत्त"),
        ("a red 🐉", "🐉"),
    ],
)
def test_unknown_words_are_drawn_and_named(weights, tmp_path, capsys, prompt, unseen):
    command = ["draw", prompt, "--size", "32", "--weights", str(weights), "--out", str(tmp_path)]
    assert main([*command, "--device", "cpu"]) == 0
    said = capsys.readouterr()
    lines = [line for line in said.out.splitlines() if "never seen" in line]
    assert lines == [f"the shapes world has never seen: {unseen} (drawn anyway)"]
    assert len(list(tmp_path.glob("0000_*.png"))) == 1 and said.err == ""


@pytest.mark.parametrize(
    "options",
    [
        ("--size", "33"),
        ("--size", "big"),
        ("-n", "0"),
        ("-n", "-1"),
        ("-n", "1.5"),
        ("-n", "1000000000000"),
        ("--seed", "-1"),
        ("--seed", "x"),
        ("--seed", "9" * 30),
        ("--guidance", "nan"),
        ("--guidance", "-1"),
        ("--guidance", "inf"),
        ("--guidance", "x"),
        ("--device", "tpu"),
        ("--sise", "32"),
    ],
)
def test_options_out_of_range(refuse, options):
    said = refuse("draw", "a red circle", *options)
    assert options[0].strip("-") in said and "--help`" in said


@pytest.mark.parametrize(
    "command",
    [
        (),
        ("paint",),
        ("train",),
        ("train", "clip", "--profile", "huge"),
        ("train", "clip", "--minutes", "0"),
        ("train", "clip", "--minutes", "soon"),
        ("export", "--size", "7"),
        ("export", "--size", "99999"),
        ("export", "-n", "0"),
        ("evaluate", "-n", "0"),
    ],
)
def test_wrong_commands(command, capsys):
    assert main([*command, *(["--out", "never"] if command[:1] == ("export",) else [])]) == 2
    said = capsys.readouterr().err
    assert said.startswith("minidalle2: ") and said.count("\n") == 1 and "--help`" in said


def test_unknown_split(refuse):
    said = refuse("export", "--split", "test")
    assert "'test'" in said and "train, seen, pairs, combinations, phrasings" in said


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_a_device_that_is_not_there(refuse, monkeypatch, device):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    assert f"no {device} device" in refuse("draw", "a red circle", "--device", device)


def test_folders_that_cannot_be_written(refuse, tmp_path):
    (tmp_path / "file").touch()
    for out in (tmp_path / "file", tmp_path / "file" / "deeper"):
        assert "can't write to the folder" in refuse("draw", "a red circle", "--out", str(out))
        assert "can't write to the folder" in refuse("export", "-n", "1", "--out", str(out))


def test_weights_that_are_not_there(refuse, tmp_path):
    said = refuse("draw", "a red circle", "--weights", str(tmp_path / "nowhere"))
    assert "no weights in" in said and "train all" in said


def test_weights_that_are_broken(refuse, weights):
    path = weights / "decoder" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    assert "truncated" in refuse("draw", "a red circle")
    (weights / "clip" / "config.json").unlink()
    assert "no clip checkpoint" in refuse("draw", "a red circle")


@pytest.mark.parametrize("content", ["", "not json", "[]", '{"merges": []}', '{"colour": 1}'])
def test_a_tokenizer_that_is_broken(refuse, weights, content):
    (weights / "tokenizer.json").write_text(content)
    assert str(weights / "tokenizer.json") in refuse("draw", "a red circle")


@pytest.mark.parametrize(
    "content",
    [
        "",
        "not json",
        "[]",
        "3",
        '{"colour": 1}',
        '{"candidates": 0}',
        '{"drawings": "two"}',
        '{"decoder_steps": 1.5}',
        '{"prior_guidance": NaN}',
        '{"decoder_guided_above": [0.5]}',
    ],
)
def test_sampling_that_is_broken(refuse, weights, content):
    (weights / "sampling.json").write_text(content)
    assert str(weights / "sampling.json") in refuse("draw", "a red circle")


def test_stages_of_different_trainings(refuse, weights, configs):
    """Each checkpoint is whole, but they do not fit each other."""
    prior = weights / "prior"
    save_model(prior, "prior", Prior(replace(configs.prior, clip_embedding=20)))
    assert str(prior) in refuse("draw", "a red circle")
    save_model(prior, "prior", Prior(replace(configs.prior, vocab_size=259)))
    assert str(prior) in refuse("draw", "a red circle")


@pytest.mark.parametrize("error", [CheckpointError, TrainingError, ValueError])
def test_training_errors(monkeypatch, tmp_path, capsys, error):
    def fail(stage, world, folder, profile, device, minutes, execution, weights):
        raise error("the loss became nan")
        yield

    monkeypatch.setattr("minidalle2.commands.train.steps_of", fail)
    assert main(["train", "clip", "--out", str(tmp_path), "--device", "cpu"]) == 2
    assert capsys.readouterr().err == "minidalle2: the loss became nan\n"


def test_a_full_disk_while_drawing(weights, tmp_path, monkeypatch, capsys):
    def fail(picture, path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("minidalle2.commands.results.save_png", fail)
    assert main(["draw", "a red circle", "--weights", str(weights), "--out", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert said == "minidalle2: could not read or write: no space left on device\n"


def test_a_bug_keeps_its_traceback(monkeypatch):
    def fail(args):
        raise ZeroDivisionError

    monkeypatch.setattr("minidalle2.commands.draw.run", fail)
    with pytest.raises(ZeroDivisionError):
        main(["draw", "a red circle"])


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (("draw", ""), "the prompt is empty"),
        (("draw", "a red circle", "--weights", "nowhere"), "no weights in nowhere"),
    ],
)
def test_as_a_process(weights, tmp_path, command, sentence):
    if "--weights" not in command:
        command += ("--weights", str(weights))
    python = [sys.executable, "-m", "minidalle2", *command, "--out", str(tmp_path / "out")]
    done = subprocess.run(python, capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("minidalle2: ") and done.stderr.count("\n") == 1
    assert sentence in done.stderr and "Traceback" not in done.stderr
