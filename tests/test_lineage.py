"""What a stage was trained with: records, changed inputs and data, stages that depend on others."""

import json
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from tiny_model import save_tiny

from minidalle2.commands.cli import main
from minidalle2.commands.release import release
from minidalle2.dalle2 import DALLE2
from minidalle2.storage import records
from minidalle2.storage.checkpoints import CheckpointError, save_model, write_tensors
from minidalle2.storage.records import Record, check_inputs, data_of, read_record, write_record
from minidalle2.training import embedded, lineage, stages
from minidalle2.training.lineage import (
    begin,
    check,
    check_replaceable,
    is_finished,
    is_kept,
    recorded,
)
from minidalle2.training.run import Run, progress_of
from minidalle2.training.stages import STAGES, train_stage
from minidalle2.training.world import Sizes
from minidalle2.worlds.emoji.world import Emoji
from minidalle2.worlds.folder.world import Folder
from minidalle2.worlds.shapes.world import Shapes

CPU = torch.device("cpu")
FILES = [f"{i}.png" for i in range(8)]


def world(files=FILES, name="cats"):
    return SimpleNamespace(name=name, contents=lambda: files)


def make(stage, folder, content=b"1", steps=None):
    """The files of a trained stage: finished without a state, or after `steps` of 4 steps."""
    file = records.file_of(stage, folder)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    if steps is not None:
        progress = json.dumps({"step": steps, "total": 4})
        state = folder / stage / "training.safetensors"
        write_tensors(state, {"x": torch.zeros(1)}, {"progress": progress})


def start(stage, data, folder):
    """Begins a training and makes its first step, so that its record is written."""
    list(recorded((step for step in [None]), begin(stage, data, folder), stage, folder))


@pytest.fixture
def run(tmp_path):
    """A tokenizer, a CLIP that was trained with it, and a prior that was trained with both."""
    start("tokenizer", world(), tmp_path)
    make("tokenizer", tmp_path)
    for stage in ("clip", "prior"):
        start(stage, world(), tmp_path)
        make(stage, tmp_path, steps=4)
    return tmp_path


# Records


def test_a_record_names_the_earlier_stages_and_the_data(run):
    record = read_record("prior", run)
    assert set(record.inputs) == {"tokenizer", "clip"}
    assert [(data.world, data.files) for data in record.data] == [("cats", 8)]
    assert set(read_record("clip", run).inputs) == {"tokenizer"}
    assert read_record("tokenizer", run).data == record.data
    content = json.loads((run / "prior" / "trained_with.json").read_text())
    assert set(content) == {"inputs", "data"}  # readable without this program


def test_every_stage_that_loads_another_one_needs_it():
    alone = {"tokenizer", "upsampler64", "upsampler128", "judge"}
    assert set(lineage.needs()) == set(STAGES) - alone
    assert all("tokenizer" in earlier for earlier in lineage.needs().values())
    assert "decoder" in lineage.needs()["glide"]


@pytest.mark.parametrize("text", ["", "[]", "{", '{"inputs": 3, "data": []}', '{"data": [1]}'])
def test_a_broken_record_is_one_sentence(run, text):
    (run / "prior" / "trained_with.json").write_text(text)
    with pytest.raises(CheckpointError, match="trained_with.json is broken .* delete it"):
        check("prior", world(), run)


def test_the_order_of_files_does_not_matter_and_every_file_does():
    first, _ = data_of("cats", FILES)
    assert data_of("cats", FILES[::-1])[0] == first
    for other in (FILES[:-1], [*FILES, "9.png"], ["x.png", *FILES[1:]]):
        assert data_of("cats", other)[0].hash != first.hash
    assert data_of("cats", ["caf\udce9.png"])[0].files == 1  # a file name that is not UTF-8


def test_a_record_of_much_data_is_small():
    data, present = data_of("cats", map(str, range(10_000)))
    assert len(data.sample) < 2_000 and len(present) == 10_000
    assert records.only_added(data, data_of("cats", map(str, range(12_000)))[1])
    assert not records.only_added(data, data_of("cats", map(str, range(1_000, 12_000)))[1])


def test_a_training_that_makes_no_step_leaves_no_record(run):
    """So a folder of a stage contains weights, or its training was killed in its first minute."""
    steps = recorded((step for step in []), begin("decoder", world(), run), "decoder", run)
    assert list(steps) == [] and not (run / "decoder").exists()


# Changed inputs


