"""The interface that training asks for, and --world on the command line."""

from functools import partial

import pytest
import torch
from PIL import Image
from tiny_model import save_tiny

from minidalle2.commands.cli import main
from minidalle2.dalle2 import DALLE2
from minidalle2.storage.pictures import load_png
from minidalle2.tokenizer import Tokenizer
from minidalle2.training import stages
from minidalle2.training.recipes import PROFILES
from minidalle2.training.world import JudgeKind, Sizes, World
from minidalle2.unclip import Sampling
from minidalle2.worlds.catalogue import WORLDS, label_of, open_world
from minidalle2.worlds.emoji.world import Emoji
from minidalle2.worlds.folder.world import Folder
from minidalle2.worlds.shapes.world import Shapes
from minidalle2.worlds.stored import RECORD, Stored, cache_folder, shuffled, write_pictures


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def noise(n, side=128, seed=0):
    """n RGB pictures of random pixels, coarse enough to survive shrinking."""
    coarse = torch.randint(256, (n, side // 8, side // 8, 3), generator=generator(seed))
    fine = coarse.repeat_interleave(8, 1).repeat_interleave(8, 2).to(torch.uint8)
    return [Image.fromarray(picture.numpy()) for picture in fine]


@pytest.fixture(scope="module")
def worlds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cats")
    for i, picture in enumerate(noise(40)):
        picture.save(folder / f"{i}.png")
    lines = [f'{{"file_name": "{i}.png", "text": "cat number {i}"}}' for i in range(40)]
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    cache = tmp_path_factory.mktemp("cache")
    return {"shapes": Shapes(), "emoji": Emoji(), "folder": Folder(folder, cache)}


def largest(kind: str) -> float:
    """An emoji is composed with its background, which rounds."""
    return 1 + 1e-6 if kind == "emoji" else 1


@pytest.mark.parametrize("kind", ["shapes", "emoji", "folder"])
class TestInterface:
    def test_everything_that_training_asks_for(self, worlds, kind):
        world, folder = worlds[kind], kind == "folder"
        assert all(hasattr(world, name) for name in World.__annotations__)
        assert world.unreadable() == "" and world.name and world.forkable
        assert isinstance(world.sizes, Sizes) and isinstance(world.sampling, Sampling)
        assert world.judge is None if folder else isinstance(world.judge, JudgeKind)
        assert bool(world.summary) == folder
        assert set(world.recipes) <= set(PROFILES)
        captions = world.training_captions(7, generator())
        assert len(captions) == 7 and all(captions)
        assert captions == world.captioned(7, generator(), size=1)[1]

    def test_some_rows_are_those_of_the_whole_batch(self, worlds, kind):
        """So each process makes its own rows of a batch. The generator ends in the same state."""
        for make in ("captioned", "contrasting"):
            whole = generator(3)
            images, captions = getattr(worlds[kind], make)(16, whole)
            for rows in (slice(0, 8), slice(8, 16), slice(3, 5)):
                own = generator(3)
                found = getattr(worlds[kind], make)(16, own, rows=rows)
                assert torch.equal(found[0], images[rows]) and found[1] == captions[rows]
                assert torch.equal(own.get_state(), whole.get_state())

    def test_captioned(self, worlds, kind):
        for size in (1, 32, 64, 128):
            pictures, captions = worlds[kind].captioned(5, generator(), size=size)
            assert pictures.shape == (5, 3, size, size) and pictures.dtype == torch.float32
            assert pictures.abs().max() <= largest(kind) and (size == 1 or pictures.std() > 0.1)
            assert len(captions) == 5 and all(captions)

    def test_near_misses_differ_in_groups_of_eight(self, worlds, kind):
        pictures, captions = worlds[kind].near_misses(36, generator(), size=32)
        assert pictures.shape == (36, 3, 32, 32) and len(captions) == 36
        for start in range(0, 36, 8):
            group = captions[start : start + 8]
            # a shapes group may keep the base where no change was fit
            assert len(set(group)) >= len(group) - (kind == "shapes")

    def test_contrasting(self, worlds, kind):
        pictures, captions = worlds[kind].contrasting(37, generator())
        assert pictures.shape == (37, 3, 32, 32) and pictures.abs().max() <= largest(kind)
        assert len(captions) == 37 and len(set(captions)) > 8

    def test_same_generator_same_batch(self, worlds, kind):
        for make in ("captioned", "near_misses", "contrasting"):
            a, b, other = (getattr(worlds[kind], make)(16, generator(s)) for s in (3, 3, 4))
            assert torch.equal(a[0], b[0]) and a[1] == b[1] and a[1] != other[1]
        crops = [worlds[kind].crops(16, generator(s), 64) for s in (3, 3, 4)]
        assert torch.equal(crops[0], crops[1]) and not torch.equal(crops[0], crops[2])

    def test_crops_are_a_quarter(self, worlds, kind):
        for size in (64, 128):
            crops = worlds[kind].crops(9, generator(), size)
            assert crops.shape == (9, 3, size // 4, size // 4)
            assert crops.abs().max() <= largest(kind)

    def test_unknown_split(self, worlds, kind):
        with pytest.raises(ValueError, match="unknown split 'test'.*train"):
            worlds[kind].captioned(1, generator(), split="test")


@pytest.fixture
def stored(tmp_path):
    write_pictures(tmp_path / "a.u8", noise(12))
    return Stored(tmp_path / "a.u8", 12)


def test_stored_pictures_are_the_ones_that_were_written(stored, tmp_path):
    assert (tmp_path / "a.u8").stat().st_size == 12 * RECORD == 12 * 64_512
    noise(12)[7].save(tmp_path / "7.png")
    assert torch.allclose(stored.pictures(torch.tensor([7]), 128)[0], load_png(tmp_path / "7.png"))
    assert [path.name for path in tmp_path.glob("*.tmp")] == []


def test_smaller_sizes_are_averages(stored):
    rows = torch.tensor([3, 0])
    full = stored.pictures(rows, 128)
    for size in (64, 32, 16, 1):
        mean = torch.nn.functional.avg_pool2d(full, 128 // size)
        assert (stored.pictures(rows, size) - mean).abs().max() <= 0.51 / 127.5
    assert stored.pictures(rows, 48).shape == (2, 3, 48, 48)
    for size in (0, 129):
        with pytest.raises(ValueError, match=f"no pictures of {size} px.*1 to 128"):
            stored.pictures(rows, size)


@pytest.mark.parametrize("size", [32, 64, 128])
def test_crops_are_windows_at_even_pixels(stored, size):
    rows = torch.arange(12)
    whole, crops = stored.pictures(rows, size), stored.crops(rows, generator(), size)
    windows = whole.unfold(2, size // 4, 2).unfold(3, size // 4, 2)  # (12, 3, y, x, s, s)
    same = (windows == crops[:, :, None, None]).flatten(4).all(-1).all(1)  # (12, y, x)
    assert same.flatten(1).any(1).all()


def test_crops_reach_every_corner(stored):
    crops = stored.crops(torch.zeros(4000, dtype=torch.long), generator(), 64)
    whole = stored.pictures(torch.tensor([0]), 64)
    for y in (0, 48):
        for x in (0, 48):
            corner = whole[:, :, y : y + 16, x : x + 16]
            assert (crops == corner).flatten(1).all(1).any()
    with pytest.raises(ValueError, match="no crops of pictures of 48 px"):
        stored.crops(torch.arange(2), generator(), 48)


def test_an_interrupted_write_leaves_nothing(tmp_path):
    def pictures():
        yield from noise(2)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_pictures(tmp_path / "a.u8", pictures())
    assert list(tmp_path.iterdir()) == []


def test_shuffled_takes_each_once_before_any_twice():
    rows = torch.tensor([5, 7, 9])
    assert sorted(shuffled(rows, 3, generator()).tolist()) == [5, 7, 9]
    assert sorted(shuffled(rows, 7, generator()).tolist())[:2] == [5, 5]
    counts = torch.bincount(shuffled(rows, 7, generator()))[rows]
    assert counts.min() == 2 and counts.max() == 3
    assert len(shuffled(rows, 0, generator())) == 0


def test_the_cache_is_where_one_asks_for_it(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIDALLE2_CACHE", str(tmp_path / "here"))
    assert cache_folder() == tmp_path / "here"
    monkeypatch.delenv("MINIDALLE2_CACHE")
    monkeypatch.setattr("minidalle2.worlds.stored.CHECKOUT", tmp_path)
    monkeypatch.setattr("pathlib.Path.home", lambda: tmp_path / "home")
    assert cache_folder() == tmp_path / "home/.cache/minidalle2"
    (tmp_path / "pyproject.toml").touch()
    assert cache_folder() == tmp_path / ".cache"


def test_open_world(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIDALLE2_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    assert isinstance(open_world("shapes"), Shapes)
    cats = tmp_path / "shapes"  # a folder of a world's name
    cats.mkdir()
    noise(1)[0].save(cats / "a.png")
    (cats / "metadata.csv").write_text("file_name,text\na.png,a cat\n")
    assert isinstance(open_world("shapes"), Shapes)
    assert isinstance(world := open_world("./shapes"), Folder)
    assert world.name == "shapes" == label_of("shapes/")


@pytest.mark.parametrize("name", ["atlantis", "", "no/such/folder"])
def test_a_world_that_is_not_there(name):
    for function in (open_world, label_of):
        with pytest.raises(ValueError) as error:
            function(name)
        said = str(error.value)
        assert repr(name) in said and ", ".join(WORLDS) in said and "metadata.jsonl" in said


@pytest.fixture
def refuse(capsys, tmp_path):
    def run(*command: str) -> str:
        out = ("--out", str(tmp_path / "out")) if command[0] != "evaluate" else ()
        assert main([*command, *out]) == 2
        said = capsys.readouterr()
        assert said.err.startswith("minidalle2: ") and said.err.count("\n") == 1
        assert not (tmp_path / "out").exists()
        return said.err

    return run


@pytest.mark.parametrize(
    "command", [("draw", "a cat"), ("train", "clip"), ("evaluate",), ("export",)]
)
def test_every_command_names_the_worlds(refuse, command):
    said = refuse(*command, "--world", "atlantis")
    assert "'atlantis'" in said and "shapes, emoji" in said


def test_draw_of_a_folder_needs_its_weights(refuse, worlds, tiny_dalle2, tmp_path, capsys):
    folder = worlds["folder"].path
    assert f"--weights {'runs'}" in (said := refuse("draw", "a cat", "--world", str(folder)))
    assert folder.name in said
    weights = save_tiny(tiny_dalle2, tmp_path / "weights")
    command = ["draw", "a zebra", "--world", str(folder), "--weights", str(weights)]
    assert main([*command, "--size", "32", "--device", "cpu", "--out", str(tmp_path / "o")]) == 0
    assert f"the {folder.name} world has never seen: zebra" in capsys.readouterr().out


def test_evaluate_and_export_say_what_they_can_do(refuse, worlds):
    folder = str(worlds["folder"].path)
    said = refuse("evaluate", "--world", folder)
    label = worlds["folder"].name
    assert f"the world {label} can't be evaluated or exported" in said and "no judge" in said
    assert "--world emoji" in said
    assert "emoji only" in refuse("evaluate", "--pictures", "sheets")
    assert "can't be evaluated or exported" in refuse("export", "--world", folder)
    assert "pairs, names" in refuse("export", "--world", "emoji", "--split", "phrasings")


def test_train_shows_what_is_in_a_folder_before_it_starts(worlds, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("MINIDALLE2_CACHE", str(tmp_path))
    folder = worlds["folder"].path
    main(["train", "prior", "--world", str(folder), "--out", str(tmp_path / "run")])
    assert "pictures to train on" in capsys.readouterr().out
    (tmp_path / "empty").mkdir()
    assert main(["train", "clip", "--world", str(tmp_path / "empty")]) == 2
    said = capsys.readouterr()
    assert "no metadata.jsonl" in said.err and said.err.count("\n") == 1 and said.out == ""


def test_a_folder_trains_and_draws(worlds, tmp_path, monkeypatch):
    """Every stage, four steps each, from nothing to a picture. Captions may be too long."""
    monkeypatch.setattr(stages, "EMBEDDED", 1_000)
    monkeypatch.setattr(stages, "CAPTIONS", 500)
    world = worlds["folder"]
    monkeypatch.setattr(Tokenizer, "train", partial(Tokenizer.train, context_length=8))
    monkeypatch.setattr(world, "captioned", long_captions(world.captioned))
    for stage in stages.ALL:
        list(stages.train_stage(stage, world, tmp_path, "smoke", torch.device("cpu")))
    made = DALLE2.load(tmp_path).generate(["a cat"])
    assert made.image128.shape == (1, 3, 128, 128)


def long_captions(captioned):
    def with_tails(*args, **kwargs):
        pictures, captions = captioned(*args, **kwargs)
        return pictures, [caption + " and so on and so forth" * 9 for caption in captions]

    return with_tails


def test_there_is_no_judge_of_a_folder(worlds, tmp_path):
    with pytest.raises(ValueError, match="the world cats.* has no judge, because"):
        next(stages.train_stage("judge", worlds["folder"], tmp_path, "smoke", torch.device("cpu")))
