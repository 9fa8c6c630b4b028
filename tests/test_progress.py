"""Progress bars: each one ends full, moves often enough, and is shown on a terminal only."""

import io
import sys
import threading
from dataclasses import replace

import pytest
import torch
from PIL import Image
from recorded_bars import Terminal
from tiny_model import save_tiny
from torch import nn

from minidalle2.commands import draw, results
from minidalle2.commands.cli import main
from minidalle2.commands.results import write_pictures
from minidalle2.evaluation import drawn, work
from minidalle2.manipulations.inversion import Walk, invert
from minidalle2.priors.analytic_prior import AnalyticPrior
from minidalle2.storage import progress
from minidalle2.storage.progress import Work, bar, doing, each, working


def hooks(*networks: nn.Module) -> int:
    return sum(len(part._forward_hooks) for network in networks for part in network.modules())


# The bar


@pytest.mark.parametrize(("stream", "shown"), [(Terminal, True), (io.StringIO, False)])
def test_a_bar_is_shown_on_a_terminal_only_and_disappears(stream, shown, monkeypatch):
    monkeypatch.setattr(sys, "stderr", stream())
    for _ in each([1, 2], "counting"):
        pass
    with doing("thinking"):
        pass
    said = sys.stderr.getvalue()
    assert ("counting:   0%|" in said and "thinking ..." in said) == shown
    assert said.replace("\r", "").strip() == "" or shown
    assert said.split("\r")[-1] == ""  # the last line is empty again


def test_a_slow_call_after_quick_ones_is_shown(monkeypatch):
    """tqdm alone would skip updates of a bar that once was fast."""
    monkeypatch.setattr(sys, "stderr", Terminal())
    with bar("counting", 1_000) as shown:
        clock, shown.start_t, shown.last_print_t = iter(range(1, 100)), 0, 0
        shown._time = lambda: next(clock)  # every look at the clock is a second later
        for _ in range(3):
            shown.update(100)
        shown.update(1)
        assert "counting:  30%|" in sys.stderr.getvalue().split("\r")[-1]
        assert shown.n == shown.last_print_n == 301


