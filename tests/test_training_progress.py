"""Progress bars in a training: what they show, and that their clocks run during long activities."""

import shutil
import sys
import time

import torch
from recorded_bars import Terminal
from tiny_model import save_tiny
from torch import nn

from minidalle2.commands import train
from minidalle2.commands.cli import main
from minidalle2.storage import progress
from minidalle2.tokenizer import Tokenizer
from minidalle2.training import embedded, stages
from minidalle2.training.run import Step
from minidalle2.training.world import Sizes
from minidalle2.worlds.shapes.world import Shapes

CPU = torch.device("cpu")


def on_terminal(monkeypatch) -> Terminal:
    """A terminal for bars whose clocks tick often. pytest would replace one of a fixture."""
    monkeypatch.setattr(progress, "EVERY", 0.01)
    monkeypatch.setattr(sys, "stderr", Terminal())
    return sys.stderr


def test_the_clock_runs_during_a_long_step(monkeypatch, tmp_path):
    terminal = on_terminal(monkeypatch)

    def slow(*_):
        for step in (1, 2):
            time.sleep(0.2)
            yield Step(step, 2, 1.0, 1.0, 1e-3, 0.1, nn.Identity())

    monkeypatch.setattr(train, "steps_of", slow)
    train.train("decoder", Shapes(), tmp_path, "smoke", CPU, None, train.ONE_PASS)
    before_the_first_step = terminal.getvalue().split("decoder:  50%")[0]
    assert before_the_first_step.count("decoder: 0step [00:00") > 3


def test_training_a_prior_names_what_it_does_before_the_first_step(
    tiny_dalle2, configs, tmp_path, monkeypatch
):
    terminal = on_terminal(monkeypatch)
    monkeypatch.setattr(stages, "EMBEDDED", 60)
    monkeypatch.setattr(embedded, "AT_ONCE", 20)
    monkeypatch.setattr(Shapes, "sizes", Sizes(priors={"prior": configs.prior}))
    monkeypatch.setattr(Shapes, "enough", 60)
    run = save_tiny(tiny_dalle2, tmp_path / "run")
    shutil.rmtree(run / "prior")
    command = ["train", "prior", "--profile", "smoke", "--out", str(run), "--device", "cpu"]
    assert main(command) == 0
    said = terminal.getvalue()
    activities = ("opening shapes", "embedding pictures", "measuring embeddings", "prior: ")
    places = [said.rindex(activity) for activity in activities]
    assert places == sorted(places)


def test_a_tokenizer_shows_how_many_tokens_it_has_learned(monkeypatch):
    terminal = on_terminal(monkeypatch)
    monkeypatch.setattr(stages, "CAPTIONS", 50)
    monkeypatch.setattr(Shapes, "sizes", Sizes(300))
    tokenizer = stages.train_tokenizer(Shapes())
    said = terminal.getvalue()
    assert "reading captions ... 00:00" in said
    assert "learning tokens:   0%" in said
    captions = Shapes().training_captions(50, torch.Generator().manual_seed(0))
    assert tokenizer.merges == Tokenizer.train(captions, 300).merges  # a bar changes nothing
