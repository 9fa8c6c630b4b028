"""The table of CLIP's variants: all train, from the same start; rows survive; the rank is right."""

import itertools
import json
import math

import pytest
import torch
from torch import nn

from minidalle2.clip import CLIP, CLIPConfig
from minidalle2.commands import compare_clip_variants as clip_variants
from minidalle2.commands.compare_clip_variants import (
    VARIANTS,
    Bench,
    compare,
    kept,
    main,
    planned,
    train,
)
from minidalle2.dalle2 import WEIGHTS
from minidalle2.evaluation.rank import components_needed, effective_rank
from minidalle2.storage.checkpoints import load_tokenizer, save_tokenizer
from minidalle2.training.recipe import Recipe

CPU = torch.device("cpu")
TINY = CLIPConfig(patch_size=8, embedding=12, width=16, heads=2, image_layers=1, text_layers=1)
NAMES = ("red circle", "blue square", "green triangle", "star")
SLOW = {"infoloob": 180, "sharpness-aware": 180}  # steps until eight pairs are learned, not 60
BENCH = Bench(Recipe(steps=3, batch_size=8, warmup_steps=1), TINY, pairs=16, embedded=32)


@pytest.fixture
def folder(tmp_path):
    """With the tokenizer of the shapes, so that none need be trained."""
    save_tokenizer(
        load_tokenizer(WEIGHTS / "shapes" / "tokenizer.json"), tmp_path / "tokenizer.json"
    )
    return tmp_path


# The rank


def with_values(values: list[float], n: int = 40) -> torch.Tensor:
    """(n, 6) centred rows with these singular values."""
    left, _ = torch.linalg.qr(
        torch.cat((torch.ones(n, 1), torch.randn(n, len(values))), 1).double()
    )
    right, _ = torch.linalg.qr(torch.randn(6, 6).double())
    return left[:, 1:] @ torch.tensor(values, dtype=torch.float64).diag() @ right[: len(values)]


def test_effective_rank_is_e_to_the_entropy():
    assert effective_rank(with_values([2.0] * 4)) == pytest.approx(4)
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert effective_rank(with_values([3.0, 1.0])) == pytest.approx(math.exp(entropy))
    assert effective_rank(with_values([5.0])) == pytest.approx(1)


def test_effective_rank_minds_neither_length_nor_place():
    z = with_values([3.0, 2.0, 1.0])
    assert effective_rank(7 * z + torch.randn(6).double()) == pytest.approx(effective_rank(z))


def test_collapsed_embeddings_have_no_rank():
    """Rounding is no direction: float32 rows that differ in their last bits are equal."""
    row = nn.functional.normalize(torch.randn(12), dim=0)
    z = row + 6e-8 * torch.randn(500, 12)
    assert (z != z[0]).any() and effective_rank(z) == 0 and components_needed(z) == 0
    assert effective_rank(z + 1e-2 * torch.randn(500, 12)) > 10


@pytest.mark.parametrize(("share", "expected"), [(0.5, 1), (0.9, 1), (0.91, 2), (0.99, 2), (1, 3)])
def test_components_needed(share, expected):
    """Variances 90, 9 and 1 of 100."""
    z = with_values([90**0.5, 3.0, 1.0])
    assert components_needed(z, share - 1e-9) == expected


# The table


def test_every_variant_trains_and_keeps_a_clip(folder, monkeypatch, bars):
    """The probe is another file's test, and slow; here it is asked nothing."""
    monkeypatch.setattr(clip_variants, "scene_accuracy", lambda clip, scenes, steps: 0.25)
    rows = list(compare(folder, BENCH, CPU, list(VARIANTS)))
    assert [row["variant"] for row in rows] == list(VARIANTS)
    for row in rows:
        assert row["steps"] == 3 and 0 <= row["image_to_text"] <= 1 and row["scene_read"] == 0.25
        assert 1 <= row["rank"] <= 12 and 1 <= row["components"] <= 12
        line = clip_variants.table_line(row)
        assert "25.0% (23.7% to 26.4%)" in line and len(line) == len(clip_variants.HEADER)
        lines = (folder / row["variant"] / "log.jsonl").read_text().splitlines()
        assert all(math.isfinite(json.loads(line)["loss"]) for line in lines)
    assert {f"training {name}" for name in VARIANTS} < set(bars.full())
    assert list(compare(folder, BENCH, CPU, ["filip"])) == [rows[1]]  # measured, not trained again


def test_all_begin_with_the_same_weights(folder, monkeypatch):
    began = {}

    def no_training(model, data, loss, recipe, where, stage, core):
        began[where.name] = {k: v.clone() for k, v in kept(model).state_dict().items()}
        assert isinstance(core(model), CLIP)
        return []

    monkeypatch.setattr(clip_variants, "fit", no_training)
    size = load_tokenizer(folder / "tokenizer.json").vocab_size
    for name in VARIANTS:
        train(name, folder, BENCH, CPU, size)
    for name, weights in began.items():
        assert all(torch.equal(tensor, began["clip"][k]) for k, tensor in weights.items()), name