@pytest.mark.parametrize("stage", ["clip", "prior"])
def test_another_tokenizer_stops_what_was_trained_with_the_first_one(run, stage):
    make("tokenizer", run, b"2")
    with pytest.raises(CheckpointError, match="tokenizer.json has changed since clip .* restore"):
        check(stage, world(), run)


def test_another_clip_stops_the_prior(run):
    make("clip", run, b"2", steps=4)
    with pytest.raises(CheckpointError, match="clip.model.safetensors has changed since prior in"):
        check("prior", world(), run)
    assert check("clip", world(), run) == ""


def test_nothing_new_is_built_on_a_clip_of_another_tokenizer(run):
    make("tokenizer", run, b"2")
    for stage in ("decoder", "image_tower", "autoregressive_prior", "glide"):
        with pytest.raises(CheckpointError, match="tokenizer.json has changed"):
            check(stage, world(), run)
    assert check("upsampler64", world(), run) == ""  # it needs neither


def test_a_missing_tokenizer_is_not_made_again_under_a_clip(run):
    (run / "tokenizer.json").unlink()
    for stage in ("tokenizer", "clip", "prior"):
        with pytest.raises(CheckpointError, match=r"tokenizer.json.* restore that file"):
            begin(stage, world(), run)


@pytest.mark.parametrize(
    ("stage", "missing"), [("clip", "tokenizer"), ("prior", "clip"), ("glide", "decoder")]
)
def test_a_stage_says_what_comes_first_and_leaves_nothing(tmp_path, stage, missing):
    with pytest.raises(CheckpointError, match=f"{stage} needs {missing}.*train {missing} --out"):
        begin(stage, world(), tmp_path)
    assert not list(tmp_path.iterdir())


def test_weights_without_a_record_still_work(run):
    for stage in ("tokenizer", "clip", "prior"):
        records.path_of(stage, run).unlink()
    make("tokenizer", run, b"2")
    other = world(["x"], "dogs")
    assert check("prior", other, run) == "" == check("decoder", other, run)
    start("prior", other, run)
    assert read_record("prior", run) is None  # nobody knows what its first steps were trained with
    start("decoder", other, run)
    assert set(read_record("decoder", run).inputs) == {"tokenizer", "clip"}


# Changed data


def test_added_files_continue_and_the_record_says_so(run):
    grown = world([*FILES, "new.png"])
    make("prior", run, steps=2)
    assert "cats has more files than when prior was trained (8 files then, 9 files now)" in check(
        "prior", grown, run
    )
    start("prior", grown, run)
    assert [data.files for data in read_record("prior", run).data] == [8, 9]
    assert check("prior", grown, run).count("clip") == 1  # CLIP has not seen the new files
    start("prior", grown, run)
    assert [data.files for data in read_record("prior", run).data] == [8, 9]


@pytest.mark.parametrize("files", [FILES[1:], ["0.png another caption", *FILES[1:]], ["a", "b"]])
def test_removed_or_changed_files_stop_the_training(run, files):
    for stage in ("clip", "prior", "decoder"):
        with pytest.raises(CheckpointError, match="trained with other data; the data of cats has"):
            check(stage, world(files), run)


def test_the_message_names_all_records_to_delete(run):
    """After that, the training continues at the first attempt."""
    with pytest.raises(CheckpointError) as stopped:
        check("decoder", world(FILES[1:]), run)
    named = str(stopped.value).split("delete the records: ")[1].split(" and ")
    assert str(run / "clip" / "trained_with.json") in named
    for name in named:
        Path(name).unlink()
    assert check("decoder", world(FILES[1:]), run) == ""


def test_another_world_stops_the_training(run):
    with pytest.raises(CheckpointError, match="its world was cats, not dogs.*another folder"):
        check("prior", world(["x"], "dogs"), run)
    assert check("prior", world(name="kittens"), run) == ""  # the same files in a renamed folder


def test_a_world_without_contents_is_not_checked(run):
    assert check("prior", SimpleNamespace(name="mine"), run) == ""


def test_every_world_describes_its_data(tmp_path):
    folder = pictures(tmp_path / "cats", 3)
    described = {kind.name: kind.contents() for kind in (Shapes(), Emoji())}
    described["cats"] = Folder(folder, tmp_path / "cache").contents()
    assert all(isinstance(line, str) for lines in described.values() for line in lines)
    assert described["cats"] == [f"{i}.png {size(folder, i)} picture {i}" for i in range(3)]
    assert Shapes(("one",)).contents() != Shapes().contents()


