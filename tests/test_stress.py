"""Kills, full disks, read-only folders, two trainings at once, clocks that jump, many pictures.

The long versions are `python -m tests.stress kills 100` and `python -m tests.stress pictures`.
"""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image
from recorded_bars import Terminal
from safetensors.torch import load_file
from test_training import train

from minidalle2.commands import train as train_command
from minidalle2.commands.cli import main
from minidalle2.commands.train import alone
from minidalle2.storage.checkpoints import remove_unfinished
from minidalle2.storage.decode import square
from minidalle2.storage.locks import InUse, locked
from minidalle2.worlds.folder.world import LETTERS, Folder

ROOT = Path(__file__).parent.parent
needs_posix = pytest.mark.skipif(os.name == "nt", reason="needs fork and resource limits")


def python(code: str, *arguments: object) -> subprocess.Popen:
    command = [sys.executable, *(["-c", code] if code else []), *map(str, arguments)]
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@needs_posix
def test_kills_lose_nothing():
    said, errors = python("", "-m", "tests.stress", "kills", 4).communicate(timeout=500)
    assert said.startswith("4 kills"), errors


@needs_posix
def test_memory_stays_flat_while_drawing():
    said, errors = python("", "-m", "tests.stress", "pictures", "-n", 128).communicate(timeout=500)
    before, after = map(int, re.findall(r"(\d+) MB", said))
    assert said.startswith("128 pictures") and after < before + 25, (said, errors)


