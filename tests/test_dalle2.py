"""The whole model: it starts and stops at any stage, and a picture depends on its own prompt and
seed only."""

import json
from dataclasses import fields, replace

import pytest
import torch
from tiny_model import save_tiny

from minidalle2.dalle2 import DALLE2, STAGES, Generation, Sampling, StartingNoise
from minidalle2.diffusion.sampling import Noise
from minidalle2.diffusion.schedule import spaced_timesteps
from minidalle2.storage.pictures import to_uint8
from minidalle2.tokenizer import PromptTooLong, clean

PROMPTS = ["a red circle", "a large green star above a red square"]
MADE = [
    "candidates",
    "image_embeddings",
    "drawings",
    "selected_embedding",
    "image32",
    "image64",
    "image128",
]


@pytest.fixture
def whole(tiny_dalle2, few_steps) -> Generation:
    return tiny_dalle2.generate(PROMPTS, sampling=few_steps)


def assert_same(a: Generation, b: Generation, rows=slice(None), names=MADE) -> None:
    for name in names:
        torch.testing.assert_close(
            getattr(a, name)[rows], getattr(b, name), atol=1e-4, rtol=0, msg=name
        )


def test_every_intermediate(whole, tiny_dalle2):
    """The shapes that `Generation` states, embeddings of unit length, pixels in [-1, 1]."""
    e = tiny_dalle2.clip.config.embedding
    shapes = {
        "tokens": (2, whole.tokens.shape[1]),
        "text_embedding": (2, e),
        "candidates": (2, 3, e),
        "image_embeddings": (2, 2, e),
        "drawings": (2, 2, 3, 32, 32),
        "selected_embedding": (2, e),
        "image32": (2, 3, 32, 32),
        "image64": (2, 3, 64, 64),
        "image128": (2, 3, 128, 128),
    }
    assert whole.prompts == PROMPTS
    assert {f.name for f in fields(Generation)} == {"prompts", *shapes}
    for name, shape in shapes.items():
        assert getattr(whole, name).shape == shape, name
    for name in ("text_embedding", "candidates", "image_embeddings", "selected_embedding"):
        lengths = getattr(whole, name).norm(dim=-1)
        torch.testing.assert_close(lengths, torch.ones_like(lengths))
    for name in ("image32", "image64", "image128"):
        assert getattr(whole, name).abs().max() <= 1


def test_text_embedding_is_clip_s(whole, tiny_dalle2):
    """e-24: computed as in CLIP's training, not a variant of it."""
    expected = tiny_dalle2.clip.encode_text(tiny_dalle2.tokenizer(PROMPTS))
    assert torch.equal(whole.text_embedding, expected)


def test_chosen_candidates(whole, tiny_dalle2, few_steps):
    """e-16: of each row, the candidates nearest to its own z_t, the nearest first."""
    made = tiny_dalle2.generate(PROMPTS, sampling=few_steps, stop_after="image_embeddings")
    assert torch.equal(made.candidates, whole.candidates)
    assert torch.equal(made.image_embeddings, whole.image_embeddings)
    for row in range(2):
        scores = made.candidates[row] @ made.text_embedding[row]
        assert torch.equal(made.image_embeddings[row, 0], made.candidates[row, scores.argmax()])
        order = scores.argsort(descending=True)
        assert torch.equal(made.image_embeddings[row], made.candidates[row, order[:2]])


def test_chosen_drawing(whole, tiny_dalle2, few_steps):
    """Each candidate is drawn once, in the order of its nearness to z_t. Of each row, the drawing
    is selected whose own CLIP embedding is nearest to the z_i that it was drawn from."""
    for row in range(2):
        z_t, candidates = whole.text_embedding[row], whole.candidates[row]
        drawn = tiny_dalle2.clip.encode_image(whole.drawings[row])
        decoded = candidates[(candidates @ z_t).argsort(descending=True)[:2]]
        best = (drawn * decoded).sum(1).argmax()
        assert torch.equal(whole.image32[row], whole.drawings[row, best])
        assert torch.equal(whole.selected_embedding[row], decoded[best])
        again = tiny_dalle2.generate(
            PROMPTS[row : row + 1], [row], few_steps, image_embeddings=decoded[1 - best][None]
        )
        torch.testing.assert_close(
            again.drawings[0, 1 - best], whole.drawings[row, 1 - best], atol=1e-4, rtol=0
        )


