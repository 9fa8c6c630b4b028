"""Installing for real: the wheel carries the weights and the emoji, and environment.yml's pip list
installs.

environment.yml is checked without conda: its pip list is installed into a fresh venv by pip, which
is what conda does with it; its own lines are only parsed (test_dev.py).
"""

import json
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
SCRIPTS = "Scripts" if os.name == "nt" else "bin"
STAGES = ("clip", "prior", "decoder", "upsampler64", "upsampler128")
LARGEST_WEIGHTS = 20_000_000  # bytes of a world's weights in the repository
pytestmark = pytest.mark.slow


def call(*command: str | Path, cwd: Path, **variables: str) -> str:
    """stdout of a command that must succeed, run as if outside the repository."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**kept, **variables},
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, f"{command} failed\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A copy of what installing needs, so that building leaves nothing in the repository."""
    folder = tmp_path_factory.mktemp("source")
    for name in (
        *("pyproject.toml", "setup.py", "MANIFEST.in", "constraints.txt", "environment.yml"),
        *("LICENSE", "README.md"),
    ):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "data", folder / "data")
    skipped = shutil.ignore_patterns("__pycache__", "*.tmp")
    shutil.copytree(ROOT / "minidalle2", folder / "minidalle2", ignore=skipped)
    return folder


@pytest.fixture(scope="module")
def wheel(source, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    call(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, source, cwd=folder)
    (path,) = folder.glob("minidalle2-*.whl")
    return path


def test_wheel_holds_the_whole_package(source, wheel):
    packed = set(zipfile.ZipFile(wheel).namelist())
    modules = {path.relative_to(source).as_posix() for path in source.glob("minidalle2/**/*.py")}
    assert modules <= packed, f"missing in the wheel: {sorted(modules - packed)}"
    assert "minidalle2/py.typed" in packed
    assert not [name for name in packed if name.startswith(("tests/", "data/"))]


def test_wheel_holds_the_weights(wheel):
    packed = {entry.filename: entry.file_size for entry in zipfile.ZipFile(wheel).infolist()}
    folder = "minidalle2/weights/shapes"
    needed = {f"{folder}/{stage}/config.json" for stage in STAGES}
    needed |= {f"{folder}/{stage}/model.safetensors" for stage in STAGES}
    needed.add(f"{folder}/tokenizer.json")
    assert needed <= packed.keys(), f"missing in the wheel: {sorted(needed - packed.keys())}"
    weights = {name: size for name, size in packed.items() if name.startswith(folder)}
    assert not [name for name in weights if name.endswith("training.safetensors")]
    assert sum(weights.values()) <= LARGEST_WEIGHTS, weights


def test_wheel_holds_the_emoji_and_their_licences(source, wheel):
    """Everything but the programs that made the data, to the byte, and no other copy of it."""
    packed = zipfile.ZipFile(wheel)
    folder, data = "minidalle2/worlds/emoji/data/", source / "data" / "emoji"
    names = {path.relative_to(data).as_posix(): path for path in data.rglob("*") if path.is_file()}
    names = {name: path for name, path in names.items() if path.suffix != ".py"}
    held = {name.removeprefix(folder) for name in packed.namelist() if name.startswith(folder)}
    assert held == names.keys() and {"names.jsonl", "LICENSES/ATTRIBUTION.md"} <= held
    for name, path in names.items():
        assert packed.read(folder + name) == path.read_bytes(), name
    assert sum(name.endswith("names.jsonl") for name in packed.namelist()) == 1


READS_THE_EMOJI = """
import torch
from minidalle2.worlds.catalogue import definition
from minidalle2.worlds.emoji.drawings import read_style
from minidalle2.worlds.emoji.names import data_folder, drawings
definition("emoji").open().training_captions(2, torch.Generator())
assert definition("emoji").licences().is_dir() and read_style("noto")["license"]
print(len(drawings()), data_folder())
"""


def test_plain_install_draws_outside_the_repository(wheel, tmp_path):
    site, work = tmp_path / "site", tmp_path / "work"
    work.mkdir()
    pip = (sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", site)
    call(*pip, wheel, cwd=work)
    where = call(
        sys.executable,
        "-c",
        "import minidalle2; print(minidalle2.__path__[0])",
        cwd=work,
        PYTHONPATH=str(site),
    )
    assert Path(where.strip()) == site / "minidalle2"
    found = call(sys.executable, "-c", READS_THE_EMOJI, cwd=work, PYTHONPATH=str(site))
    assert found.split()[1] == str(site / "minidalle2" / "worlds" / "emoji" / "data")
    call(
        sys.executable,
        "-m",
        "minidalle2",
        "draw",
        "a large red circle",
        "--out",
        "made",
        cwd=work,
        PYTHONPATH=str(site),
    )
    (line,) = (work / "made/manifest.jsonl").read_text(encoding="utf-8").splitlines()
    assert (work / "made" / json.loads(line)["file"]).is_file()
    assert (work / "made/grid.png").is_file()


def test_environment_file_installs(source, tmp_path):
    """With constraints.txt, as the README's commands have it; the listed torch is the same."""
    listed = yaml.safe_load((source / "environment.yml").read_text(encoding="utf-8"))
    (source / "list.txt").write_text("\n".join(listed["dependencies"][-1]["pip"]) + "\n")
    env, work = tmp_path / "env", tmp_path / "work"
    work.mkdir()
    venv.create(env, with_pip=True)
    try:
        python = env / SCRIPTS / "python"
        install = ("install", "-q", "--no-compile", "-c", "constraints.txt", "-r", "list.txt")
        call(python, "-m", "pip", *install, cwd=source)
        call(python, "-m", "pip", "check", cwd=work)
        call(python, "-c", "import minidalle2.dalle2, jupyterlab, matplotlib, pytest", cwd=work)
        assert "draw" in call(env / SCRIPTS / "minidalle2", "--help", cwd=work)
    finally:
        shutil.rmtree(env, ignore_errors=True)  # more than a gigabyte