# Stages that later stages depend on


@pytest.mark.parametrize("stage", ["tokenizer", "clip"])
def test_a_stage_is_not_replaced_under_a_later_one(run, stage):
    (run / "clip" / "training.safetensors").unlink()  # so that CLIP would start over
    with pytest.raises(CheckpointError, match="would change .*prior in .* trained.*another folder"):
        check_replaceable(stage, run)


@pytest.mark.parametrize("steps, stops", [(2, True), (4, False)])
def test_a_clip_under_a_prior_is_not_trained_further(run, steps, stops):
    """A finished training changes nothing, so `train all --resume` may pass."""
    make("clip", run, steps=steps)
    if stops:
        with pytest.raises(CheckpointError, match="training would change .*clip"):
            check("clip", world(), run)
    else:
        assert check("clip", world(), run) == ""


def test_all_stages_that_depend_on_a_stage_are_named(run):
    make("decoder", run)
    with pytest.raises(
        CheckpointError, match="with which clip, prior and decoder in .* were trained"
    ):
        check_replaceable("tokenizer", run)


def test_a_removed_clip_is_not_trained_again_under_a_prior(run):
    (run / "clip" / "model.safetensors").unlink()
    (run / "clip" / "training.safetensors").unlink()
    with pytest.raises(CheckpointError, match="would make another .*prior.*restore that file"):
        check("clip", world(), run)


def test_a_second_image_tower_leaves_the_first_clip(run):
    start("image_tower", world(), run)
    make("image_tower", run, steps=4)
    assert check("prior", world(), run) == ""
    assert read_record("image_tower", run).inputs == read_record("prior", run).inputs


def test_what_counts_as_finished(tmp_path):
    assert not is_finished("clip", tmp_path)
    make("clip", tmp_path)
    assert is_kept("clip", tmp_path)  # released weights
    write_record(Record({}, ()), "clip", tmp_path)
    assert not is_finished("clip", tmp_path)  # killed while it was saved for the first time
    for step, finished in ((3, False), (4, True)):
        log = [{"step": 1, "total": 4}, {"step": step, "total": 4}]
        (tmp_path / "clip" / "log.jsonl").write_text("\n".join(map(json.dumps, log)) + "\n")
        assert is_kept("clip", tmp_path) is finished
    make("clip", tmp_path, steps=3)
    assert not is_finished("clip", tmp_path) and not is_kept("clip", tmp_path)
    make("clip", tmp_path, steps=4)
    assert is_finished("clip", tmp_path) and not is_kept("clip", tmp_path)


# Real trainings


def pictures(folder, n, first=0):
    folder.mkdir(exist_ok=True)
    with open(folder / "metadata.jsonl", "a") as lines:
        for i in range(first, n):
            Image.new("RGB", (32, 32), (i, 20 * i, 99)).save(folder / f"{i}.png")
            lines.write(json.dumps({"file_name": f"{i}.png", "text": f"picture {i}"}) + "\n")
    return folder


def size(folder, i):
    return (folder / f"{i}.png").stat().st_size


@pytest.fixture
def cats(tmp_path, configs, monkeypatch):
    """Opens a folder of pictures that trains tiny networks."""
    monkeypatch.setattr(Folder, "sizes", Sizes(300, configs.clip, priors={"prior": configs.prior}))
    monkeypatch.setattr(stages, "CAPTIONS", 50)
    monkeypatch.setattr(stages, "EMBEDDED", 50)
    monkeypatch.setattr(embedded, "AT_ONCE", 50)
    monkeypatch.setenv("MINIDALLE2_CACHE", str(tmp_path / "cache"))
    return pictures(tmp_path / "cats", 10)


def trained(stage, cats, folder, stop_at=None):
    steps = train_stage(stage, Folder(cats), folder, "smoke", CPU)
    with closing(steps):
        for step in steps:
            if step.step == stop_at:
                break


def test_a_growing_folder_keeps_its_tokenizer(cats, tmp_path):
    run = tmp_path / "run"
    trained("tokenizer", cats, run)
    trained("clip", cats, run, stop_at=2)
    tokenizer = (run / "tokenizer.json").read_bytes()
    pictures(cats, 13, first=10)
    trained("tokenizer", cats, run)
    trained("clip", cats, run)
    assert (run / "tokenizer.json").read_bytes() == tokenizer
    assert progress_of(run / "clip")["step"] == 4
    assert [data.files for data in read_record("clip", run).data] == [10, 13]