def test_the_paper_s_way(tiny_dalle2, few_steps):
    """One drawing, of the candidate nearest to z_t."""
    sampling = replace(few_steps, drawings=1)
    made = tiny_dalle2.generate(PROMPTS, sampling=sampling, stop_after="image32")
    z_i = tiny_dalle2.generate(PROMPTS, sampling=sampling, stop_after="image_embeddings")
    assert made.image_embeddings.shape[1] == 1
    assert torch.equal(made.image_embeddings, z_i.image_embeddings)
    assert torch.equal(made.selected_embedding, z_i.image_embeddings[:, 0])


def test_more_drawings_than_candidates(tiny_dalle2, few_steps):
    """Then the candidates repeat in the same order, and each repetition has its own noise."""
    made = tiny_dalle2.generate(
        PROMPTS, sampling=replace(few_steps, drawings=5), stop_after="image32"
    )
    assert torch.equal(made.image_embeddings[:, 3:], made.image_embeddings[:, :2])
    assert (made.drawings[:, 3:] - made.drawings[:, :2]).abs().max() > 1e-3


def test_a_part_is_replaced(tiny_dalle2, few_steps, autoregressive_prior):
    """`dataclasses.replace` makes a model with another prior and leaves the first as it is."""
    prior = tiny_dalle2.prior
    other = replace(tiny_dalle2, prior=autoregressive_prior)
    assert type(other) is type(tiny_dalle2) and tiny_dalle2.prior is prior
    assert other.decoder is tiny_dalle2.decoder
    a, b = (m.generate(PROMPTS, sampling=few_steps) for m in (tiny_dalle2, other))
    assert torch.equal(a.text_embedding, b.text_embedding)
    assert (a.image128 - b.image128).abs().max() > 1e-3


# Seeds and batches


def test_same_seed_same_picture(whole, tiny_dalle2, few_steps):
    """And the seeds are 0, 1, … where none are given."""
    again = tiny_dalle2.generate(PROMPTS, seeds=[0, 1], sampling=few_steps)
    assert all(torch.equal(getattr(whole, name), getattr(again, name)) for name in MADE)


@pytest.mark.parametrize("row", [0, 1])
def test_a_picture_does_not_depend_on_its_batch(whole, tiny_dalle2, few_steps, row):
    """e-23, e-44: alone, without the other's padding, it is the same."""
    alone = tiny_dalle2.generate([PROMPTS[row]], seeds=[row], sampling=few_steps)
    assert_same(whole, alone, rows=slice(row, row + 1))


def test_another_seed_changes_every_stage(whole, tiny_dalle2, few_steps):
    """e-44: one prompt with two seeds is two pictures."""
    other = tiny_dalle2.generate(PROMPTS, seeds=[2, 1], sampling=few_steps)
    for name in MADE:
        difference = (getattr(whole, name) - getattr(other, name)).abs().flatten(1).amax(1)
        assert difference[0] > 1e-3 and difference[1] < 1e-4, name


def test_neighbouring_seeds_share_no_noise(tiny_dalle2, few_steps, monkeypatch):
    """No stage of one seed draws what any stage of another draws."""
    drawn = []

    def recorded(seeds):
        drawn.extend(seeds)
        return Noise(seeds)

    monkeypatch.setattr("minidalle2.unclip.Noise", recorded)
    tiny_dalle2.generate(["a"] * 3, seeds=[0, 1, 2], sampling=few_steps)
    assert len(drawn) == len(set(drawn)) == 12


def test_the_last_step_goes_from_the_lowest_timestep(tiny_dalle2, few_steps, monkeypatch):
    """Training rarely visits smaller timesteps (decoder.py), so the sampler never does."""
    heard, decoder = [], tiny_dalle2.decoder
    forward = decoder.forward
    monkeypatch.setattr(
        decoder,
        "forward",
        lambda x_t, t, *given: heard.extend(t.tolist()) or forward(x_t, t, *given),
    )
    tiny_dalle2.generate(["a red circle"], sampling=few_steps, stop_after="image32")
    steps = spaced_timesteps(decoder.config.timesteps, few_steps.decoder_steps, 20)
    assert decoder.diffusion.lowest == 20
    assert list(dict.fromkeys(heard)) == steps.tolist() and heard[-1] == 20


def test_generate_leaves_the_networks_alone(whole, tiny_dalle2, few_steps):
    """e-25: embeddings, and modes, are the same before and after sampling."""
    images = torch.rand(2, 3, 32, 32)
    before = tiny_dalle2.clip.encode_image(images)
    tiny_dalle2.clip.eval()
    made = tiny_dalle2.generate(PROMPTS, sampling=few_steps)
    assert torch.equal(tiny_dalle2.clip.encode_image(images), before)
    assert not tiny_dalle2.clip.training and not made.image128.requires_grad


# Starting and stopping


