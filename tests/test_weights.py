"""The committed weights do what the README says of them, on fewer prompts than it took there."""

import json
import platform
import time
from pathlib import Path

import pytest
import torch

from minidalle2.dalle2 import DALLE2, WEIGHTS, Sampling
from minidalle2.evaluation.similarity import draw as draw_candidates
from minidalle2.evaluation.similarity import embedded, similarity_row
from minidalle2.priors.regression_prior import RegressionPrior, RegressionPriorConfig
from minidalle2.storage.checkpoints import load_model
from minidalle2.training.glide import load_glide
from minidalle2.worlds.catalogue import load_judge, open_world
from minidalle2.worlds.shapes.drawing import draw
from minidalle2.worlds.shapes.evaluation import (
    binding,
    guidance_sweep,
    manipulations,
    pca_reconstruction,
    three_rows,
)
from minidalle2.worlds.shapes.evaluation.drawn import ONE_DRAWING
from minidalle2.worlds.shapes.evaluation.prompts import follows, prompt_row
from minidalle2.worlds.shapes.evaluation.report import _pictures_read
from minidalle2.worlds.shapes.evaluation.retrieval import recall_at_1
from minidalle2.worlds.shapes.judge import HEADS, answers_of, read
from minidalle2.worlds.shapes.scenes import sample_scenes

SHAPES = WEIGHTS / "shapes"
DOCS = Path(__file__).parent.parent / "docs"
RESULTS = DOCS / "results.json"
CPU = torch.device("cpu")
PROMPTS = 12  # of each row with eight drawings of a prompt
RIGHT = 42  # of these 48 pictures, measured with the present weights
FLIPPED = 2  # pictures that may become wrong because another processor rounds in another way
ROWS = ("one object", "two objects", "held-out combinations", "held-out pairs, two objects")


@pytest.fixture(scope="module")
def dalle2():
    return DALLE2.load(SHAPES)


@pytest.fixture(scope="module")
def judge():
    return load_judge("shapes", SHAPES, CPU)


def test_size():
    """Of the weights that draw and judge, and with the priors and GLIDE to compare with."""
    others = {"autoregressive_prior", "regression_prior", "glide"}
    files = [path for path in SHAPES.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files if path.parent.name not in others) <= 15e6
    assert sum(path.stat().st_size for path in files) <= 20e6


@pytest.mark.parametrize("split", ["seen", "pairs", "combinations"])
def test_the_judge_reads_real_pictures(judge, split):
    assert _pictures_read(judge, CPU, split, seed=5, n=1_000) >= 995


def test_the_judge_says_no_where_the_picture_is_another(judge):
    """A picture follows its own scene's prompt and not its neighbour's."""
    scenes = sample_scenes(200, "seen", torch.Generator().manual_seed(1))
    answers = read(judge, draw(scenes, 128))
    assert set(answers) == set(HEADS) == set(answers_of(scenes))
    assert follows(scenes, answers).all()
    others = {name: answer.roll(1, 0) for name, answer in answers.items()}
    assert follows(scenes, others).float().mean() < 0.05


@pytest.mark.parametrize(("split", "reach"), [("seen", 0.95), ("pairs", 0.85)])
def test_clip_retrieves(dalle2, split, reach):
    assert min(recall_at_1(dalle2.clip, dalle2.tokenizer, split, 512, seed=3)) >= reach


def reported() -> dict[str, dict]:
    rows = json.loads(RESULTS.read_text())["rows"]
    return {row["name"]: row for row in rows if row["what"] == "prompts"}


def least(share: float, n: int) -> float:
    """Three standard errors of n answers below what the README says."""
    return share - 3 * (max(share * (1 - share), 0.02) / n) ** 0.5


@pytest.fixture(scope="module")
def right(dalle2, judge):
    """row → share of pictures that follow their prompt, on other prompts than the README's."""
    return {name: prompt_row(dalle2, judge, name, PROMPTS, seed=77)["accuracy"] for name in ROWS}


