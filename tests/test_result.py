"""What a user does with a result: print it, show it in a notebook, save it; and weights by name."""

import io
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image, ImageShow
from tiny_model import save_tiny

import minidalle2.dalle2 as module
from minidalle2.dalle2 import DALLE2, STAGES, WEIGHTS, Result
from minidalle2.storage.checkpoints import CheckpointError
from minidalle2.storage.pictures import to_pillow, to_uint8

PROMPTS = ["a red circle", "红苹果, large", "🟥"]


def result(n: int = 2, last: str = "image128", prompts: list[str] = PROMPTS) -> Result:
    """With random pictures of every stage up to `last`."""
    made = Result(list(prompts[:n]), torch.zeros(n, 5), torch.zeros(n, 12))
    for name in STAGES[2 : STAGES.index(last) + 1]:
        side = int(name.removeprefix("image"))
        setattr(made, name, torch.rand(n, 3, side, side) * 2 - 1)
    return made


def test_generate_returns_it(tiny_dalle2, few_steps):
    """Also for a part of the stages, and after dataclasses.replace."""
    for stage in STAGES:
        made = tiny_dalle2.generate("a red circle", sampling=few_steps, stop_after=stage)
        assert isinstance(made, Result) and isinstance(replace(made, prompts=["b"]), Result)


def test_the_repr_is_short():
    long = ["a red circle and " * 100] * 500
    made = Result(
        long, torch.zeros(500, 5), torch.zeros(500, 12), image32=torch.zeros(5, 3, 32, 32)
    )
    said = repr(made)
    assert len(said) < 400 and "a red circle" in said
    assert "tokens (500, 5)" in said and "image32 (5, 3, 32, 32)" in said
    assert "image64" not in said and "tensor" not in said


def test_the_repr_of_a_model_is_short(tiny_dalle2):
    said = repr(tiny_dalle2)
    assert len(said) < 500 and "decoder=Decoder" in said and "drawings=8" in said


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("last", STAGES[2:])
def test_a_notebook_shows_pictures_of_any_stage(n, last):
    png = Image.open(io.BytesIO(result(n, last)._repr_png_()))
    assert png.format == "PNG" and png.width >= 128 * min(n, 2)


@pytest.mark.parametrize("last", STAGES[:2])
def test_without_pictures(last, tmp_path):
    made = result(2, last)
    assert made._repr_png_() is None and made.pictures is None
    for act in (made.show, made.grid, lambda: made.save(tmp_path / "new")):
        with pytest.raises(ValueError, match="there are no pictures, because no stage drew any"):
            act()
    assert not (tmp_path / "new").exists()


def test_the_grid_holds_every_picture():
    made = result(3, "image128")
    grid = made.grid()
    for picture in to_uint8(made.image128):
        wanted = to_pillow(picture).tobytes()
        boxes = [(x, y, x + 128, y + 128) for x in range(0, 200, 4) for y in range(0, 240, 4)]
        assert any(grid.crop(box).tobytes() == wanted for box in boxes)


def test_show_in_a_notebook_and_elsewhere(monkeypatch):
    shown = []
    display = SimpleNamespace(display=lambda picture: shown.append(("notebook", picture.size)))
    shell = SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel=None))
    monkeypatch.setitem(sys.modules, "IPython", shell)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    viewer = lambda picture: shown.append(("viewer", picture.size)) or True  # noqa: E731
    monkeypatch.setattr(ImageShow, "show", viewer)
    result().show()
    shell.get_ipython = lambda: None  # IPython is imported, but nobody uses it
    result().show()
    assert [where for where, _ in shown] == ["notebook", "viewer"] and shown[0][1] == shown[1][1]
    monkeypatch.setattr(ImageShow, "show", lambda picture: False)
    with pytest.raises(ValueError, match="no program to show a picture; `save"):
        result().show()


# Saving


def test_save(tmp_path):
    made = result(3, "image64")
    paths = made.save(str(tmp_path / "new" / "folder"))
    names = ["0000_a_red_circle.png", "0001_红苹果_large.png", "0002_picture.png"]
    assert [path.name for path in paths] == names
    for path, picture, prompt in zip(paths, to_uint8(made.image64), PROMPTS, strict=True):
        with Image.open(path) as saved:
            assert saved.tobytes() == to_pillow(picture).tobytes()
            assert saved.info["Description"] == prompt


