"""Both loops: exact resume, kills, Ctrl-C, NaN, full disks, minutes turned into steps."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from minidalle2.scale import loop as scale_loop
from minidalle2.storage.checkpoints import CheckpointError, read_tensors, write_tensors
from minidalle2.training import run, stages
from minidalle2.training.jobs import Job
from minidalle2.training.loop import fit
from minidalle2.training.precision import half_precision
from minidalle2.training.recipe import Recipe, learning_rate
from minidalle2.training.recipes import LAPTOP, LAPTOP_MINUTES, PROFILES, split_minutes
from minidalle2.training.run import TrainingError
from minidalle2.training.stages import ALL, STAGES, train_stage
from minidalle2.worlds.shapes.world import Shapes


@dataclass
class ToyConfig:
    width: int = 8


class Toy(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.config = ToyConfig()
        self.layers = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 1))

    def forward(self, x):
        return self.layers(x)


def toy_data(n, generator):
    return torch.randn(n, 4, generator=generator)


def toy_loss(model, batch, generator):
    noise = torch.randn(len(batch), 1, generator=generator)
    return ((model(batch) - batch.sum(1, keepdim=True) - 0.1 * noise) ** 2).mean()


def fit_at_scale(model, data, loss, recipe, folder, stage):
    """The loop for several processes and GPUs, here in one process without a GPU."""
    job = Job(model, lambda n, generator, rows: data(n, generator)[rows], same, None, None)
    return scale_loop.fit(job, loss, recipe, folder, stage)


def same(batch):
    return batch


@pytest.fixture(params=[fit, fit_at_scale], ids=["plain", "scale"])
def loop(request):
    return request.param


def train(folder, steps=30, stop_at=None, loss=toy_loss, loop=fit, **changes):
    recipe = Recipe(steps=steps, batch_size=16, warmup_steps=3, **changes)
    seen = []
    for step in loop(Toy(), toy_data, loss, recipe, folder, "toy"):
        seen.append(step)
        if step.step == stop_at:
            break
    return seen


def weights(folder):
    return load_file(folder / "training.safetensors")


def test_training_learns(tmp_path):
    steps = train(tmp_path, steps=300, learning_rate=0.02)
    assert steps[-1].loss < 0.2 * steps[0].loss


def test_both_loops_have_the_same_bits_and_log(tmp_path):
    """One loop can finish what the other began. Only the seconds in the log differ."""
    train(tmp_path / "plain")
    train(tmp_path / "scale", loop=fit_at_scale)
    train(tmp_path / "both", stop_at=7, loop=fit_at_scale)
    train(tmp_path / "both")
    plain = weights(tmp_path / "plain")
    for folder in ("scale", "both"):
        other = weights(tmp_path / folder)
        assert plain.keys() == other.keys()
        assert all(torch.equal(plain[name], other[name]) for name in plain)
        logs = [(tmp_path / run / "log.jsonl").read_text() for run in ("plain", folder)]
        lines = [[json.loads(line) | {"seconds": 0} for line in log.splitlines()] for log in logs]
        assert lines[0] == lines[1]


@pytest.mark.parametrize("stop_at", [1, 7, 29])
def test_a_stopped_training_goes_on_to_the_same_bits(tmp_path, stop_at, loop):
    train(tmp_path / "whole")
    train(tmp_path / "parts", stop_at=stop_at, loop=loop)
    rest = train(tmp_path / "parts", loop=loop)
    assert rest[0].step == stop_at + 1
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    logs = [(tmp_path / part / "log.jsonl").read_text() for part in ("whole", "parts")]
    losses = [[json.loads(line)["loss"] for line in log.splitlines()] for log in logs]
    assert losses[0] == losses[1]


KILLED = """
import sys
sys.path[:0] = {paths!r}
from tests.test_training import *
run.SAVE_EVERY_SECONDS = 0
train(Path(sys.argv[1]), steps=400)
"""


def test_kill_9_loses_nothing_but_time(tmp_path):
    """Killed at an arbitrary moment, also in the middle of saving, it ends with the same bits."""
    root = str(Path(__file__).parent.parent)
    script = KILLED.format(paths=[root])
    for delay in (0.05, 0.3):
        child = subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "killed")])
        while not (tmp_path / "killed" / "training.safetensors").exists():
            assert child.poll() is None
            time.sleep(0.01)
        time.sleep(delay)
        child.kill()
        child.wait()
    train(tmp_path / "killed", steps=400)
    train(tmp_path / "whole", steps=400)
    whole, killed = weights(tmp_path / "whole"), weights(tmp_path / "killed")
    assert all(torch.equal(whole[name], killed[name]) for name in whole)


def test_nan_stops_with_a_sentence_and_keeps_the_last_good_weights(tmp_path, loop):
    train(tmp_path, stop_at=5)
    before = weights(tmp_path)
    with pytest.raises(TrainingError, match="became nan at step 5.*learning rate"):
        train(
            tmp_path,
            loss=lambda model, batch, generator: toy_loss(model, batch, generator) * torch.nan,
            loop=loop,
        )
    after = weights(tmp_path)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_ctrl_c_ends_the_step_and_saves_it(tmp_path, loop):
    def interrupted_loss(model, batch, generator):
        interrupted_loss.calls += 1
        if interrupted_loss.calls == 4:
            os.kill(os.getpid(), signal.SIGINT)
        return toy_loss(model, batch, generator)

    interrupted_loss.calls = 0
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "stopped", loss=interrupted_loss, loop=loop)
    assert train(tmp_path / "stopped")[0].step == 5
    train(tmp_path / "whole")
    whole, stopped = weights(tmp_path / "whole"), weights(tmp_path / "stopped")
    assert all(torch.equal(whole[name], stopped[name]) for name in whole)


def test_a_full_disk_is_one_sentence_and_the_old_checkpoint_stays(tmp_path, monkeypatch):
    train(tmp_path, stop_at=5)
    before = weights(tmp_path)

    def no_space(tensors, path, metadata):
        Path(path).write_bytes(b"half a file")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("minidalle2.storage.checkpoints.save_file", no_space)
    with pytest.raises(CheckpointError, match="No space left on device.*unchanged"):
        train(tmp_path)
    after = weights(tmp_path)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not list(tmp_path.glob("*.tmp"))


def test_another_recipe_is_refused(tmp_path):
    train(tmp_path, stop_at=5)
    with pytest.raises(CheckpointError, match="another recipe .learning_rate 0.004, now 0.5."):
        train(tmp_path, learning_rate=0.5)


def test_minutes_become_steps_and_the_number_survives_a_stop(tmp_path, monkeypatch, loop):
    monkeypatch.setattr(run, "TIMED_STEPS", 5)
    first = train(tmp_path, steps=10**9, stop_at=8, minutes=1 / 60, loop=loop)
    assert first[3].total == 10**9 and 6 <= first[5].total < 10**7
    recipe = Recipe(steps=10**9, batch_size=16, warmup_steps=3, minutes=1 / 60)
    resumed = loop(Toy(), toy_data, toy_loss, recipe, tmp_path, "toy")
    assert next(resumed).total == first[5].total
    resumed.close()


def test_learning_rate_warms_up_and_ends_at_zero():
    recipe = Recipe(steps=100, batch_size=1, learning_rate=1.0, warmup_steps=10)
    rates = [learning_rate(step, 100, recipe) for step in range(101)]
    assert rates[0] == pytest.approx(0.1) and max(rates) > 0.97 and rates[100] == pytest.approx(0)
    assert all(a >= b for a, b in zip(rates[10:], rates[11:], strict=False))


def test_learning_rate_restarts():
    """The first cycle is that of a shorter training; the next one peaks at half its rate."""
    recipe = Recipe(steps=80, batch_size=1, learning_rate=1.0, warmup_steps=10)
    longer = replace(recipe, steps=200, restarts=(80,))
    rates = [learning_rate(step, 200, longer) for step in range(200)]
    assert rates[:80] == [learning_rate(step, 80, recipe) for step in range(80)]
    assert rates[80] < 0.1 and rates[79] < 0.01
    assert max(rates[80:]) == pytest.approx(0.5, abs=0.01) and rates.index(max(rates[80:])) == 89
    assert rates[-1] < 0.001


def test_a_finished_training_goes_on_with_a_restart(tmp_path):
    """To the same bits as if it had been planned with one: only the recipe in its file differs."""
    train(tmp_path / "once", steps=9, restarts=(5,))
    train(tmp_path / "short", steps=5)
    path = tmp_path / "short" / "training.safetensors"
    tensors, metadata = read_tensors(path)
    progress = json.loads(metadata["progress"])
    planned = Recipe(steps=9, batch_size=16, warmup_steps=3, restarts=(5,))
    progress |= {"recipe": asdict(planned), "total": 9}
    write_tensors(path, tensors, metadata | {"progress": json.dumps(progress)})
    train(tmp_path / "short", steps=9, restarts=(5,))
    once, resumed = weights(tmp_path / "once"), weights(tmp_path / "short")
    assert all(torch.equal(once[name], resumed[name]) for name in once)


@pytest.mark.parametrize("amx", [True, False])
def test_bfloat16_on_cpus_needs_amx(monkeypatch, amx):
    """Training steps take longer in bfloat16 where AVX-512 alone multiplies it."""
    monkeypatch.setattr("torch.cpu._is_amx_tile_supported", lambda: amx, raising=False)
    monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: True, raising=False)
    with half_precision(torch.device("cpu")):
        assert (torch.ones(1, 1) @ torch.ones(1, 1)).dtype is (
            torch.bfloat16 if amx else torch.float32
        )


def test_every_profile_trains_every_stage():
    assert all(set(recipes) == set(STAGES) - {"tokenizer"} for recipes in PROFILES.values())
    assert set(LAPTOP) == set(LAPTOP_MINUTES)


def test_minutes_are_divided_in_the_laptop_proportions():
    shares = split_minutes(list(ALL), 10.0)
    assert sum(shares.values()) == pytest.approx(10.0)
    assert shares["decoder"] > shares["clip"] > shares["upsampler64"]


@pytest.mark.parametrize(("total", "sheets"), [(4, 1), (50, 2), (2_001, 8)])
def test_sheets_are_spread_over_a_training(total, sheets):
    drawn = [step for step in range(1, total + 1) if stages.sheet_is_due(step, total)]
    assert len(drawn) == sheets and drawn[-1] == total
    gaps = {b - a for a, b in pairwise([0, *drawn])}
    assert max(gaps) - min(gaps) <= 1


def test_smoke_profile_trains_all_stages_that_then_draw(tmp_path, monkeypatch):
    """Every stage that the world has, four steps each, from nothing to a picture."""
    from minidalle2.dalle2 import DALLE2

    monkeypatch.setattr(stages, "EMBEDDED", 1_000)
    monkeypatch.setattr(stages, "CAPTIONS", 500)
    for stage in STAGES:
        if stage == "image_tower":  # the shapes' only one is of convolutions from the start
            continue
        steps = list(train_stage(stage, Shapes(), tmp_path, "smoke", torch.device("cpu")))
        assert stage == "tokenizer" or (len(steps) == 4 and steps[-1].total == 4)
    made = DALLE2.load(tmp_path).generate(["a large red circle"])
    assert made.image128.shape == (1, 3, 128, 128)
    assert list((tmp_path / "decoder" / "samples").glob("*.png"))
