"""docs/extend.md: all of its examples run, in the order of the page."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from minidalle2.commands.cli import main
from minidalle2.dalle2 import DALLE2, Result
from minidalle2.priors.kinds import PRIORS, kind_of
from minidalle2.training.stages import train_stage
from minidalle2.training.world import World
from minidalle2.worlds import catalogue

PAGE = Path(__file__).parents[1] / "docs" / "extend.md"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> tuple[dict, Path]:
    """What the blocks define, and the folder in which they ran."""
    folder, names = tmp_path_factory.mktemp("extend"), {"__name__": "extend"}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        blocks = BLOCK.findall(PAGE.read_text(encoding="utf-8"))
        assert len(blocks) == 6
        for block in blocks:
            exec(compile(block, str(PAGE), "exec"), names)
    return names, folder


def test_the_world_has_everything_of_the_protocol(page):
    names = {name for name in vars(World) if not name.startswith("_")} | set(World.__annotations__)
    assert not [name for name in names if not hasattr(page[0]["Stripes"](), name)]


def test_the_world_is_trained_and_drawn(page):
    names, folder = page
    (picture,) = (folder / "outputs" / "stripes").iterdir()
    assert Image.open(picture).size == (128, 128)
    assert picture.name == "0000_vertical_red_stripes.png"


def test_the_prior_is_used(page):
    names, folder = page
    model = names["with_gaussian"]
    assert type(model.prior) is names["GaussianPrior"]
    assert isinstance(names["made"], Result) and len(names["made"].image128) == 2
    other = DALLE2.load(folder / "runs" / "stripes").generate(names["made"].prompts)
    assert not torch.equal(other.image_embeddings, names["made"].image_embeddings)


def test_the_loss_was_used(page):
    assert page[0]["step"].step == 4 and 0 < page[0]["step"].loss < 100


def test_the_regression_prior_is_trained_and_drawn_with(page, monkeypatch, capsys):
    """First the message says how to train it."""
    names, folder = page
    monkeypatch.chdir(folder)
    draw = ["draw", "blue stripes", "--prior", "regression", "--weights", "runs/stripes"]
    assert main([*draw, "--size", "32"])
    said = capsys.readouterr().err
    assert "train regression_prior --world WORLD --out runs/stripes" in said.replace("\\", "/")
    stage, device = "regression_prior", torch.device("cpu")
    (*_, last) = train_stage(stage, names["Stripes"](), names["folder"], "smoke", device)
    assert last.step == 4
    assert not main([*draw, "--size", "32"])
    assert (folder / "outputs" / "0000_blue_stripes.png").is_file()


# What the page says beside its examples


class NoConfig:
    """The smallest prior that the protocol allows: the text embedding itself."""

    noise_size = 0

    def candidates(self, z_t, tokens, x_T, steps, guidance):
        return z_t[:, None].expand(-1, x_T.shape[1], -1)


def test_a_prior_needs_no_more_than_the_protocol(tiny_dalle2, few_steps, tmp_path):
    """Neither to draw nor in `check_fit`, which cannot compare what the prior does not say."""
    model = replace(tiny_dalle2, prior=NoConfig())
    model.check_fit(tmp_path)
    made = model.generate("a red circle", sampling=few_steps, stop_after="image_embeddings")
    assert torch.equal(made.image_embeddings[:, 0], made.text_embedding)


@pytest.mark.parametrize(
    "wrong",
    [lambda z: z[:, :, :3], lambda z: z[:, 0], lambda z: z * torch.nan],
    ids=["another width", "no candidates", "NaN"],
)
def test_a_prior_that_returns_something_else_is_one_sentence(tiny_dalle2, few_steps, wrong):
    class Wrong(NoConfig):
        def candidates(self, *given):
            return wrong(super().candidates(*given))

    with pytest.raises(ValueError, match=r"the prior Wrong must return \(1, 3, 12\) finite"):
        replace(tiny_dalle2, prior=Wrong()).generate("a", sampling=few_steps)


def test_a_kind_of_prior_is_a_name_or_an_object():
    assert kind_of("regression") is kind_of(PRIORS["regression"]) is PRIORS["regression"]


def test_a_world_can_be_given_a_name(monkeypatch):
    opened = object()
    shapes = replace(catalogue.definition("shapes"), open=lambda: opened)
    monkeypatch.setitem(catalogue.WORLDS, "mine", lambda: shapes)
    assert catalogue.open_world("mine") is opened and catalogue.label_of("mine") == "mine"
