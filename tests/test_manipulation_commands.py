"""`vary`, `blend`, `edit` and `inpaint`, run in this process on a tiny untrained model."""

import json

import pytest
import torch
from PIL import Image
from tiny_model import save_tiny

from minidalle2.commands import inpaint, results
from minidalle2.commands.cli import main
from minidalle2.commands.manipulate import invert_all, read_images, shrunk
from minidalle2.dalle2 import Sampling
from minidalle2.manipulations.inversion import Walk, psnr
from minidalle2.manipulations.text_diff import fitting_theta
from minidalle2.storage.pictures import load_png, load_square

CAPTIONS = ("--from", "a red circle", "--to", "a blue square")


@pytest.fixture
def weights(tiny_dalle2, tmp_path_factory):
    return save_tiny(tiny_dalle2, tmp_path_factory.mktemp("weights"))


@pytest.fixture
def cat(tmp_path):
    """A picture as users have them: not square, and transparent."""
    path = tmp_path / "My cat.png"
    image = Image.new("RGBA", (90, 57), (0, 0, 0, 0))
    image.paste((250, 30, 20, 255), (30, 10, 60, 40))
    image.save(path)
    return path


@pytest.fixture
def dog(tmp_path):
    path = tmp_path / "dog.jpg"
    Image.linear_gradient("L").resize((40, 300)).save(path)
    return path


@pytest.fixture
def run(weights, tmp_path):
    """Runs a command that must work at 32 px and three steps; returns its folder."""

    def command(*words, out="out") -> object:
        given = [str(word) for word in words]
        given += [] if "--size" in given else ["--size", "32"]
        folder = tmp_path / out
        options = ["--steps", "3", "--weights", str(weights), "--device", "cpu"]
        assert main([*given, *options, "--out", str(folder)]) == 0
        return folder

    return command


@pytest.fixture
def refuse(weights, tmp_path, capsys):
    """Runs a command that must fail; returns its one sentence."""

    def command(*words) -> str:
        given = [str(word) for word in words]
        given += [] if "--weights" in given else ["--weights", str(weights)]
        assert main([*given, "--device", "cpu", "--out", str(tmp_path / "out")]) == 2
        said = capsys.readouterr()
        assert said.out == "" and not (tmp_path / "out").exists()
        assert said.err.startswith("minidalle2: ") and said.err.count("\n") == 1
        return said.err

    return command