@pytest.mark.parametrize("name", ROWS)
def test_pictures_follow_their_prompts(right, name):
    assert right[name] >= least(reported()[name]["accuracy"], PROMPTS)


def test_the_same_pictures_are_right_as_before(right):
    """All rows together. The prompts and seeds are the same in each run."""
    assert round(PROMPTS * sum(right.values())) >= RIGHT - FLIPPED


def test_single_drawings_follow_their_prompts(dalle2, judge):
    """Without CLIP's selection. A drawing of each prompt is cheap, so there are more prompts."""
    known = reported()["two objects, one drawing each"]["accuracy"]
    row = prompt_row(dalle2, judge, "two objects", 96, 77, ONE_DRAWING)
    assert row["accuracy"] >= least(known, 96)


@pytest.fixture(scope="module")
def rows(dalle2, judge):
    return three_rows.three_rows(dalle2, judge, 24, seed=0)


def test_the_prior_draws_better_than_the_text_embedding(rows):
    """The paper's three rows, whose gate needs a gap beyond its interval."""
    assert three_rows.prior_wins(rows), rows
    assert rows[0]["accuracy"] < rows[1]["accuracy"]  # the caption alone is the least


@pytest.fixture(scope="module")
def written():
    return DALLE2.load(SHAPES, prior="autoregressive")


def test_the_autoregressive_prior_draws_as_well(rows, written, judge):
    """Within 5 points of the diffusion prior, and three standard errors of so few prompts; both
    draw the same ones."""
    (diffusion,) = (row for row in rows if row["name"] == three_rows.PRIOR)
    n = diffusion["n"]
    autoregressive = prompt_row(written, judge, "two objects", n, 0, ONE_DRAWING)
    shares = [row["accuracy"] for row in (diffusion, autoregressive)]
    spread = sum(max(share * (1 - share), 0.02) / n for share in shares) ** 0.5
    assert shares[1] >= shares[0] - 0.05 - 3 * spread


def test_as_pictures_are_drawn_it_is_within_five_points():
    """The README's figures, of 200 prompts and eight drawings each."""
    rows = json.loads((DOCS / "priors.json").read_text())["accuracy"]
    share = {row["prior"]: row["accuracy"] for row in rows if row["drawings"] == 8}
    assert share["autoregressive"] >= share["diffusion"] - 0.05


@pytest.fixture(scope="module")
def twin(dalle2):
    return load_glide(SHAPES, dalle2)


def test_the_gap_in_binding(dalle2, judge, twin):
    """The README's is measured well enough, and some prompts show no other story."""
    rows = json.loads((DOCS / "binding.json").read_text())["rows"]
    assert binding.is_measured(rows)
    share = {row["name"]: row["accuracy"] for row in rows if "accuracy" in row}
    for label, model in {binding.UNCLIP: dalle2, binding.GLIDE: twin}.items():
        for row in binding.drawn_rows(model, judge, label, 32, seed=1):
            known = share[row["name"]]
            assert abs(row["accuracy"] - known) <= 3 * (max(known * (1 - known), 0.02) / 32) ** 0.5


def test_guidance_costs_the_twin_its_diversity(dalle2, judge, twin):
    scales = (1.0, 4.0)
    rows = list(guidance_sweep.guidance_rows(dalle2, judge, twin, 32, 1, scales=scales))
    assert guidance_sweep.unclip_stays_diverse(rows, scales)
    assert guidance_sweep.diversity_left(rows, "GLIDE", scales) < 0.8


def test_the_autoregressive_prior_writes_what_was_asked_for(written):
    """Its components hold z_i, its draws fit their own caption and no other, and they differ."""
    models = open_world("shapes"), written.clip, written.tokenizer
    pairs = embedded(*models, 32, 5, "seen")
    prior = written.prior
    assert (prior.decode(prior.encode(pairs.z_i)) * pairs.z_i).sum(-1).min() > 0.98
    row = similarity_row("", draw_candidates(prior, pairs, 4, 1.0)[0], pairs)
    assert row["to true"] > 0.8 and row["to unrelated"] < 0.4 and row["diversity"] < 0.99