HOLD = """
import sys, time
from pathlib import Path
from minidalle2.commands.train import alone
with alone(Path(sys.argv[1]), ("decoder",)):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_second_training_is_refused_until_the_first_is_gone(tmp_path, capsys):
    (tmp_path / "decoder").mkdir()
    other = python(HOLD, tmp_path)
    try:
        assert other.stdout.readline() == "held\n"
        unfinished = tmp_path / "decoder" / "model.safetensors.1.tmp"
        unfinished.write_bytes(b"half")  # the other one is writing it
        for stage in ("decoder", "all"):
            command = ["train", stage, "--profile", "smoke", "--device", "cpu"]
            assert main([*command, "--out", str(tmp_path)]) == 2
            said = capsys.readouterr().err
            assert "another process is training decoder in" in said and said.count("\n") == 1
        assert unfinished.exists() and not (tmp_path / "tokenizer.json").exists()
        with alone(tmp_path, ("prior", "judge")):
            pass  # another stage may train beside it
    finally:
        other.kill()  # as kill -9: it can't clean up
        other.wait()
    with alone(tmp_path, ("decoder",)):
        assert not unfinished.exists()


def test_only_the_first_of_torchruns_processes_locks(tmp_path, monkeypatch):
    other = python(HOLD, tmp_path)
    try:
        assert other.stdout.readline() == "held\n"
        monkeypatch.setattr(train_command, "is_first", lambda: False)
        with alone(tmp_path, ("decoder",)):
            pass
        monkeypatch.setattr(train_command, "is_first", lambda: True)
        with pytest.raises(ValueError, match="another process"), alone(tmp_path, ("decoder",)):
            pass
    finally:
        other.kill()
        other.wait()


def test_waiting_for_a_lock(tmp_path, monkeypatch):
    code = (
        "import sys, time; from pathlib import Path; from minidalle2.storage.locks import locked\n"
    )
    code += "with locked(Path(sys.argv[1])): print('held', flush=True); time.sleep(1)"
    other = python(code, tmp_path / "lock")
    assert other.stdout.readline() == "held\n"
    with pytest.raises(InUse), locked(tmp_path / "lock"):
        pass
    monkeypatch.setattr(sys, "stderr", Terminal())
    with locked(tmp_path / "lock", wait=True):
        assert other.wait(60) == 0
    assert "waiting for another process ..." in sys.stderr.getvalue()


FULL = """
import resource, sys
from pathlib import Path
from tests.stress import train, train_tiny
folder = Path(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
sys.exit(train_tiny(folder))
"""


@needs_posix
def test_a_disk_that_is_full_in_a_training(tmp_path):
    """No file can be longer than the limit: what was saved stays, and one sentence says why."""
    for limit, what in ((300, "tokenizer.json"), (30_000, "clip")):
        before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        process = python(FULL, tmp_path, limit)
        errors = process.communicate(timeout=300)[1]
        assert process.returncode == 2, errors
        assert errors.startswith("minidalle2: could not save") and errors.count("\n") == 1
        assert what in errors and "is unchanged" in errors
        assert not list(tmp_path.rglob("*.tmp"))
        assert all(path.read_bytes() == content for path, content in before.items())


def test_a_folder_that_became_read_only(tmp_path, monkeypatch, capsys):
    (tmp_path / "clip").mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path / "clip")
    assert main(["train", "clip", "--out", str(tmp_path), "--device", "cpu"]) == 2
    assert f"can't write to the folder {tmp_path / 'clip'}" in capsys.readouterr().err


def test_clocks_that_jump_change_nothing(tmp_path, monkeypatch):
    """The wall clock is set back and forth at every look; trainings use the other one."""
    train(tmp_path / "calm")
    times = iter(10.0 ** (k % 10) * (-1) ** k for k in range(10**9))
    monkeypatch.setattr(time, "time", lambda: next(times))
    train(tmp_path / "jumping", stop_at=9)
    train(tmp_path / "jumping")
    calm, jumping = (load_file(tmp_path / f / "model.safetensors") for f in ("calm", "jumping"))
    assert all(torch.equal(calm[name], jumping[name]) for name in calm)


def folder_of(path: Path, captions: list[str]) -> Path:
    path.mkdir()
    (path / "metadata.csv").write_text(
        "file_name,text\n" + "".join(f"{i}.png,{text}\n" for i, text in enumerate(captions))
    )
    for i in range(len(captions)):
        Image.new("RGB", (40, 40), (i, 9 * i, 200)).save(path / f"{i}.png")
    return path


def test_pictures_from_the_past_and_the_future(tmp_path):
    """A file's date is only compared with itself: any other one has the folder read anew."""
    folder, cache = folder_of(tmp_path / "f", ["a", "b"]), tmp_path / "cache"
    for seconds, colour in ((0, "red"), (4_000_000_000, "green"), (86_400, "blue")):
        Image.new("RGB", (40, 40), colour).save(folder / "0.png")
        os.utime(folder / "0.png", (seconds, seconds))
        pictures, _ = Folder(folder, cache).captioned(2, torch.Generator())
        red, green, blue = ((pictures[:, c] > 0.9).flatten(1).all(1).any() for c in range(3))
        assert {"red": red, "green": pictures[:, 1].max() > -0.1, "blue": blue}[colour]


def test_what_a_kill_left_in_the_cache_goes(tmp_path):
    folder, cache = folder_of(tmp_path / "f", ["a", "b"]), tmp_path / "cache"
    Folder(folder, cache)
    (pixels,) = cache.glob("*.u8")
    left = cache / f"{pixels.name}.12345.tmp"
    left.write_bytes(b"half")
    pixels.unlink()
    Folder(folder, cache)
    assert pixels.exists() and not left.exists()


def test_captions_of_any_length(tmp_path):
    long = Folder(folder_of(tmp_path / "f", ["a " * 60_000, "b"]), tmp_path / "cache")
    assert max(map(len, long.captions)) == LETTERS


def test_a_small_file_of_many_pixels_is_refused(tmp_path):
    path = tmp_path / "bomb.png"
    Image.new("1", (12_000, 12_000)).save(path)
    assert path.stat().st_size < 50_000
    with pytest.raises(ValueError, match=r"144 million pixels \(12,000 x 12,000\), and at most 67"):
        square(path.read_bytes(), 128)


def test_only_unfinished_files_are_removed(tmp_path):
    for name in ("model.safetensors", "model.safetensors.7.tmp", "notes.txt"):
        (tmp_path / name).touch()
    remove_unfinished(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"model.safetensors", "notes.txt"}
