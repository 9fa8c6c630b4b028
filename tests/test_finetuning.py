"""`train --from`: stages that start from pretrained weights."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tiny_model import MODELS, perturbed, save_tiny

from minidalle2.clip import CLIP
from minidalle2.commands import train as command
from minidalle2.commands.cli import main
from minidalle2.commands.release import release
from minidalle2.dalle2 import DALLE2, WEIGHTS
from minidalle2.scale import loop as scale_loop
from minidalle2.storage.checkpoints import (
    CheckpointError,
    load_model,
    save_model,
    save_tokenizer,
)
from minidalle2.storage.records import file_of, hash_of, read_record
from minidalle2.tokenizer import Tokenizer
from minidalle2.training import embedded, stages
from minidalle2.training.lineage import is_kept
from minidalle2.training.recipes import FINETUNE, FINETUNE_MINUTES, LAPTOP, PROFILES
from minidalle2.training.stages import Setting, make_job, train_stage
from minidalle2.training.starts import name_of
from minidalle2.worlds.folder.world import Folder
from tests.benchmarks.finetuning import BLUE, questions, score, things

CPU = torch.device("cpu")
SMOKE = PROFILES["smoke"]
TRAINED = ("clip", "prior", "decoder")


@pytest.fixture(scope="module")
def configs(configs: SimpleNamespace) -> SimpleNamespace:
    """CLIP with patches of 4 px, which the training of the decoder needs."""
    return SimpleNamespace(**vars(configs) | {"clip": replace(configs.clip, patch_size=4)})


@pytest.fixture
def weights(tiny_dalle2, few_steps, tmp_path) -> Path:
    """Pretrained weights whose sizes differ from those of the world, with credits."""
    folder = save_tiny(replace(tiny_dalle2, sampling=few_steps), tmp_path / "pretrained")
    (folder / "LICENSES").mkdir()
    (folder / "LICENSES" / "ATTRIBUTION.md").write_text("an artist")
    return folder


@pytest.fixture
def pictures(tmp_path, monkeypatch) -> Path:
    """Ten captioned pictures."""
    monkeypatch.setattr(stages, "EMBEDDED", 50)
    monkeypatch.setattr(embedded, "AT_ONCE", 50)
    monkeypatch.setenv("MINIDALLE2_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "pictures"
    folder.mkdir()
    lines = []
    for i in range(10):
        Image.new("RGB", (32, 32), (i, 20 * i, 99)).save(folder / f"{i}.png")
        lines.append(json.dumps({"file_name": f"{i}.png", "text": f"a red circle {i}"}))
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    return folder


@pytest.fixture
def run(tmp_path) -> Path:
    return tmp_path / "run"


def prepared(weights: Path, run: Path, *names: str) -> Path:
    """A run with the tokenizer of the weights, and with some of their stages."""
    run.mkdir(exist_ok=True)
    shutil.copy(weights / "tokenizer.json", run)
    for name in names:
        shutil.copytree(weights / name, run / name)
    return run


def run_for(stage: str, weights: Path, run: Path) -> Path:
    """A run in which the stage can be trained: the other stages need a CLIP."""
    return prepared(weights, run) if stage == "clip" else prepared(weights, run, "clip")


def trained(stage, pictures, run, weights, stop_at=None, loop=train_stage) -> list[float]:
    """→ the losses."""
    losses, steps = [], loop(stage, Folder(pictures), run, "smoke", CPU, weights=weights)
    for step in steps:
        losses.append(step.loss)
        if step.step == stop_at:
            steps.close()
    return losses


def train_command(stage, pictures, run, *options: str) -> int:
    where = ["--world", str(pictures), "--out", str(run), "--device", "cpu"]
    return main(["train", stage, *where, *options])


def same(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


# What a stage starts from


@pytest.mark.parametrize("stage", MODELS)
def test_a_stage_starts_with_the_given_weights_and_sizes(stage, weights, pictures, run):
    setting = Setting(Folder(pictures), prepared(weights, run, "clip"), CPU, weights=weights)
    job = make_job(stage, setting, SMOKE[stage])
    network, given = job.kept(job.model), load_model(weights / stage, stage, *MODELS[stage])
    assert network.config == given.config
    assert same(network.state_dict(), given.state_dict())
    assert network.training and all(p.requires_grad for p in network.parameters())


def test_an_autoregressive_prior_keeps_what_was_measured(
    autoregressive_prior, weights, pictures, run
):
    """Its components and buckets belong to its weights, so they are not measured again."""
    save_model(weights / "autoregressive_prior", "autoregressive_prior", autoregressive_prior)
    setting = Setting(Folder(pictures), prepared(weights, run, "clip"), CPU, weights=weights)
    model = make_job("autoregressive_prior", setting, SMOKE["prior"]).model
    assert same(model.state_dict(), autoregressive_prior.state_dict())


def test_the_decoder_keeps_its_own_text_encoder(weights, pictures, run, decoder, clip):
    """Without pretrained weights, a new decoder starts with CLIP's."""
    given = decoder.text_encoder.state_dict()
    assert not same(given, clip.text_tower.encoder.state_dict())
    setting = Setting(Folder(pictures), prepared(weights, run, "clip"), CPU, weights=weights)
    model = make_job("decoder", setting, SMOKE["decoder"]).model
    assert same(model.decoder.text_encoder.state_dict(), given)


