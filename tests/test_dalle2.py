"""The whole machine: started and stopped anywhere; a picture is its prompt's and seed's alone."""

from dataclasses import fields, replace

import pytest
import torch

from minidalle2.dalle2 import STAGES, Generation, Sampling, StartingNoise, clean
from minidalle2.decoder import LOWEST
from minidalle2.diffusion.sampling import Noise
from minidalle2.diffusion.schedule import spaced_timesteps
from minidalle2.pictures import to_uint8
from minidalle2.tokenizer import PromptTooLong

PROMPTS = ["a red circle", "a large green star above a red square"]
MADE = ["candidates", "image_embedding", "drawings", "image32", "image64", "image128"]


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
        "tokens": (2, whole.tokens.shape[1]), "text_embedding": (2, e), "candidates": (2, 3, e),
        "image_embedding": (2, e), "drawings": (2, 2, 3, 32, 32), "image32": (2, 3, 32, 32),
        "image64": (2, 3, 64, 64), "image128": (2, 3, 128, 128),
    }  # fmt: skip
    assert whole.prompts == PROMPTS
    assert {f.name for f in fields(Generation)} == {"prompts", *shapes}
    for name, shape in shapes.items():
        assert getattr(whole, name).shape == shape, name
    for name in ("text_embedding", "candidates", "image_embedding"):
        lengths = getattr(whole, name).norm(dim=-1)
        torch.testing.assert_close(lengths, torch.ones_like(lengths))
    for name in ("image32", "image64", "image128"):
        assert getattr(whole, name).abs().max() <= 1


def test_text_embedding_is_clip_s(whole, tiny_dalle2):
    """e-24: computed as in CLIP's training, not a variant of it."""
    expected = tiny_dalle2.clip.encode_text(tiny_dalle2.tokenizer(PROMPTS))
    assert torch.equal(whole.text_embedding, expected)


def test_chosen_candidate(whole, tiny_dalle2, few_steps):
    """e-16: of each row, the one nearest to its own z_t, where nothing is decoded."""
    made = tiny_dalle2.generate(PROMPTS, sampling=few_steps, stop_after="image_embedding")
    assert torch.equal(made.candidates, whole.candidates)
    for row in range(2):
        scores = made.candidates[row] @ made.text_embedding[row]
        assert torch.equal(made.image_embedding[row], made.candidates[row, scores.argmax()])


def test_chosen_drawing(whole, tiny_dalle2, few_steps):
    """Of each row, the one whose own CLIP embedding is nearest to the z_i it was drawn from: the
    candidates are decoded in the order of their nearness to z_t, one drawing each."""
    for row in range(2):
        z_t, candidates = whole.text_embedding[row], whole.candidates[row]
        drawn = tiny_dalle2.clip.encode_image(whole.drawings[row])
        decoded = candidates[(candidates @ z_t).argsort(descending=True)[:2]]
        best = (drawn * decoded).sum(1).argmax()
        assert torch.equal(whole.image32[row], whole.drawings[row, best])
        assert torch.equal(whole.image_embedding[row], decoded[best])
        again = tiny_dalle2.generate(
            PROMPTS[row : row + 1], [row], few_steps, image_embedding=decoded[1 - best][None]
        )
        torch.testing.assert_close(
            again.drawings[0, 1 - best], whole.drawings[row, 1 - best], atol=1e-4, rtol=0
        )


def test_the_paper_s_way(tiny_dalle2, few_steps):
    """One drawing, of the candidate nearest to z_t."""
    sampling = replace(few_steps, drawings=1)
    made = tiny_dalle2.generate(PROMPTS, sampling=sampling, stop_after="image32")
    z_i = tiny_dalle2.generate(PROMPTS, sampling=sampling, stop_after="image_embedding")
    assert torch.equal(made.image_embedding, z_i.image_embedding)


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

    monkeypatch.setattr("minidalle2.dalle2.Noise", recorded)
    tiny_dalle2.generate(["a"] * 3, seeds=[0, 1, 2], sampling=few_steps)
    assert len(drawn) == len(set(drawn)) == 12


def test_the_last_step_goes_from_the_lowest_timestep(tiny_dalle2, few_steps, monkeypatch):
    """Training hardly sees those below (decoder.py), so no drawing visits them."""
    heard, decoder = [], tiny_dalle2.decoder
    forward = decoder.forward
    monkeypatch.setattr(
        decoder,
        "forward",
        lambda x_t, t, *given: heard.extend(t.tolist()) or forward(x_t, t, *given),
    )
    tiny_dalle2.generate(["a red circle"], sampling=few_steps, stop_after="image32")
    steps = spaced_timesteps(decoder.config.timesteps, few_steps.decoder_steps, LOWEST)
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


def settled(few_steps: Sampling, stage: str) -> Sampling:
    """Of several drawings CLIP chooses one, and with it z_i; a single one settles z_i at once."""
    return replace(few_steps, drawings=1) if stage == "image_embedding" else few_steps


@pytest.mark.parametrize("stop_after", STAGES)
def test_stop(tiny_dalle2, few_steps, stop_after):
    """What was made is as in the whole run; the rest is None."""
    sampling = settled(few_steps, stop_after)
    whole = tiny_dalle2.generate(PROMPTS, sampling=sampling)
    made = tiny_dalle2.generate(PROMPTS, sampling=sampling, stop_after=stop_after)
    until = STAGES.index(stop_after) + 1
    for name in STAGES[:until]:
        assert torch.equal(getattr(made, name), getattr(whole, name)), name
    assert all(getattr(made, name) is None for name in STAGES[until:])