def test_resuming_a_finished_clip_leaves_its_bytes(cats, tmp_path):
    """Else the record of a prior would no longer fit."""
    for stage in ("tokenizer", "clip", "prior"):
        trained(stage, cats, tmp_path / "run")
    before = (tmp_path / "run" / "clip" / "model.safetensors").read_bytes()
    trained("clip", cats, tmp_path / "run")
    assert (tmp_path / "run" / "clip" / "model.safetensors").read_bytes() == before
    check_inputs("prior", tmp_path / "run")


def test_another_size_is_named_without_a_dump(cats, tmp_path, configs):
    """A run of an older version, in which the tokenizer was replaced by a larger one."""
    trained("tokenizer", cats, tmp_path)
    trained("clip", cats, tmp_path, stop_at=2)
    config = json.loads((tmp_path / "clip" / "config.json").read_text())
    now = config["config"]["vocab_size"]
    config["config"]["vocab_size"] = 7
    (tmp_path / "clip" / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=f"another size .vocab_size 7, now {now}.") as caught:
        trained("clip", cats, tmp_path)
    assert "state_dict" not in str(caught.value)


def command(stage, cats, run, *options):
    return main(
        ["train", stage, "--world", str(cats), "--out", str(run), "--profile", "smoke", *options]
        + ["--device", "cpu"]
    )


def test_the_command_trains_a_tokenizer_first_and_keeps_it(cats, tmp_path, capsys):
    run = tmp_path / "run"
    assert command("clip", cats, run) == 0
    said = capsys.readouterr().out
    assert said.count("there is no tokenizer in") == 1
    assert "\ntokenizer " in said and "\nclip " in said
    tokenizer = (run / "tokenizer.json").read_bytes()
    pictures(cats, 13, first=10)
    for stage, options in (("tokenizer", ()), ("clip", ()), ("tokenizer", ["--minutes", "1"])):
        assert command(stage, cats, run, *options) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 3 and "with which clip in" in said and "--minutes has no" in said
    assert command("tokenizer", cats, run, "--resume") == 0
    assert command("clip", cats, run, "--resume") == 0
    assert "cats has more files than when clip was trained" in capsys.readouterr().out
    assert (run / "tokenizer.json").read_bytes() == tokenizer


def test_a_tokenizer_that_nothing_needs_may_be_trained_again(cats, tmp_path):
    run = tmp_path / "run"
    assert command("tokenizer", cats, run) == 0
    first = read_record("tokenizer", run).data
    pictures(cats, 13, first=10)
    assert command("tokenizer", cats, run) == 0
    assert read_record("tokenizer", run).data != first


def test_the_command_keeps_weights_that_it_cannot_resume(cats, tmp_path, capsys):
    run = tmp_path / "run"
    assert command("clip", cats, run) == 0
    (run / "clip" / "training.safetensors").unlink()
    weights = (run / "clip" / "model.safetensors").read_bytes()
    assert command("clip", cats, run) == 2
    assert "already holds weights of clip" in capsys.readouterr().err
    assert command("clip", cats, run, "--resume") == 0
    assert "clip          is kept; delete" in capsys.readouterr().out
    assert (run / "clip" / "model.safetensors").read_bytes() == weights


# Drawing and releasing


def test_stages_of_different_trainings_are_neither_drawn_nor_released(tiny_dalle2, tmp_path):
    run = save_tiny(tiny_dalle2, tmp_path / "run")
    for stage in ("clip", "prior", "decoder"):
        inputs = {
            name: records.hash_of(records.file_of(name, run)) for name in lineage.needs()[stage]
        }
        write_record(Record(inputs, ()), stage, run)
    DALLE2.load(run)
    release(run, tmp_path / "weights")
    assert not list((tmp_path / "weights").rglob("*trained_with*"))
    tiny_dalle2.clip.log_scale.data += 1
    save_model(run / "clip", "clip", tiny_dalle2.clip)
    for use in (lambda: DALLE2.load(run), lambda: release(run, tmp_path / "weights")):
        with pytest.raises(CheckpointError, match="clip.model.safetensors has changed since prior"):
            use()


def test_a_run_with_minutes_times_its_steps_in_every_profile(tmp_path):
    recipe = stages.planned_recipe(Shapes(), "smoke", "clip", 0.5)
    model = torch.nn.Linear(2, 2)
    assert Run(model, recipe, tmp_path, "toy").total > 20