def test_each_stage_is_trained_further(weights, pictures, run):
    prepared(weights, run)
    for stage in (*TRAINED, "upsampler64"):
        before = load_file(weights / stage / "model.safetensors")
        trained(stage, pictures, run, weights)
        after = load_file(run / stage / "model.safetensors")
        assert before.keys() == after.keys() and not same(before, after)
        apart = max((after[name] - before[name]).abs().max() for name in before)
        assert apart < 0.1  # four steps lead not far away


# A whole run


@pytest.fixture
def tuned(weights, pictures, run, capsys) -> Path:
    options = ["--from", str(weights), "--profile", "smoke"]
    assert train_command("all", pictures, run, *options) == 0
    return run


def test_a_run_takes_over_tokenizer_sampling_upsamplers_and_licences(
    tuned, weights, few_steps, capsys
):
    said = capsys.readouterr().out
    for size in (64, 128):
        for name in ("config.json", "model.safetensors"):
            path = Path(f"upsampler{size}", name)
            assert (tuned / path).read_bytes() == (weights / path).read_bytes()
        assert f"upsampler{size}" in said and "is copied from" in said
    for name in ("tokenizer.json", "sampling.json", "LICENSES/ATTRIBUTION.md"):
        assert (tuned / name).read_bytes() == (weights / name).read_bytes()
    assert DALLE2.load(tuned).sampling == few_steps


def test_the_records_say_what_each_stage_started_from(tuned, weights, pictures):
    for stage in (*stages.ALL,):
        start = read_record(stage, tuned).started_from
        assert start.weights == str(weights)
        assert start.hash == hash_of(file_of(stage, weights))
    assert [data.files for data in read_record("clip", tuned).data] == [10]
    assert set(read_record("decoder", tuned).inputs) == {"tokenizer", "clip"}
    content = json.loads((tuned / "clip" / "trained_with.json").read_text())
    assert set(content["started_from"]) == {"weights", "hash"}


def test_resuming_a_finished_run_changes_nothing(tuned, weights, pictures, capsys):
    before = {path: path.read_bytes() for path in tuned.rglob("model.safetensors")}
    options = ["--from", str(weights), "--profile", "smoke", "--resume"]
    assert train_command("all", pictures, tuned, *options) == 0
    assert before == {path: path.read_bytes() for path in tuned.rglob("model.safetensors")}
    assert is_kept("upsampler64", tuned) and not is_kept("clip", tuned)
    assert "upsampler64   is kept" in capsys.readouterr().out


def test_pictures_can_be_added(tuned, weights, pictures, capsys):
    Image.new("RGB", (32, 32), (200, 9, 9)).save(pictures / "new.png")
    with open(pictures / "metadata.jsonl", "a") as lines:
        lines.write('\n{"file_name": "new.png", "text": "a new circle"}')
    options = ["--from", str(weights), "--profile", "smoke", "--resume"]
    assert train_command("all", pictures, tuned, *options) == 0
    assert "11 files now" in capsys.readouterr().out


def test_a_run_can_start_from_another_run(tuned, pictures, tmp_path):
    """For example from weights that were already trained on other pictures."""
    options = ["--from", str(tuned), "--profile", "smoke"]
    assert train_command("all", pictures, tmp_path / "second", *options) == 0
    assert read_record("clip", tmp_path / "second").started_from.weights == str(tuned)
    assert (tmp_path / "second" / "LICENSES" / "ATTRIBUTION.md").is_file()


