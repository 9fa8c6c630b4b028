"""Two processes train like one process. torchrun runs this file in each of the two processes."""

import json
import os
import shutil
import signal
import subprocess
import sys
from argparse import Namespace
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from minidalle2.clip import CLIP, CLIPConfig, clip_loss, contrast
from minidalle2.commands.cli import main
from minidalle2.commands.train import train_stages
from minidalle2.decoder import DecoderConfig
from minidalle2.prior import PriorConfig
from minidalle2.priors.autoregressive_prior import AutoregressivePriorConfig
from minidalle2.priors.regression_prior import RegressionPriorConfig
from minidalle2.scale import distributed
from minidalle2.scale import loop as scale_loop
from minidalle2.scale.accumulation import contrasted
from minidalle2.scale.distributed import (
    first_goes_ahead,
    is_first,
    number,
    own_rows,
    processes,
    synchronised,
    together,
)
from minidalle2.scale.loop import ONE_PASS, Execution
from minidalle2.storage.records import read_record
from minidalle2.tokenizer import END
from minidalle2.training import loop, stages
from minidalle2.training.jobs import rows_of
from minidalle2.training.lineage import needs
from minidalle2.training.run import TrainingError
from minidalle2.training.world import Sizes
from minidalle2.worlds.shapes.world import Shapes
from minidalle2.worlds.shards.world import Shards

ROOT = Path(__file__).parent.parent
CPU = torch.device("cpu")
TINY = Sizes(
    vocabulary=300,
    clip=CLIPConfig(embedding=12, width=16, heads=2, image_layers=1, text_layers=1),
    decoder=DecoderConfig(
        clip_embedding=12,
        widths=(8, 8, 16),
        blocks=(1, 1, 1),
        attention=(False, False, True),
        embedding=16,
        text_width=16,
        text_layers=1,
        text_heads=2,
    ),
    priors={
        "prior": PriorConfig(clip_embedding=12, width=16, layers=1, heads=2),
        "autoregressive_prior": AutoregressivePriorConfig(
            clip_embedding=12, components=12, buckets=16, width=16, layers=1, heads=2
        ),
        "regression_prior": RegressionPriorConfig(clip_embedding=12, width=16),
    },
)
CLIPS = Path("clip", "model.safetensors")
COMMAND = Namespace(
    stage="clip",
    out=None,
    world="shapes",
    start=None,
    profile="smoke",
    minutes=None,
    parts=1,
    recompute=False,
)
RESUMED = ("clip", "prior", "decoder")


def tiny(setattr=setattr) -> None:
    """Small networks, few captions, and float32, so that equal sums agree to seven digits."""
    for name, value in {"EMBEDDED": 1_000, "CAPTIONS": 200, "SHEETS": 1}.items():
        setattr(stages, name, value)
    for world in (Shapes, Shards):
        setattr(world, "sizes", TINY)
    for module in (loop, scale_loop, stages):
        setattr(module, "half_precision", lambda device: nullcontext())


def train(
    stage: str, folder: Path, stop_at: int | None = None, weights: Path | None = None
) -> list[float]:
    """→ the loss of each step, by the plain loop in one process, by scale/loop.py in several."""
    train_stage = stages.train_stage if processes() == 1 else scale_loop.train_stage
    steps = train_stage(stage, Shapes(), folder, "smoke", CPU, weights=weights)
    return losses_of(steps, stop_at)


def tune(folder: Path, weights: Path) -> list[float]:
    """→ the losses of a CLIP that starts from pretrained weights."""
    train("tokenizer", folder, weights=weights)
    return train("clip", folder, weights=weights)


def losses_of(steps, stop_at: int | None = None) -> list[float]:
    losses = []
    for step in steps:
        losses.append(step.loss)
        if step.step == stop_at:
            steps.close()
    return losses


