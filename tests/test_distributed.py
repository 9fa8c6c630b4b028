"""Two processes train as one does; run by torchrun, this file is what each of the two does."""

import json
import shutil
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from minidalle2.autoregressive_prior import AutoregressivePriorConfig
from minidalle2.clip import CLIP, CLIPConfig, clip_loss
from minidalle2.decoder import DecoderConfig
from minidalle2.prior import PriorConfig
from minidalle2.regression_prior import RegressionPriorConfig
from minidalle2.tokenizer import END
from minidalle2.training import loop, stages
from minidalle2.training.accumulation import clip_loss_of_all
from minidalle2.training.distributed import (
    first_goes_ahead, is_first, number, share, synchronised, together,
)  # fmt: skip
from minidalle2.training.sizes import Sizes
from minidalle2.worlds.shapes.world import Shapes

ROOT = Path(__file__).parent.parent
CPU = torch.device("cpu")
TINY = Sizes(
    vocabulary=300,
    clip=CLIPConfig(embedding=12, width=16, heads=2, image_layers=1, text_layers=1),
    prior=PriorConfig(clip_embedding=12, width=16, layers=1, heads=2),
    decoder=DecoderConfig(
        clip_embedding=12, widths=(8, 8, 16), blocks=(1, 1, 1), attention=(False, False, True),
        embedding=16, text_width=16, text_layers=1, text_heads=2,
    ),
    autoregressive_prior=AutoregressivePriorConfig(
        clip_embedding=12, buckets=16, width=16, layers=1, heads=2
    ),
    regression_prior=RegressionPriorConfig(clip_embedding=12, width=16),
)  # fmt: skip
CLIPS = Path("clip", "model.safetensors")
RESUMED = ("clip", "prior", "decoder")


def tiny(setattr=setattr) -> None:
    """Small networks, few captions, and float32, in which alike is alike to seven digits."""
    for name, value in {"EMBEDDED": 1_000, "CAPTIONS": 200, "SHEETS": 1}.items():
        setattr(stages, name, value)
    setattr(stages, "sizes_of", lambda world: TINY)
    for module in (loop, stages):
        setattr(module, "half_precision", lambda device: nullcontext())


def train(stage: str, folder: Path, stop_at: int | None = None) -> list[float]:
    """→ the loss of each step."""
    losses = []
    for step in stages.train_stage(stage, Shapes(), folder, "smoke", CPU):
        losses.append(step.loss)
        if step.step == stop_at:
            break
    return losses


def gradients(parts: int) -> dict[str, torch.Tensor]:
    """Of CLIP's loss, of eight pairs, three with equal captions far apart in the batch."""
    torch.manual_seed(0)
    clip, images = CLIP(TINY.clip), torch.randn(8, 3, 32, 32)
    tokens = torch.randint(4, 300, (8, 6))
    tokens[:, -1] = END
    tokens[5] = tokens[7] = tokens[0]
    loss = clip_loss if parts == 0 else clip_loss_of_all(parts)
    batch = (images, tokens) if parts == 0 else share((images, tokens))
    lossy = synchronised(clip, loss)
    lossy(batch, torch.Generator()).backward()
    return {name: parameter.grad for name, parameter in clip.named_parameters()}


def work(folder: Path) -> None:
    """What each of the two processes does."""
    tiny()
    with together(CPU):
        every = {}
        for stage in stages.STAGES:
            every[stage] = train(stage, folder / "by_two")
            if stage == "clip":  # the later ones would start from what its steps were rounded to
                with first_goes_ahead():
                    if is_first():
                        shutil.copy(folder / "alone" / CLIPS, folder / "by_two" / CLIPS)
        for stage in RESUMED:
            train(stage, folder / "begun_by_two", stop_at=2)
        every |= {f"{stage}, resumed": train(stage, folder / "begun_by_one") for stage in RESUMED}
        for parts in (1, 2):
            save_file(gradients(parts), folder / f"gradients-{parts}-{number()}.safetensors")
        for step in stages.train_stage("decoder", Shapes(), folder / "by_two", "smoke", CPU):
            raise AssertionError(f"a finished training made step {step.step}")
        (folder / f"losses-{number()}.json").write_text(json.dumps(every))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """What one process did, and, resuming some of it, two."""
    folder = tmp_path_factory.mktemp("devices")
    with pytest.MonkeyPatch.context() as patch:
        tiny(patch.setattr)
        alone = {stage: train(stage, folder / "alone") for stage in stages.STAGES}
        (folder / "losses.json").write_text(json.dumps(alone))
        for begun in ("begun_by_one", "begun_by_two"):
            (folder / begun / "clip").mkdir(parents=True)
            for needed in ("tokenizer.json", "clip/config.json", "clip/model.safetensors"):
                (folder / begun / needed).write_bytes((folder / "alone" / needed).read_bytes())
        for stage in RESUMED:
            train(stage, folder / "begun_by_one", stop_at=2)
    launch(2, __file__, str(folder))
    return folder


def launch(count: int, *command: str) -> subprocess.CompletedProcess:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    done = subprocess.run(
        [*torchrun, "--nproc-per-node", str(count), *command],
        cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
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


@pytest.mark.parametrize("stage", RESUMED)
def test_begun_by_one_goes_on_with_two(folder, stage):
    alone, resumed = losses(folder)[stage], losses(folder, "losses-0")[f"{stage}, resumed"]
    assert resumed == pytest.approx(alone[2:], rel=2e-3)
    log = (folder / "begun_by_one" / stage / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in log] == [1, 4]


@pytest.mark.parametrize("stage", RESUMED)
def test_begun_by_two_goes_on_with_one(folder, stage, monkeypatch):
    tiny(monkeypatch.setattr)
    resumed = train(stage, folder / "begun_by_two")
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


def test_the_first_process_alone_saves_and_draws(folder):
    by_one, by_two = (
        sorted(path.relative_to(folder / which) for path in (folder / which).rglob("*"))
        for which in ("alone", "by_two")
    )
    assert by_one == by_two


if __name__ == "__main__":
    work(Path(sys.argv[1]))