@pytest.mark.parametrize("given", ["image_embedding", "image32", "image64"])
def test_start(tiny_dalle2, few_steps, given):
    """A whole run broken off at any stage goes on to the identical pictures."""
    sampling = settled(few_steps, given)
    whole = tiny_dalle2.generate(PROMPTS, sampling=sampling)
    result = getattr(whole, given)
    made = tiny_dalle2.generate(PROMPTS, sampling=sampling, **{given: result})
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


@pytest.mark.parametrize("given", ["image_embedding", "image32", "image64"])
def test_given_results_are_used_and_not_mutated(tiny_dalle2, few_steps, given):
    """e-10: another z_i or picture makes another picture, of its own row only."""
    sampling = settled(few_steps, given)
    whole = tiny_dalle2.generate(PROMPTS, sampling=sampling)
    result = getattr(whole, given).clone()
    result[0] = result[0].flip(-1)
    copy = result.clone()
    made = tiny_dalle2.generate(PROMPTS, sampling=sampling, **{given: result})
    difference = (made.image128 - whole.image128).abs().amax((1, 2, 3))
    assert difference[0] > 1e-3 and difference[1] < 1e-4
    assert torch.equal(result, copy)


# Injected noise


@pytest.mark.parametrize(
    ("stage", "shape", "changes"),
    [
        ("prior", (2, 3, 12), "image_embedding"),
        ("decoder", (2, 1, 3, 32, 32), "image32"),
        ("upsampler64", (2, 3, 64, 64), "image64"),
        ("upsampler128", (2, 3, 128, 128), "image128"),
    ],
)
def test_injected_noise(tiny_dalle2, few_steps, stage, shape, changes):
    """x_T of one stage: earlier stages stay, this one changes, and the seed no longer counts."""
    at = STAGES.index(changes)
    sampling = settled(few_steps, STAGES[at - 1])
    whole = tiny_dalle2.generate(PROMPTS, sampling=sampling)
    noise = StartingNoise(**{stage: torch.randn(shape)})
    a = tiny_dalle2.generate(PROMPTS, sampling=sampling, noise=noise, stop_after=changes)
    assert all(torch.equal(getattr(a, name), getattr(whole, name)) for name in STAGES[:at])
    assert (getattr(a, changes) - getattr(whole, changes)).abs().max() > 1e-3
    before = {STAGES[at - 1]: getattr(whole, STAGES[at - 1])} if at > 1 else {}
    b = tiny_dalle2.generate(PROMPTS, [8, 9], sampling, noise, stop_after=changes, **before)
    assert torch.equal(getattr(b, changes), getattr(a, changes))


def test_all_noise_injected(tiny_dalle2, few_steps):
    """Then seeds decide nothing."""
    noise = StartingNoise(
        torch.randn(1, 3, 12), torch.randn(1, 2, 3, 32, 32), torch.randn(1, 3, 64, 64),
        torch.randn(1, 3, 128, 128),
    )  # fmt: skip
    a, b = (tiny_dalle2.generate(["a"], [seed], few_steps, noise) for seed in (0, 7))
    assert torch.equal(a.image128, b.image128)


@pytest.mark.parametrize(
    ("setting", "value", "changes"),
    [
        ("candidates", 1, "candidates"), ("prior_steps", 4, "image_embedding"),
        ("prior_guidance", 1.0, "image_embedding"), ("decoder_steps", 4, "image32"),
        ("decoder_guidance", 1.0, "image32"), ("drawings", 1, "drawings"),
        ("upsampler64_steps", 3, "image64"),
        ("upsampler128_steps", 3, "image128"),
    ],
)  # fmt: skip
def test_every_setting_is_heard(whole, tiny_dalle2, few_steps, setting, value, changes):
    made = tiny_dalle2.generate(PROMPTS, sampling=replace(few_steps, **{setting: value}))
    a, b = getattr(whole, changes), getattr(made, changes)
    assert a.shape != b.shape or (a - b).abs().max() > 1e-4


# Prompts and pixels


@pytest.mark.parametrize(
    ("prompt", "cleaned"),
    [
        ("A Red Circle.", "a red circle"), ("  a\tred \n circle ", "a red circle"),
        ("a red circle .", "a red circle"), ("КРАСНЫЙ круг", "красный круг"),
        ("a sign that says no. 5", "a sign that says no. 5"),
    ],
)  # fmt: skip
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
    [(-1.0, 0), (1.0, 255), (0.0, 128), (1.006, 255), (2 * 1.006 - 1, 255), (2 * -0.006 - 1, 0),
     (-1.006, 0), (9.0, 255), (0.999, 255), (0.994, 254)],
)  # fmt: skip
def test_uint8(value, byte):
    """e-34: clamp, then round; 1.006 of [0, 1] is 255 and -0.006 is 0, nothing wraps round."""
    assert to_uint8(torch.tensor([value])).tolist() == [byte]


def test_uint8_round_trip():
    """e-34: [0, 255] ↔ [-1, 1] once, all values."""
    values = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_uint8(values / 127.5 - 1), values)