def gradients(parts: int) -> dict[str, torch.Tensor]:
    """Of CLIP's loss, of eight pairs, three with equal captions far apart in the batch."""
    torch.manual_seed(0)
    clip, images = CLIP(TINY.clip), torch.randn(8, 3, 32, 32)
    tokens = torch.randint(4, 300, (8, 6))
    tokens[:, -1] = END
    tokens[5] = tokens[7] = tokens[0]
    loss = contrasted(stages.embed_pairs, contrast, parts) if parts else clip_loss
    batch = rows_of((images, tokens), own_rows(8)) if parts else (images, tokens)
    lossy = synchronised(clip, loss)
    lossy(batch, torch.Generator()).backward()
    return {name: parameter.grad for name, parameter in clip.named_parameters()}


def work(folder: Path) -> None:
    """What each of the two processes does. In the end, the first process alone has an error."""
    tiny()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distributed, "ASIDE", 0.0)
        try:
            work_together(folder)
        except (ValueError, SystemExit) as error:
            (folder / f"ended-{os.environ['RANK']}").write_text(repr(error))


def work_together(folder: Path) -> None:
    with together(lambda: CPU):
        every = {}
        for stage in stages.STAGES:
            every[stage] = train(stage, folder / "by_two")
            if stage == "clip":  # the later ones would start from what its steps were rounded to
                with first_goes_ahead():
                    if is_first():
                        shutil.copy(folder / "alone" / CLIPS, folder / "by_two" / CLIPS)
        for stage in RESUMED:
            train(stage, folder / "begun_by_two" / stage, stop_at=2)
            every[f"{stage}, resumed"] = train(stage, folder / "begun_by_one" / stage)
        every["clip, tuned"] = tune(folder / "tuned_by_two", folder / "alone")
        for parts in (1, 2):
            save_file(gradients(parts), folder / f"gradients-{parts}-{number()}.safetensors")
        for step in scale_loop.train_stage("decoder", Shapes(), folder / "by_two", "smoke", CPU):
            raise AssertionError(f"a finished training made step {step.step}")
        (folder / f"losses-{number()}.json").write_text(json.dumps(every))
        for resume in (False, True):  # without a tokenizer, then with a finished training
            train_stages(
                Namespace(**vars(COMMAND) | {"out": folder / "fresh", "resume": resume}), CPU
            )
        with first_goes_ahead():
            if is_first():
                raise ValueError("only the first process can say this")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """What one process did, and, resuming some of it, two."""
    folder = tmp_path_factory.mktemp("devices")
    with pytest.MonkeyPatch.context() as patch:
        tiny(patch.setattr)
        alone = {stage: train(stage, folder / "alone") for stage in stages.STAGES}
        alone["clip, tuned"] = tune(folder / "tuned_by_one", folder / "alone")
        (folder / "losses.json").write_text(json.dumps(alone))
        for stage in RESUMED:
            for begun in ("begun_by_one", "begun_by_two"):
                copy_needed(stage, folder / "alone", folder / begun / stage)
            train(stage, folder / "begun_by_one" / stage, stop_at=2)
    launch(2, __file__, str(folder))
    return folder


def copy_needed(stage: str, run: Path, other: Path) -> None:
    """Copies what the training of a stage needs to the folder of another run."""
    later = set(stages.STAGES) - set(needs()[stage])
    shutil.copytree(run, other, ignore=shutil.ignore_patterns(*later))