@pytest.mark.parametrize("stop_after", STAGES)
def test_stop(whole, tiny_dalle2, few_steps, stop_after):
    """What was made is as in the whole run; the rest is None."""
    made = tiny_dalle2.generate(PROMPTS, sampling=few_steps, stop_after=stop_after)
    until = STAGES.index(stop_after) + 1
    for name in STAGES[:until]:
        assert torch.equal(getattr(made, name), getattr(whole, name)), name
    assert all(getattr(made, name) is None for name in STAGES[until:])


@pytest.mark.parametrize("given", ["image_embeddings", "image32", "image64"])
def test_start(whole, tiny_dalle2, few_steps, given):
    """A run that starts from the result of a stage makes the same pictures as the whole run."""
    result = getattr(whole, given)
    made = tiny_dalle2.generate(PROMPTS, sampling=few_steps, **{given: result})
    assert getattr(made, given) is result
    start = STAGES.index(given)
    for name in STAGES[start:]:
        assert torch.equal(getattr(made, name), getattr(whole, name)), name
    assert made.candidates is None
    assert all(getattr(made, name) is None for name in STAGES[1:start])


def test_start_and_stop_at_one_stage(whole, tiny_dalle2, few_steps):
    """The first upsampler alone."""
    made = tiny_dalle2.generate(
        PROMPTS, sampling=few_steps, image32=whole.image32, stop_after="image64"
    )
    assert torch.equal(made.image64, whole.image64) and made.image128 is None


def test_one_image_embedding_for_all_drawings(whole, tiny_dalle2, few_steps):
    """(B, E) stands for the same z_i in each of the k drawings."""
    z_i = whole.image_embeddings[:, 1]
    once = tiny_dalle2.generate(PROMPTS, sampling=few_steps, image_embeddings=z_i)
    twice = torch.stack((z_i, z_i), dim=1)
    repeated = tiny_dalle2.generate(PROMPTS, sampling=few_steps, image_embeddings=twice)
    assert torch.equal(once.image_embeddings, twice)
    assert torch.equal(once.selected_embedding, z_i)
    assert torch.equal(once.drawings, repeated.drawings)
    assert torch.equal(once.image128, repeated.image128)


def test_as_many_image_embeddings_as_drawings(whole, tiny_dalle2, few_steps):
    with pytest.raises(ValueError, match="3 image embeddings for each prompt, but 2 drawings"):
        tiny_dalle2.generate(PROMPTS, sampling=few_steps, image_embeddings=whole.candidates)


@pytest.mark.parametrize("given", ["image_embeddings", "image32", "image64"])
def test_given_results_are_used_and_not_mutated(whole, tiny_dalle2, few_steps, given):
    """e-10: another z_i or picture makes another picture, of its own row only."""
    result = getattr(whole, given).clone()
    result[0] = result[0].flip(-1)
    copy = result.clone()
    made = tiny_dalle2.generate(PROMPTS, sampling=few_steps, **{given: result})
    difference = (made.image128 - whole.image128).abs().amax((1, 2, 3))
    assert difference[0] > 1e-3 and difference[1] < 1e-4
    assert torch.equal(result, copy)


# Injected noise


@pytest.mark.parametrize(
    ("stage", "shape", "changes"),
    [
        ("prior", (2, 3, 12), "image_embeddings"),
        ("decoder", (2, 2, 3, 32, 32), "image32"),
        ("upsampler64", (2, 3, 64, 64), "image64"),
        ("upsampler128", (2, 3, 128, 128), "image128"),
    ],
)
def test_injected_noise(whole, tiny_dalle2, few_steps, stage, shape, changes):
    """x_T of one stage: earlier stages stay, this one changes, and the seed no longer counts."""
    at = STAGES.index(changes)
    noise = StartingNoise(**{stage: torch.randn(shape)})
    a = tiny_dalle2.generate(PROMPTS, sampling=few_steps, noise=noise, stop_after=changes)
    assert all(torch.equal(getattr(a, name), getattr(whole, name)) for name in STAGES[:at])
    assert (getattr(a, changes) - getattr(whole, changes)).abs().max() > 1e-3
    before = {STAGES[at - 1]: getattr(whole, STAGES[at - 1])} if at > 1 else {}
    b = tiny_dalle2.generate(PROMPTS, [8, 9], few_steps, noise, stop_after=changes, **before)
    assert torch.equal(getattr(b, changes), getattr(a, changes))


def test_all_noise_injected(tiny_dalle2, few_steps):
    """Then seeds decide nothing."""
    noise = StartingNoise(
        torch.randn(1, 3, 12),
        torch.randn(1, 2, 3, 32, 32),
        torch.randn(1, 3, 64, 64),
        torch.randn(1, 3, 128, 128),
    )
    a, b = (tiny_dalle2.generate(["a"], [seed], few_steps, noise) for seed in (0, 7))
    assert torch.equal(a.image128, b.image128)