@pytest.mark.parametrize(
    ("prompt", "name"),
    [
        ("../up/a\\b", "0000_up_a_b.png"),
        ("...", "0000_picture.png"),
        ("CON: a*?\u2028b\x00", "0000_con_a_b.png"),
        ("half \ud83d of one", "0000_half_of_one.png"),
        ("हिन्दी में", "0000_हिन्दी_में.png"),
        ("x" * 500, f"0000_{'x' * 60}.png"),
    ],
)
def test_file_names(tmp_path, prompt, name):
    (path,) = result(1, "image32", [prompt]).save(tmp_path)
    assert path.parent == tmp_path and path.name == name and path.is_file()


def test_a_second_save_replaces_the_first(tmp_path):
    result(3, "image32").save(tmp_path)
    (tmp_path / "notes.txt").write_text("kept")
    made = result(1, "image32", ["another"])
    assert {path.name for path in tmp_path.glob("*.png")} != {"0000_another.png"}
    made.save(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"0000_another.png", "notes.txt"}


@pytest.mark.parametrize("name", ["mine.png", "0000_a_red_circle.png", "grid.PNG", "0009.png"])
def test_other_pictures_are_kept_and_not_mixed(tmp_path, name):
    """Also those with such a name, because `draw` writes the same names."""
    result(2, "image32").save(tmp_path)
    if name == "0009.png":
        (tmp_path / name).write_bytes(b"no picture")
    else:
        Image.new("RGB", (4, 4)).save(tmp_path / name, "PNG")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ValueError, match=rf"`save` did not write \({name}\); choose another"):
        result(1, "image32").save(tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_results_of_a_command_are_not_mixed_with_saved_pictures(tmp_path):
    """`draw` was stopped before its grid, so all PNGs have names like those of `save`."""
    result(2, "image32").save(tmp_path)
    (tmp_path / "manifest.jsonl").write_text("{}\n")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ValueError, match="holds the results of a command"):
        result(1, "image32").save(tmp_path)
    assert sorted(tmp_path.iterdir()) == before


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="can't write to .*file"):
        result().save(tmp_path / "file")


# Weights by name


@pytest.fixture
def shipped(tiny_dalle2, tmp_path, monkeypatch):
    """`tiny` comes with minidalle2. The current folder has another one of this name."""
    save_tiny(tiny_dalle2, tmp_path / "shipped" / "tiny")
    other = replace(tiny_dalle2, sampling=replace(tiny_dalle2.sampling, drawings=3))
    save_tiny(other, tmp_path / "here" / "tiny")
    monkeypatch.setattr(module, "WEIGHTS", tmp_path / "shipped")
    monkeypatch.chdir(tmp_path / "here")


def test_the_weights_that_come_with_minidalle2():
    for name in ("shapes", "emoji"):
        assert module.weights_folder(name) == WEIGHTS / name


def test_a_name_goes_before_a_folder_and_a_path_is_a_folder(shipped, tmp_path):
    assert DALLE2.load("tiny").sampling.drawings == 8
    assert DALLE2.load("./tiny").sampling.drawings == 3
    for folder in (Path("tiny"), str(tmp_path / "here" / "tiny"), "../here/tiny/"):
        assert module.weights_folder(folder).resolve() == tmp_path / "here" / "tiny"
    (tmp_path / "here" / "tiny" / "tokenizer.json").unlink()
    assert module.weights_folder(Path("tiny")) == tmp_path / "shipped" / "tiny"


@pytest.mark.parametrize("weights", ["tinny", "runs/tiny", "", "a\0b"])
def test_unknown_weights_are_one_sentence_with_the_names(shipped, weights):
    with pytest.raises(CheckpointError, match="there are no weights in .*minidalle2: tiny$"):
        DALLE2.load(weights)


@pytest.mark.parametrize("weights", [5, None, ["tiny"]])
def test_weights_of_another_type(shipped, weights):
    with pytest.raises(CheckpointError, match=r"neither a path nor the name of weights \(tiny\)"):
        DALLE2.load(weights)


def test_a_missing_prior_of_shipped_weights_is_not_trained_into_the_package(shipped):
    with pytest.raises(
        CheckpointError, match="copy that folder to runs.tiny and train .*--world tiny"
    ):
        DALLE2.load("tiny", prior="regression")
    with pytest.raises(CheckpointError, match="train regression_prior --world WORLD --out tiny"):
        DALLE2.load("./tiny", prior="regression")