def launch(count: int, *command: str) -> subprocess.CompletedProcess:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    done = subprocess.run(
        [*torchrun, "--nproc-per-node", str(count), *command],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done


def losses(folder: Path, which: str = "losses") -> dict[str, list[float]]:
    return json.loads((folder / f"{which}.json").read_text())


@pytest.mark.parametrize("stage", [stage for stage in stages.STAGES if stage != "tokenizer"])
def test_two_processes_have_the_losses_of_one(folder, stage):
    alone, first = losses(folder)[stage], losses(folder, "losses-0")[stage]
    assert len(alone) == 4 and alone[0] != alone[-1]
    # Of the judge's loss, a mean over what is asked, halves weigh alike.
    close = {"judge": 0.05, "glide": 2e-3}.get(stage, 1e-5)  # glide starts from the decoders above
    assert first[0] == pytest.approx(alone[0], rel=close)
    # Muon takes its steps in bfloat16, which makes of seventh digits third ones.
    assert first == pytest.approx(alone, rel=max(close, 2e-3))
    assert losses(folder, "losses-1")[stage] == first


def test_two_processes_start_from_pretrained_weights(folder):
    alone, first, second = (losses(folder, f"losses{p}")["clip, tuned"] for p in ("", "-0", "-1"))
    assert first == pytest.approx(alone, rel=2e-3) and first == second
    assert abs(first[0] - losses(folder)["clip"][0]) > 0.01  # those of random weights
    one, two = (read_record("clip", folder / f"tuned_by_{n}") for n in ("one", "two"))
    assert one == two and one.started_from.weights == str(folder / "alone")


@pytest.mark.parametrize("stage", RESUMED)
def test_begun_by_one_goes_on_with_two(folder, stage):
    alone, resumed = losses(folder)[stage], losses(folder, "losses-0")[f"{stage}, resumed"]
    assert resumed == pytest.approx(alone[2:], rel=2e-3)
    log = (folder / "begun_by_one" / stage / stage / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in log] == [1, 4]


@pytest.mark.parametrize("stage", RESUMED)
def test_begun_by_two_goes_on_with_one(folder, stage, monkeypatch):
    tiny(monkeypatch.setattr)
    resumed = train(stage, folder / "begun_by_two" / stage)
    assert resumed == pytest.approx(losses(folder)[stage][2:], rel=2e-3)


@pytest.mark.parametrize("parts", [1, 2])
def test_gathered_features_have_the_gradient_of_one_process(folder, parts):
    expected = gradients(0)
    largest = max(gradient.abs().max().item() for gradient in expected.values())
    for process in (0, 1):
        found = load_file(folder / f"gradients-{parts}-{process}.safetensors")
        assert found.keys() == expected.keys()
        for name, gradient in expected.items():
            torch.testing.assert_close(found[name], gradient, atol=1e-6 * largest, rtol=0)


@pytest.mark.parametrize("stage", RESUMED)
def test_both_loops_train_alike(folder, stage, tmp_path, monkeypatch):
    """In one process and in one pass, the loops differ in nothing. Else they differ by rounding."""
    tiny(monkeypatch.setattr)
    found = {}
    for execution in (ONE_PASS, Execution(parts=2, recompute=True)):
        run = tmp_path / str(execution.parts)
        copy_needed(stage, folder / "alone", run)
        steps = scale_loop.train_stage(stage, Shapes(), run, "smoke", CPU, None, execution)
        found[execution.parts] = losses_of(steps)
    alone = losses(folder)[stage]
    assert found[1] == alone
    assert found[2][0] == pytest.approx(alone[0], rel=1e-5)
    assert found[2] == pytest.approx(alone, rel=2e-3)


def test_after_ctrl_c_no_process_leaves_before_the_state_is_saved(folder, tmp_path, monkeypatch):
    """Otherwise another process looks for the state too early, and says that there is none."""
    tiny(monkeypatch.setattr)
    copy_needed("clip", folder / "alone", tmp_path / "run")
    order = []
    monkeypatch.setattr(scale_loop, "save", lambda run: order.append("save"))
    monkeypatch.setattr(scale_loop, "any_process", lambda flag: order.append("wait") or True)
    with pytest.raises(KeyboardInterrupt):
        list(scale_loop.train_stage("clip", Shapes(), tmp_path / "run", "smoke", CPU))
    assert order == ["wait", "save", "wait"]


def test_the_first_process_alone_saves_and_draws(folder):
    by_one, by_two = (
        sorted(path.relative_to(folder / which) for path in (folder / which).rglob("*"))
        for which in ("alone", "by_two")
    )
    assert by_one == by_two


def test_train_clip_begins_with_a_tokenizer_that_one_process_makes(folder):
    """As `torchrun … -m minidalle2 train clip` in a fresh clone."""
    assert (folder / "fresh" / "tokenizer.json").is_file()
    log = (folder / "fresh" / "clip" / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in log] == [1, 4]


def test_the_first_error_is_reported_once(folder):
    """The other process waits for the first one, fails, and ends without a message."""
    ended = [(folder / f"ended-{process}").read_text() for process in (0, 1)]
    assert ended == ["ValueError('only the first process can say this')", "SystemExit(2)"]


@pytest.fixture
def torchrun(monkeypatch):
    """The variables of torchrun in the second of two processes."""
    values = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    for name, value in (values | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}).items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"RANK": None}, "these variables are not set: RANK"),
        ({"MASTER_ADDR": None, "MASTER_PORT": ""}, "not set: MASTER_ADDR, MASTER_PORT"),
        ({"RANK": "2"}, "RANK is 2; ranks count from 0"),
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE is 'two', which is no number"),
        ({"WORLD_SIZE": "0"}, "RANK is 1; ranks count from 0"),
        ({"MASTER_PORT": "http"}, "MASTER_PORT is 'http', which is no number"),
    ],
)
def test_variables_of_torchrun_that_are_missing_or_wrong(torchrun, monkeypatch, changes, sentence):
    for name, value in changes.items():
        monkeypatch.delenv(name) if value is None else monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=sentence) as caught, together(lambda: CPU):
        raise AssertionError
    assert "torchrun --nproc-per-node" in str(caught.value)