@pytest.mark.parametrize(
    ("setting", "value", "changes"),
    [
        ("candidates", 1, "candidates"),
        ("prior_steps", 4, "image_embeddings"),
        ("prior_guidance", 1.0, "image_embeddings"),
        ("decoder_steps", 4, "image32"),
        ("decoder_guidance", 1.0, "image32"),
        ("decoder_guided_above", 0.6, "image32"),
        ("drawings", 1, "drawings"),
        ("upsampler64_steps", 3, "image64"),
        ("upsampler128_steps", 3, "image128"),
    ],
)
def test_every_setting_is_heard(whole, tiny_dalle2, few_steps, setting, value, changes):
    made = tiny_dalle2.generate(PROMPTS, sampling=replace(few_steps, **{setting: value}))
    a, b = getattr(whole, changes), getattr(made, changes)
    assert a.shape != b.shape or (a - b).abs().max() > 1e-4


def test_sampling_of_a_folder(tiny_dalle2, few_steps, tmp_path):
    """sampling.json holds what differs from the default, and `load` takes it for `generate`."""
    save_tiny(tiny_dalle2, tmp_path / "default")
    assert not (tmp_path / "default" / "sampling.json").exists()
    assert DALLE2.load(tmp_path / "default").sampling == Sampling()
    own = replace(few_steps, decoder_guided_above=0.5)
    folder = save_tiny(replace(tiny_dalle2, sampling=own), tmp_path / "own")
    written = json.loads((folder / "sampling.json").read_text())
    assert "prior_guidance" not in written and written["decoder_guided_above"] == 0.5
    loaded = DALLE2.load(folder)
    assert loaded.sampling == own
    drawn = loaded.generate(PROMPTS, stop_after="image32").image32
    expected = tiny_dalle2.generate(PROMPTS, sampling=own, stop_after="image32").image32
    assert torch.equal(drawn, expected)


# Prompts and pixels


@pytest.mark.parametrize(
    ("prompt", "cleaned"),
    [
        ("A Red Circle.", "a red circle"),
        ("  a\tred \n circle ", "a red circle"),
        ("a red circle .", "a red circle"),
        ("КРАСНЫЙ круг", "красный круг"),
        ("a sign that says no. 5", "a sign that says no. 5"),
    ],
)
def test_clean(prompt, cleaned):
    """Lower case, single spaces, no final full stop: nothing that no caption of training had."""
    assert clean(prompt) == cleaned


@pytest.mark.parametrize("prompt", ["", "   ", "\n\t", ".", ". ."])
def test_empty_prompt(tiny_dalle2, prompt):
    with pytest.raises(ValueError, match="the prompt is empty; describe a picture"):
        tiny_dalle2.generate([prompt])


def test_too_long_prompt(tiny_dalle2):
    with pytest.raises(PromptTooLong, match="the model reads at most 64"):
        tiny_dalle2.generate(["a red circle " * 100])


@pytest.mark.parametrize("prompt", ["赤い円", "דג", "🟥", "a dodecahedron!"])
def test_other_scripts_are_drawn(tiny_dalle2, few_steps, prompt):
    made = tiny_dalle2.generate([prompt], sampling=few_steps)
    assert made.image128.isfinite().all()


def test_unknown_stage(tiny_dalle2):
    with pytest.raises(
        ValueError, match="unknown stage 'image256'; stop after one of text_embedding"
    ):
        tiny_dalle2.generate(["a"], stop_after="image256")


@pytest.mark.parametrize("seeds", [[0], [0, 1, 2]])
def test_one_seed_a_prompt(tiny_dalle2, few_steps, seeds):
    """Not broadcast in silence to two pictures of one noise."""
    with pytest.raises(ValueError, match="seed"):
        tiny_dalle2.generate(PROMPTS, seeds=seeds, sampling=few_steps)


@pytest.mark.parametrize(
    ("value", "byte"),
    [
        (-1.0, 0),
        (1.0, 255),
        (0.0, 128),
        (1.006, 255),
        (2 * 1.006 - 1, 255),
        (2 * -0.006 - 1, 0),
        (-1.006, 0),
        (9.0, 255),
        (0.999, 255),
        (0.994, 254),
    ],
)
def test_uint8(value, byte):
    """e-34: clamp, then round; 1.006 of [0, 1] is 255 and -0.006 is 0, nothing wraps round."""
    assert to_uint8(torch.tensor([value])).tolist() == [byte]


def test_uint8_round_trip():
    """e-34: [0, 255] ↔ [-1, 1] once, all values."""
    values = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_uint8(values / 127.5 - 1), values)