def test_minutes_are_of_processor_time_and_survive_an_interruption(tmp_path, monkeypatch):
    """Half a second a step, after two slow first ones; then what the log says was planned."""
    clock = itertools.chain((90.0, 180.0), itertools.count(180.5, 0.5))
    monkeypatch.setattr(clip_variants.time, "process_time", lambda: next(clock))
    recipe = Recipe(steps=1_000_000, batch_size=8, minutes=1.0)

    def steps(recipe, where):
        assert where != tmp_path and recipe.minutes is None  # a trial leaves nothing behind
        return iter(range(recipe.steps))

    plan = planned(recipe, tmp_path, steps)
    assert (plan.steps, plan.minutes) == (120, None)
    (tmp_path / "log.jsonl").write_text('{"total": 77}\n')
    assert planned(recipe, tmp_path, steps).steps == 77
    assert planned(plan, tmp_path, steps) == plan


@pytest.mark.parametrize("name", VARIANTS)
def test_same_generator_same_loss_and_inputs_stay(configs, tokenizer, name):
    """e-10, and both towers learn from every variant."""
    torch.manual_seed(1)
    model = VARIANTS[name].wrapped(CLIP(configs.clip))
    texts = ["a red circle", "a small blue square", "a large green star above a red square"]
    images, tokens = torch.rand(3, 3, 32, 32) * 2 - 1, tokenizer(texts)
    copies = images.clone(), tokens.clone()
    loss, again = (
        VARIANTS[name].loss(model, (images, tokens), torch.Generator().manual_seed(5))
        for _ in range(2)
    )
    assert loss.shape == () and loss.isfinite() and loss.item() == again.item()
    assert torch.equal(images, copies[0]) and torch.equal(tokens, copies[1])
    loss.backward()
    for tower in (kept(model).image_tower, kept(model).text_tower):
        assert tower.projection.weight.grad.abs().max() > 1e-6


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_brings_pairs_together(configs, tokenizer, name):
    """Eight plain colours, named: of the CLIP that is kept, most find their text, not one in
    eight."""
    torch.manual_seed(1)
    model = VARIANTS[name].wrapped(CLIP(configs.clip))
    texts = [f"a {size} {what}" for size in ("small", "large") for what in NAMES]
    colours = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 3)
    images, tokens = colours[:, :, None, None].expand(8, 3, 32, 32), tokenizer(texts)
    optimizer, generator = torch.optim.Adam(model.parameters(), 5e-3), torch.Generator()
    for _ in range(SLOW.get(name, 60)):
        optimizer.zero_grad()
        VARIANTS[name].loss(model, (images, tokens), generator).backward()
        optimizer.step()
    with torch.no_grad():
        found = kept(model)(images, tokens).argmax(1) == torch.arange(8)
    assert found.sum() >= 5  # chance is 1; InfoLOOB, which retrieves, may mix two up


# The command

ROW = {
    "steps": 3,
    "image_to_text": 0.5,
    "text_to_image": 0.5,
    "pairs": 16,
    "scene_read": 0.25,
    "scenes": 4000,
    "rank": 3.5,
    "components": 7,
}


def options(tmp_path, *more: str) -> list[str]:
    return [
        "--minutes",
        "2",
        "--json",
        str(tmp_path / "rows.json"),
        "--out",
        str(tmp_path / "runs"),
        "--device",
        "cpu",
        *more,
    ]


def test_rows_that_are_written_are_not_measured_again(tmp_path, monkeypatch, capsys):
    trained = []

    def pretend(folder, bench, device, names):
        assert bench.recipe.minutes == 2
        if names == ["simsiam"] and len(trained) == 2:
            raise KeyboardInterrupt
        trained.extend(names)
        return [{"variant": names[0]} | ROW]

    monkeypatch.setattr(clip_variants, "compare", pretend)
    which = ("--variants", "clip, filip,simsiam")
    assert main(options(tmp_path, *which)) == 130
    assert "the same command continues" in capsys.readouterr().err
    trained.append("interrupted")
    assert main(options(tmp_path, *which)) == 0
    assert trained == ["clip", "filip", "interrupted", "simsiam"]
    content = json.loads((tmp_path / "rows.json").read_text())
    assert [row["variant"] for row in content["rows"]] == ["clip", "filip", "simsiam"]
    assert content["minutes_each"] == 2 and "torch" in content["hardware"]
    table = capsys.readouterr().out.splitlines()
    assert len(table) == 4 and table[1].startswith("clip ") and "3.5" in table[1]


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (("--world", "emoji"), "can't be compared on emoji"),
        (("--variants", "clip,klip"), "there is no variant 'klip'; --variants takes all or some"),
        (("--minutes", "0"), "--minutes must be larger than 0, not 0.0"),
        (("--minutes", "3"), "had 2 minutes each, not 3"),
        (("--json", "BROKEN"), "holds no table of variants"),
    ],
)
def test_bad_input_is_one_sentence(tmp_path, capsys, more, sentence):
    (tmp_path / "rows.json").write_text(json.dumps({"minutes_each": 2.0, "rows": []}))
    broken = tmp_path / "broken.json"
    broken.write_text('{"rows": 3}')
    more = [str(broken) if word == "BROKEN" else word for word in more]
    assert main(options(tmp_path, *more)) == 2
    error = capsys.readouterr().err
    assert sentence in error and "Traceback" not in error and error.count("\n") == 1