def test_upsamplers_are_trained_when_they_are_asked_for(weights, pictures, run):
    options = ["--from", str(weights), "--profile", "smoke"]
    assert train_command("upsampler64", pictures, run, *options) == 0
    mine = (run / "upsampler64" / "model.safetensors").read_bytes()
    assert mine != (weights / "upsampler64" / "model.safetensors").read_bytes()
    assert (run / "LICENSES").is_dir()
    assert train_command("all", pictures, run, *options, "--resume") == 0
    assert (run / "upsampler64" / "model.safetensors").read_bytes() == mine


def test_a_release_keeps_the_licences(tuned, tmp_path):
    release(tuned, tmp_path / "mine")
    assert (tmp_path / "mine" / "LICENSES" / "ATTRIBUTION.md").read_text() == "an artist"


@pytest.mark.parametrize("stage", TRAINED)
def test_a_resumed_training_is_the_same_to_the_bit(stage, weights, pictures, tmp_path):
    once, twice = (run_for(stage, weights, tmp_path / name) for name in ("once", "twice"))
    losses = trained(stage, pictures, once, weights)
    assert trained(stage, pictures, twice, weights, stop_at=2) == losses[:2]
    assert trained(stage, pictures, twice, weights) == losses[2:]
    files = (folder / stage / "model.safetensors" for folder in (once, twice))
    assert same(*map(load_file, files))


@pytest.mark.parametrize("stage", TRAINED)
def test_the_loop_for_several_processes_starts_equally(stage, weights, pictures, tmp_path):
    plain, scaled = (run_for(stage, weights, tmp_path / name) for name in ("plain", "scaled"))
    losses = trained(stage, pictures, plain, weights)
    others = trained(stage, pictures, scaled, weights, loop=scale_loop.train_stage)
    assert losses == pytest.approx(others, rel=1e-4)
    records = [read_record(stage, folder) for folder in (plain, scaled)]
    assert records[0] == records[1] and records[0].started_from


# Profiles and minutes


@pytest.fixture
def called(monkeypatch) -> dict:
    """Stage → (profile, minutes) of a training that makes no steps."""
    calls = {}

    def steps_of(stage, world, folder, profile, device, minutes, execution, weights):
        calls[stage] = (profile, minutes)
        return (step for step in ())

    monkeypatch.setattr(command, "steps_of", steps_of)
    return calls


def test_the_minutes_go_to_the_stages_that_are_trained(called, weights, pictures, run):
    assert train_command("all", pictures, run, "--from", str(weights), "--minutes", "10") == 0
    assert list(called) == ["tokenizer", *TRAINED]
    assert {profile for profile, _ in called.values()} == {"finetune"}
    assert sum(called[stage][1] for stage in TRAINED) == pytest.approx(10)
    assert called["decoder"][1] == max(called[stage][1] for stage in TRAINED)


def test_another_profile_can_be_chosen(called, weights, pictures, run):
    options = ["--from", str(weights), "--profile", "laptop"]
    assert train_command("clip", pictures, run, *options) == 0
    assert called["clip"] == ("laptop", None)


def test_fine_tuning_is_shorter_and_slower_than_training_from_nothing():
    assert set(FINETUNE_MINUTES) == set(TRAINED)
    for stage in TRAINED:
        short, long = FINETUNE[stage], LAPTOP[stage]
        assert short.steps < long.steps and short.learning_rate < long.learning_rate
        assert 0 < short.warmup_steps < short.steps / 2
    seen = {stage: recipe.steps * recipe.batch_size for stage, recipe in FINETUNE.items()}
    assert min(TRAINED, key=seen.get) == "clip"  # it memorises first


# Impossible combinations


@pytest.fixture
def refuse(pictures, run, capsys):
    """Runs a command that must fail with one sentence, and returns the sentence."""

    def refused(stage: str, *options: str, out: Path | None = None) -> str:
        capsys.readouterr()
        assert train_command(stage, pictures, out or run, *options) == 2
        said = capsys.readouterr().err
        assert said.startswith("minidalle2: ") and said.count("\n") == 1
        return said

    return refused


def test_stages_that_cannot_start_from_weights(refuse, weights):
    for stage in ("judge", "image_tower"):
        said = refuse(stage, "--from", str(weights))
        assert f"{stage} can't start from pretrained weights; train it without --from" in said


def test_a_stage_that_the_weights_lack(refuse, weights, run):
    said = refuse("regression_prior", "--from", str(weights))
    assert "have no regression_prior (they have clip, prior, decoder, upsampler64 and" in said
    shutil.rmtree(weights / "decoder")
    assert "have no decoder" in refuse("all", "--from", str(weights))
    assert not (run / "clip").exists()  # nothing was trained before