def test_the_clock_runs_while_a_step_takes_long(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setattr(progress, "EVERY", 0.001)
    drawn_again = threading.Event()
    with bar("counting", 2) as shown:
        monkeypatch.setattr(shown, "display", lambda *_, **__: drawn_again.set())
        assert drawn_again.wait(60)
    drawn_again.clear()
    assert not drawn_again.wait(0.05)  # the clock has stopped


def test_only_the_first_process_shows_bars(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    for rank in ("1", "0"):
        assert sys.stderr.getvalue() == ""
        monkeypatch.setenv("RANK", rank)
        with doing("thinking"):
            pass
    assert "thinking ..." in sys.stderr.getvalue()


def test_hooks_exist_only_inside():
    layer = nn.Linear(2, 2)
    with pytest.raises(KeyError), working("w", [Work(layer, 1, 1, 1)]):
        assert hooks(layer) == 1
        raise KeyError
    assert hooks(layer) == 0


def test_counting_changes_no_result():
    layer, x = nn.Linear(2, 2), torch.ones(3, 2)
    expected = layer(x)
    with working("w", [Work(layer, 3, 1, 2)]) as shown:
        assert torch.equal(layer(x), expected)
    assert shown.total == 6


# Calls of a network


@pytest.mark.parametrize(
    ("guidance", "above", "expected"),
    [(1, 0, 4), (0, 0, 4), (2, 0, 8), (0.5, 0, 8), (2, 500, 6), (0.5, 500, 8), (2, 1000, 4)],
)
def test_calls_follow_the_rule_of_guidance(guidance, above, expected):
    assert work.calls([900, 600, 300, 0], guidance, above) == expected


def test_a_prior_of_an_unknown_kind_is_not_counted():
    assert work.prior_work(object(), 3, 10, 1.5) == []


# The commands


@pytest.fixture
def weights(tiny_dalle2, few_steps, tmp_path_factory):
    quick = replace(tiny_dalle2, sampling=replace(few_steps, decoder_guided_above=0.5))
    return save_tiny(quick, tmp_path_factory.mktemp("weights"))


@pytest.fixture
def files(tmp_path):
    """Two pictures and a mask."""
    Image.new("RGB", (40, 40), "red").save(tmp_path / "red.png")
    Image.linear_gradient("L").save(tmp_path / "grey.png")
    mask = Image.new("L", (40, 40), 0)
    mask.paste(255, (10, 10, 30, 30))
    mask.save(tmp_path / "mask.png")
    return tmp_path


CAPTIONS = "--from,a red circle,--to,a blue square"
COMMANDS = {
    "draw,a red circle,-n,3": ["drawing 3 pictures"],
    "draw,a red circle,-n,3,--size,32,--guidance,0": ["drawing 3 pictures"],
    "draw,a red circle,-n,3,--size,64,--guidance,1": ["drawing 3 pictures"],
    "vary,red.png,grey.png,-n,2": ["inverting 2 pictures", "drawing 4 pictures"],
    "vary,red.png,-n,1,--size,32,--guidance,2": ["inverting 1 picture", "drawing 1 picture"],
    f"edit,red.png,{CAPTIONS},--frames,3": ["inverting 1 picture", "drawing 3 pictures"],
    "blend,red.png,grey.png,--frames,3": ["inverting 2 pictures", "drawing 3 pictures"],
    "blend,--text,a red circle,--text,a blue square,--frames,3": [
        "imagining the texts",
        "drawing 3 pictures",
    ],
    "blend,red.png,--text,a red circle,--frames,2": [
        "inverting 1 picture",
        "imagining the texts",
        "drawing 2 pictures",
    ],
    "inpaint,red.png,--mask,mask.png,-n,3": ["drawing 3 pictures"],
    "inpaint,red.png,--mask,mask.png,--to,a red circle,-n,3": ["drawing 3 pictures"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_the_bars_of_drawing_commands_end_full(command, weights, files, bars, monkeypatch):
    monkeypatch.chdir(files)
    for module in ("vary", "edit", "blend", "inpaint", "manipulate"):
        monkeypatch.setattr(f"minidalle2.commands.{module}.CHUNK", 2)  # the last batch is smaller
    monkeypatch.setattr(results, "CHUNK", 2)
    steps = [] if command.startswith("draw") else ["--steps", "3"]
    options = ["--weights", str(weights), "--device", "cpu", "--out", "out", *steps]
    assert main([*command.split(","), *options]) == 0
    assert bars.full() == COMMANDS[command]


@pytest.mark.parametrize("kind", ["diffusion", "autoregressive", "analytic"])
def test_every_prior_moves_the_bar(kind, tiny_dalle2, autoregressive_prior, few_steps, bars):
    clip, diffusion = tiny_dalle2.clip, tiny_dalle2.prior
    tokens = tiny_dalle2.tokenizer(["a red circle", "a blue square"])
    z = clip.encode_text(tokens)
    priors = {
        "diffusion": diffusion,
        "autoregressive": autoregressive_prior,
        "analytic": AnalyticPrior(diffusion, z, z, tokens, steps=4),
    }
    model = replace(tiny_dalle2, prior=priors[kind])
    for guidance in (1.0, 1.5):
        sampling = replace(few_steps, prior_guidance=guidance)
        list(drawn.draw_prompts(model, ["a red circle"] * 3, sampling, None, "image_embeddings"))
    assert bars.full() == ["drawing 3 pictures"] * 2


def test_the_bar_of_draw_moves_inside_a_batch(tiny_dalle2, few_steps, bars, tmp_path):
    """6 calls of the prior, 6 of the decoder's 5 blocks, 1 of CLIP, 2 of each upsampler."""
    jobs = draw.plan(["a red circle"], 3, 0)
    pictures = draw.pictures(tiny_dalle2, jobs, few_steps, {"size": 128})
    with working("drawing", work.drawing_work(tiny_dalle2, 3, few_steps)):
        write_pictures(tmp_path, pictures)
    assert bars.moves["drawing"] == 6 + 6 * 5 + 1 + 2 + 2


def test_drawings_are_the_same_with_a_bar(tiny_dalle2, few_steps, bars):
    prompts = ["a red circle", "a blue square"]
    expected = tiny_dalle2.generate(prompts, [0, 1], few_steps).image128
    (made,) = drawn.draw_prompts(tiny_dalle2, prompts, few_steps)
    assert torch.equal(made.image128, expected)


def test_refined_inversions_end_full(tiny_dalle2, bars):
    walk, images = Walk(3, guidance=2.0, refinements=2, guided_above=0.4), torch.zeros(2, 3, 32, 32)
    clip, decoder = tiny_dalle2.clip, tiny_dalle2.decoder
    with working("inverting", work.inversion_work(clip, decoder, walk, 2)):
        invert(clip, decoder, images, walk)
    assert bars.full() == ["inverting"]


def test_a_drawing_that_is_given_up_leaves_no_hook(tiny_dalle2, few_steps, bars):
    batches = drawn.draw_prompts(tiny_dalle2, ["a red circle"] * 2, few_steps)
    next(batches)
    networks = tiny_dalle2.clip, tiny_dalle2.prior, tiny_dalle2.decoder
    networks += tiny_dalle2.upsampler64, tiny_dalle2.upsampler128
    assert hooks(*networks) == 1 + 1 + 5 + 2
    batches.close()
    assert hooks(*networks) == 0