def test_the_regression_prior_answers_the_mean(dalle2):
    """As near to the true z_i as a prior can be, nearer to the text than real pictures are."""
    pairs = embedded(open_world("shapes"), dalle2.clip, dalle2.tokenizer, 64, 5, "seen")
    mlp = load_model(
        SHAPES / "regression_prior", "regression_prior", RegressionPriorConfig, RegressionPrior
    )
    row = similarity_row("", draw_candidates(mlp, pairs, 2, 1.0)[0], pairs)
    assert row["to true"] > 0.88 and row["diversity"] > 0.9999
    assert row["to text"] > (pairs.z_i * pairs.z_t).sum(-1).mean()


def test_attributes_appear_with_the_components_of_z_i(dalle2, judge, monkeypatch):
    monkeypatch.setattr(pca_reconstruction, "FITTED", 1_000)
    monkeypatch.setattr(pca_reconstruction, "DIMENSIONS", (1, 16, 32))
    rows = list(pca_reconstruction.pca_rows(dalle2, judge, 16, seed=0))
    assert pca_reconstruction.rises(rows), rows
    order = dict(pca_reconstruction.order_of(rows))
    assert order["place"] < order["shape"]  # where, before what


@pytest.mark.parametrize("attribute", ["size", "shape"])  # those that flip least readily
def test_a_text_diff_changes_one_attribute(dalle2, judge, attribute):
    flipped, kept = manipulations.text_diff_rows(dalle2, judge, attribute, 15, seed=0)
    assert flipped["accuracy"] >= 0.8 <= kept["accuracy"], (flipped, kept)


def test_variations_keep_attributes_and_change_pixels(dalle2, judge, monkeypatch):
    """In most pictures: flat shapes leave little to change, here in 11 of 15."""
    monkeypatch.setattr(manipulations, "ETAS", (0.5,))
    kept, _, different = manipulations.variation_rows(dalle2, judge, 15, seed=0)
    assert kept["accuracy"] >= 0.9 and different["accuracy"] > 0.5, (kept, different)


def test_interpolation_leads_from_one_scene_to_the_other(dalle2, judge):
    """Its ends reconstruct; on average the first scene fades at every step, the second comes."""
    ends, curves = manipulations.interpolation_rows(dalle2, judge, 10, seed=0)
    assert ends["accuracy"] >= 0.9 and curves["accuracy"] == 1, (ends, curves)


def test_same_seed_same_picture_in_any_batch(dalle2):
    prompts = ["a large red circle", "a small blue star", "a sign that says ring"]
    together = dalle2.generate(prompts, [3, 4, 5]).image128
    again = dalle2.generate(prompts, [3, 4, 5]).image128
    alone = dalle2.generate(prompts[1:2], [4]).image128
    assert torch.equal(together, again)
    assert (together[1] - alone[0]).abs().max() < 0.05
    other = dalle2.generate(prompts[1:2], [9]).image128
    assert (other - alone).abs().max() > 0.2


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other systems decide themselves")
def test_a_second_drawing_asks_the_system_for_no_memory(dalle2):
    """Without `keep_freed_memory` each fetches hundreds of thousands of pages anew."""
    import resource

    def pages_fetched() -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        dalle2.generate(["a red circle"])
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    pages_fetched()
    assert pages_fetched() < 5_000


def test_four_pictures_take_seconds(dalle2):
    """The README's figure is for a quiet machine; three times that is a fault on any."""
    dalle2.generate(["a red circle"], sampling=Sampling(prior_steps=2, decoder_steps=2))
    started = time.perf_counter()
    dalle2.generate(["a small red circle above a large blue square"] * 4)
    assert time.perf_counter() - started < 12