def test_without_torchrun_there_is_one_process(torchrun, monkeypatch):
    assert distributed.world_size() == 2
    for value in ("1", None):
        monkeypatch.delenv("WORLD_SIZE") if value is None else monkeypatch.setenv(
            "WORLD_SIZE", value
        )
        with together(lambda: CPU) as device:
            assert (device, processes()) == (CPU, 1)


@pytest.fixture
def store(monkeypatch):
    monkeypatch.setattr(distributed, "ASIDE", 0.0)
    previous = signal.getsignal(signal.SIGINT)
    yield torch.distributed.HashStore()
    signal.signal(signal.SIGINT, previous)


@pytest.mark.parametrize("error, code", [(ValueError("x"), 2), (KeyboardInterrupt(), 130)])
def test_one_process_reports_and_the_others_exit(store, error, code):
    """The same error in all processes, such as a bad option or Ctrl-C."""
    distributed.report_or_exit(error, store)  # returns: this process reports
    for _ in range(2):
        with pytest.raises(SystemExit) as left:
            distributed.report_or_exit(error, store)
        assert left.value.code == code and left.value.__suppress_context__


def test_a_process_that_was_killed_is_named_as_the_cause(store):
    gone = RuntimeError("[third_party/gloo/gloo/transport/tcp/pair.cc] Connection closed by peer")
    with pytest.raises(TrainingError, match="another process .* without a message"):
        distributed.report_or_exit(gone, store)


def test_a_store_that_is_gone_has_been_left_by_a_process_that_reports(store):
    class Gone:
        def add(self, name, number):
            raise RuntimeError("Connection reset by peer")

    assert not distributed.fails_first(Gone())


def test_only_the_first_process_reports_a_wrong_option(torchrun, monkeypatch, capsys):
    monkeypatch.setattr("minidalle2.commands.cli.ASIDE", 0.0)
    assert main(["train", "clip", "--profile", "huge"]) == 2
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("RANK", "0")
    assert main(["train", "clip", "--profile", "huge"]) == 2
    assert "huge" in capsys.readouterr().err


if __name__ == "__main__":
    work(Path(sys.argv[1]))