def manifest(folder) -> list[dict]:
    lines = (folder / "manifest.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


def pictures(folder) -> torch.Tensor:
    return torch.stack([load_png(folder / line["file"]) for line in manifest(folder)])


# vary


def test_vary_writes_variations_a_grid_and_a_manifest(run, cat, dog, capsys):
    folder = run("vary", cat, dog, "-n", "2", "--seed", "5", "--eta", "0.8")
    names = sorted(path.name for path in folder.iterdir())
    assert names == [
        "0000_my_cat.png",
        "0001_my_cat.png",
        "0002_dog.png",
        "0003_dog.png",
        "grid.png",
        "manifest.jsonl",
    ]
    lines = manifest(folder)
    assert [line["file"] for line in lines] == names[:4]
    assert [line["seed"] for line in lines] == [5, 6, 5, 6]
    assert lines[2]["image"] == str(dog) and lines[2]["eta"] == 0.8
    settings = lines[0]["settings"]
    assert settings["steps"] == 3 and settings["guidance"] == 1 and settings["size"] == 32
    assert settings["upsampler64_steps"] == Sampling().upsampler64_steps
    assert Image.open(folder / names[0]).size == (32, 32)
    assert Image.open(folder / "grid.png").width > 3 * 128  # the given picture and two of it
    said = capsys.readouterr().out
    assert "drew 4 pictures of 32 px" in said and str(folder / "grid.png") in said


def test_vary_follows_its_seeds_and_eta(run, cat):
    a, again = (pictures(run("vary", cat, "-n", "2", out=out)) for out in ("a", "again"))
    assert torch.equal(a, again) and (a[0] - a[1]).abs().max() > 0.02
    other = pictures(run("vary", cat, "-n", "2", "--seed", "1", out="other"))
    assert (a[1] - other[0]).abs().max() < 1.5 / 127.5 and (a[0] - other[0]).abs().max() > 0.02
    still = pictures(run("vary", cat, "-n", "2", "--eta", "0", out="still"))
    # Of equal rows of a batch some processors round one another way: a level of 255.
    assert (still[0] - still[1]).abs().max() < 1.5 / 127.5
    assert (still[0] - a[0]).abs().max() > 0.02


@pytest.mark.parametrize("size", [64, 128])
def test_vary_goes_through_the_upsamplers(run, cat, size):
    folder = run("vary", cat, "-n", "1", "--size", str(size))
    assert Image.open(folder / "0000_my_cat.png").size == (size, size)
    assert manifest(folder)[0]["settings"]["size"] == size


def test_more_variations_than_a_chunk(run, cat, monkeypatch):
    whole = pictures(run("vary", cat, "-n", "3", out="whole"))
    for module in ("vary", "manipulate"):
        monkeypatch.setattr(f"minidalle2.commands.{module}.CHUNK", 2)
    monkeypatch.setattr(results, "IN_GRID", 2)
    parts = pictures(run("vary", cat, "-n", "3", out="parts"))
    assert len(parts) == 3 and (parts - whole).abs().max() < 1.5 / 127.5


def test_vary_reports_how_exact_a_reconstruction_is(run, cat, dog, tiny_dalle2, capsys):
    folder = run("vary", cat, dog, "-n", "2", "--eta", "0")
    said, small = capsys.readouterr().out, shrunk(read_images([cat, dog]), 32)
    found = psnr(pictures(folder)[::2], small).tolist()
    lines = manifest(folder)
    assert [line["psnr"] for line in lines[::2]] == pytest.approx(found, abs=0.1)
    for path, decibels in zip((cat, dog), found, strict=True):
        assert f"{path}: the reconstruction at 32 px has a PSNR of {decibels:.1f} dB" in said
    assert said.count("it is no exact copy") == 2
    run("vary", cat, "-n", "1", "--eta", "0.5", out="other")
    assert "PSNR" not in capsys.readouterr().out
    assert "psnr" not in manifest(folder.parent / "other")[0]


# edit


def test_edit_goes_from_one_caption_to_the_other(run, cat):
    folder = run("edit", cat, *CAPTIONS, "--theta", "0.4", "--frames", "3")
    lines = manifest(folder)
    assert [line["theta"] for line in lines] == [0, 0.2, 0.4]
    assert lines[0]["file"] == "0000_my_cat_to_a_blue_square.png"
    assert lines[0]["from"] == "a red circle" and lines[0]["to"] == "a blue square"
    frames = pictures(folder)
    assert (frames[0] - frames[1]).abs().max() > 0.01 < (frames[1] - frames[2]).abs().max()
    still = pictures(run("vary", cat, "-n", "1", "--eta", "0", out="still"))
    assert (frames[:1] - still).abs().max() < 1.5 / 127.5  # theta 0 changes nothing


def test_edit_of_one_frame_is_the_end(run, cat, dog):
    folder = run("edit", cat, dog, *CAPTIONS, "--frames", "1", "--theta", "0.3")
    assert [line["theta"] for line in manifest(folder)] == [0.3, 0.3]
    assert [line["image"] for line in manifest(folder)] == [str(cat), str(dog)]


def test_edit_turns_as_far_as_the_captions_are_apart(run, cat, dog, tiny_dalle2):
    """Unless it is told otherwise; each picture has an angle of its own."""
    lines = manifest(run("edit", cat, dog, *CAPTIONS, "--frames", "2"))
    assert [line["theta"] for line in lines[::2]] == [0, 0]
    z_i = invert_all(tiny_dalle2, read_images([cat, dog]), Walk(3)).z_i
    captions = ["a red circle"] * 2, ["a blue square"] * 2
    theta = fitting_theta(tiny_dalle2.clip, tiny_dalle2.tokenizer, z_i, *captions)[:, 0]
    assert [line["theta"] for line in lines[1::2]] == pytest.approx(theta.tolist(), abs=1e-3)


def test_edit_listens_to_both_captions(run, cat):
    ends = [
        pictures(run("edit", cat, "--from", old, "--to", new, "--frames", "1", out=old + new))
        for old, new in (("a star", "a red circle"), ("a red circle", "a star"), ("a", "a star"))
    ]
    for i, j in ((0, 1), (1, 2), (0, 2)):
        assert (ends[i] - ends[j]).abs().max() > 0.01


def test_edit_names_words_it_has_never_seen(run, cat, capsys):
    run("edit", cat, "--from", "noto", "--to", "openmoji", "--frames", "1")
    said = capsys.readouterr().out
    assert "the shapes world has never seen: noto, openmoji (drawn anyway)" in said


# blend


def test_blend_goes_from_one_picture_to_another(run, cat, dog):
    folder = run("blend", cat, dog, "--frames", "3")
    lines, frames = manifest(folder), pictures(folder)
    assert [line["theta"] for line in lines] == [0, 0.5, 1]
    assert lines[0]["images"] == [str(cat), str(dog)] and lines[0]["texts"] == []
    ends = pictures(run("vary", cat, dog, "-n", "1", "--eta", "0", out="ends"))
    assert (frames[[0, 2]] - ends).abs().max() < 1.5 / 127.5
    assert (frames[1] - frames[0]).abs().max() > 0.02 < (frames[1] - frames[2]).abs().max()


def test_blend_with_one_noise_for_all(run, cat, dog):
    both = pictures(run("blend", cat, dog, "--frames", "2", out="both"))
    fixed, other = (
        pictures(run("blend", cat, dog, "--frames", "2", "--x-T", "fixed", "--seed", s, out=s))
        for s in ("0", "1")
    )
    assert (fixed - both).abs().max() > 0.02 < (fixed - other).abs().max()


def test_blend_of_a_picture_and_a_text(run, cat):
    folder = run("blend", cat, "--text", "a red circle", "--frames", "2")
    assert manifest(folder)[1]["texts"] == ["a red circle"]
    a, b = pictures(folder)
    assert (a - b).abs().max() > 0.02
    other = pictures(run("blend", cat, "--text", "a star", "--frames", "2", out="other"))
    assert (other[0] - a).abs().max() < 1.5 / 127.5 and (other[1] - b).abs().max() > 0.01


def test_blend_of_three_is_a_mixture(run, cat, dog):
    folder = run("blend", cat, dog, "--text", "a star", "--frames", "2", "--seed", "4")
    lines = manifest(folder)
    assert [line["seed"] for line in lines] == [4, 5]
    assert lines[0]["shares"] == pytest.approx([1 / 3] * 3, abs=1e-5)
    a, b = pictures(folder)
    assert (a - b).abs().max() > 0.02


def test_blend_of_texts_alone(run):
    folder = run("blend", "--text", "a star", "--text", "a red circle", "--frames", "2")
    assert len(pictures(folder)) == 2 and manifest(folder)[0]["images"] == []


# inpaint


@pytest.fixture
def mask(cat, tmp_path):
    """White on the right half of the cat's middle square, which is 57 pixels wide."""
    path = tmp_path / "mask.png"
    image = Image.new("L", Image.open(cat).size)
    image.paste(255, (45, 0, 90, 57))
    image.save(path)
    return path


def test_inpaint_draws_anew_what_is_white_and_keeps_the_rest(run, cat, mask, capsys):
    folder = run("inpaint", cat, "--mask", mask, "--to", "a red star", "-n", "2", "--seed", "5")
    lines, given = manifest(folder), load_square(cat, 128).float()
    assert [line["seed"] for line in lines] == [5, 6]
    assert lines[0]["file"] == "0000_my_cat_a_red_star.png" and lines[0]["to"] == "a red star"
    assert lines[0]["mask"] == str(mask) and lines[0]["settings"]["guidance"] == 2
    a, b = pictures(folder)
    small = torch.nn.functional.avg_pool2d(given, 4) / 127.5 - 1
    assert (a - small)[..., :16].abs().max() < 1 / 127  # the left half, rounded
    assert (a - small)[..., 16:].abs().mean() > 0.02 < (a - b)[..., 16:].abs().mean()
    assert "drew 2 pictures of 32 px" in capsys.readouterr().out


def test_inpaint_keeps_the_given_pixels_at_128_px(run, cat, mask):
    """Not what the upsamplers make of them."""
    folder = run("inpaint", cat, "--mask", mask, "-n", "1", "--size", "128")
    made = (pictures(folder)[0] + 1) * 127.5
    assert (made - load_square(cat, 128))[..., :64].abs().max() < 0.1
    assert manifest(folder)[0]["to"] is None


def test_inpaint_listens_to_its_caption_and_its_seeds(run, cat, mask):
    made = {
        out: pictures(run("inpaint", cat, "--mask", mask, "-n", "1", *words, out=out))[0]
        for out, words in (
            ("none", ()),
            ("again", ()),
            ("star", ("--to", "a star")),
            ("circle", ("--to", "a red circle")),
            ("seed", ("--seed", "1")),
        )
    }
    assert torch.equal(made["none"], made["again"])
    for other in ("star", "circle", "seed"):
        assert (made["none"] - made[other]).abs().max() > 0.02, other
    assert (made["star"] - made["circle"]).abs().max() > 0.01


def test_a_pixel_is_known_where_all_it_is_made_of_is():
    known = torch.ones(1, 1, 128, 128, dtype=torch.bool)
    known[..., 9, 30] = False
    unknown = (~inpaint.known_at(known, 32))[0, 0].nonzero().tolist()
    assert unknown == [[2, 7]]
    assert inpaint.known_at(known, 128).equal(known)


def test_masks_that_cannot_be_used(refuse, cat, mask, tmp_path):
    def said(path) -> str:
        return refuse("inpaint", cat, "--mask", path)

    assert "there is no picture at" in said(tmp_path / "nothing.png")
    (tmp_path / "text.png").write_text("no picture")
    assert "text.png is not a readable picture" in said(tmp_path / "text.png")
    Image.new("L", (57, 90)).save(tmp_path / "turned.png")
    assert "turned.png has 57x90 pixels" in said(tmp_path / "turned.png")
    assert "90x57; a mask of the same size would work" in said(tmp_path / "turned.png")
    for colour, fault in ((0, "has nothing white"), (255, "is completely white")):
        Image.new("L", (90, 57), colour).save(tmp_path / "plain.png")
        assert f"plain.png {fault}" in said(tmp_path / "plain.png")
    assert "--mask" in refuse("inpaint", cat)
    assert "the prompt is empty" in refuse("inpaint", cat, "--mask", mask, "--to", " ")


# Pictures of users


def test_the_middle_square_on_white(cat):
    picture = load_square(cat, 57)
    assert picture.shape == (3, 57, 57) and picture.dtype == torch.uint8
    assert picture[:, 0, 0].tolist() == [255, 255, 255]
    assert picture[:, 25, 28].tolist() == [250, 30, 20]  # the red square began at x 30, y 10
    means = [load_square(cat, side).float().mean((1, 2)) for side in (20, 57)]
    assert (means[0] - means[1]).abs().max() < 6


# Bad input


@pytest.mark.parametrize(
    "command",
    [("vary",), ("edit", *CAPTIONS), ("blend", "--text", "a star"), ("inpaint", "--mask", "m.png")],
    ids=lambda c: c[0],
)
def test_pictures_that_cannot_be_read(refuse, tmp_path, command):
    assert "there is no picture at" in refuse(*command, tmp_path / "nothing.png")
    (tmp_path / "text.png").write_text("no picture")
    said = refuse(*command, tmp_path / "text.png")
    assert "text.png is not a readable picture: it has no known format" in said
    said = refuse(*command, tmp_path)
    assert "can't read" in said or "not a readable picture" in said


def test_a_broken_picture_among_good_ones(refuse, cat, tmp_path):
    (tmp_path / "half.png").write_bytes(cat.read_bytes()[:60])
    assert "half.png is not a readable picture" in refuse("vary", cat, tmp_path / "half.png")


def test_nothing_to_work_on(refuse, cat):
    assert "IMAGE" in refuse("vary") and "IMAGE" in refuse("edit", *CAPTIONS)
    for words in (("blend",), ("blend", cat), ("blend", "--text", "a star")):
        assert "blend needs at least two inputs" in refuse(*words)


def test_captions_that_say_nothing(refuse, cat):
    said = refuse("edit", cat, "--from", "a red circle", "--to", "A red circle.")
    assert "both captions are 'a red circle', so nothing would change" in said
    for old, new in (("", "a star"), ("a star", " . ")):
        assert "the prompt is empty" in refuse("edit", cat, "--from", old, "--to", new)
    assert "the prompt is empty" in refuse("blend", cat, "--text", " ")
    assert "--to" in refuse("edit", cat, "--from", "a star")
    assert "at most 64" in refuse("edit", cat, "--from", "a star", "--to", "a star " * 99)


@pytest.mark.parametrize(
    ("command", "option", "values"),
    [
        ("vary", "--eta", ["-0.1", "1.01", "nan", "x"]),
        ("edit", "--theta", ["-0.1", "0.51", "40", "nan"]),
        ("edit", "--frames", ["0", "1.5"]),
        ("blend", "--frames", ["1", "x"]),
        ("blend", "--x-T", ["none"]),
        ("vary", "--steps", ["0", "1001", "x"]),
        ("vary", "--guidance", ["-1", "inf"]),
        ("vary", "--size", ["33"]),
        ("vary", "-n", ["0"]),
        ("vary", "--seed", ["-1"]),
    ],
)
def test_options_out_of_range(refuse, cat, command, option, values):
    captions = CAPTIONS if command == "edit" else ()
    for value in values:
        said = refuse(command, cat, *captions, option, value)
        assert option.strip("-") in said and "--help`" in said


def test_more_steps_than_there_are(refuse, cat):
    assert "--steps 990 is more than the 980" in refuse("vary", cat, "--steps", "990")


def test_a_world_without_weights(refuse, cat, tmp_path):
    said = refuse("vary", cat, "--weights", tmp_path / "nowhere")
    assert "no weights in" in said