def test_a_folder_without_weights(refuse, tmp_path):
    said = refuse("all", "--from", str(tmp_path / "nothing"))
    assert "there are no weights in" in said and "emoji" in said


def test_broken_weights(refuse, weights):
    (weights / "clip" / "model.safetensors").write_bytes(b"half")
    assert "truncated" in refuse("clip", "--from", str(weights))


def test_the_folder_of_the_weights_is_not_trained_into(refuse, weights):
    before = {path: path.read_bytes() for path in weights.rglob("*") if path.is_file()}
    said = refuse("regression_prior", "--from", str(weights), out=weights)
    assert "--from and --out are the same folder" in said
    after = {path: path.read_bytes() for path in weights.rglob("*") if path.suffix}
    assert before == {path: content for path, content in after.items() if path in before}


def test_another_tokenizer(refuse, weights, run):
    run.mkdir()
    save_tokenizer(Tokenizer.train(["another caption"] * 9, 270), run / "tokenizer.json")
    said = refuse("clip", "--from", str(weights))
    assert "is not that of the weights" in said and "--out" in said
    assert not (run / "clip").exists()


def test_the_profile_for_pretrained_weights_needs_them(refuse):
    said = refuse("all", "--profile", "finetune")
    assert "too short for random weights; add --from emoji" in said


def test_a_run_is_resumed_with_the_same_weights_only(
    refuse, weights, pictures, run, configs, tmp_path
):
    prepared(weights, run)
    trained("clip", pictures, run, weights, stop_at=2)
    options = ("--profile", "smoke", "--resume")
    said = refuse("clip", *options)
    assert f"started from the weights {weights}, not from random weights; resume it with" in said
    assert f"--from {weights}" in said
    other = tmp_path / "other"
    shutil.copytree(weights, other)
    larger = perturbed(CLIP(replace(configs.clip, width=32)))
    save_model(other / "clip", "clip", larger)
    assert f"not from the weights {other}" in refuse("clip", *options, "--from", str(other))
    save_model(weights / "clip", "clip", larger)
    assert "which have changed since" in refuse("clip", *options, "--from", str(weights))


def test_a_run_from_random_weights_is_not_resumed_with_others(
    refuse, weights, pictures, run, configs, monkeypatch
):
    monkeypatch.setattr(Folder, "sizes", replace(Folder.sizes, clip=configs.clip))
    prepared(weights, run)
    trained("clip", pictures, run, None, stop_at=2)
    said = refuse("clip", "--profile", "smoke", "--resume", "--from", str(weights))
    assert "started from random weights, not from the weights" in said
    assert "resume it without --from" in said


def test_stages_of_two_sizes_do_not_meet(weights, pictures, run):
    """A decoder of the world's size does not fit a CLIP that has the size of the weights."""
    prepared(weights, run, "clip")
    with pytest.raises(CheckpointError, match="128 numbers, but the CLIP .* makes 12; .*--from"):
        trained("decoder", pictures, run, None)
    with pytest.raises(CheckpointError, match="decoder/model.safetensors|no decoder checkpoint"):
        load_model(run / "decoder", "decoder", *MODELS["decoder"])


def test_the_name_of_weights_is_what_from_takes(weights):
    assert name_of(WEIGHTS / "emoji") == "emoji"
    assert name_of(weights) == str(weights)


# The reading test (benchmarks/finetuning.py)


def test_each_question_has_ten_captions_of_one_variant_with_the_right_one():
    trained, new = things()
    assert len(trained) == 150 and not set(trained) & set(new)
    captions = [text for name in trained.values() for text in (name, name + BLUE)]
    assert len(set(captions)) == 300 and not set(new.values()) & set(captions)
    asked = questions(captions, 100)
    assert len({caption for caption, _ in asked}) == 100
    for caption, choices in asked:
        assert caption in choices and len(set(choices)) == 10
        assert len({choice.endswith(BLUE) for choice in choices}) == 1
    places = [choices.index(caption) for caption, choices in asked]
    assert set(places) == set(range(10))  # the place does not give the answer away


def test_answers_are_counted():
    assert score({"1": "a", "2": "c", "3": "j"}, "1 a\n2 b\n") == (1, 3)
    assert score({"1": "a", "12": "c"}, "12 c)\n1 a\n\n") == (2, 2)
