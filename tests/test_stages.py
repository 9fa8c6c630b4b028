"""Stages compose: any intermediate result, passed on, gives the same final picture to the bit."""

from dataclasses import replace

import pytest
import torch

from minidalle2.dalle2 import DALLE2, WEIGHTS, Generation
from minidalle2.unclip import UnCLIP, most_faithful, nearest, pick

PROMPTS = ["a red circle", "a small blue square"]
SEEDS = [3, 11]
GIVEN = ("image_embeddings", "image32", "image64")


@pytest.fixture
def whole(tiny_dalle2, few_steps) -> Generation:
    return tiny_dalle2.generate(PROMPTS, SEEDS, few_steps)


def test_the_stages_by_hand(tiny_dalle2, few_steps, whole):
    """`generate` is this sequence of calls, each of which takes earlier results only."""
    noise = tiny_dalle2.starting_noise(SEEDS, few_steps)
    tokens = tiny_dalle2.tokenize(PROMPTS)
    text_embedding = tiny_dalle2.clip.encode_text(tokens)
    candidates = tiny_dalle2.imagine(text_embedding, tokens, noise.prior, few_steps)
    image_embeddings = nearest(candidates, text_embedding, few_steps.drawings)
    drawings = tiny_dalle2.draw(image_embeddings, tokens, noise.decoder, few_steps)
    selected = most_faithful(tiny_dalle2.clip, drawings, image_embeddings)
    image32 = pick(drawings, selected)
    image64 = tiny_dalle2.upsample64(image32, noise.upsampler64, few_steps)
    image128 = tiny_dalle2.upsample128(image64, noise.upsampler128, few_steps)
    by_hand = Generation(
        PROMPTS,
        tokens,
        text_embedding,
        candidates,
        image_embeddings,
        drawings,
        pick(image_embeddings, selected),
        image32,
        image64,
        image128,
    )
    assert_same(by_hand, whole)


@pytest.mark.parametrize("name", ["tokens", "text_embedding", "candidates", "drawings"])
def test_stages_do_not_change_what_they_are_given(tiny_dalle2, few_steps, whole, name):
    """The results of a first run are the same after a second run that uses them."""
    before = getattr(whole, name).clone()
    noise = tiny_dalle2.starting_noise(SEEDS, few_steps)
    tiny_dalle2.imagine(whole.text_embedding, whole.tokens, noise.prior, few_steps)
    nearest(whole.candidates, whole.text_embedding, 2)
    tiny_dalle2.draw(whole.image_embeddings, whole.tokens, noise.decoder, few_steps)
    most_faithful(tiny_dalle2.clip, whole.drawings, whole.image_embeddings)
    assert torch.equal(getattr(whole, name), before)


@pytest.mark.parametrize("stage", GIVEN)
def test_a_stage_s_result_passed_on_gives_the_same_picture(tiny_dalle2, few_steps, whole, stage):
    given = {stage: getattr(whole, stage)}
    again = tiny_dalle2.generate(PROMPTS, SEEDS, few_steps, **given)
    assert torch.equal(again.image128, whole.image128)
    assert torch.equal(again.image64, whole.image64)


@pytest.mark.parametrize("stage", GIVEN)
def test_a_run_that_stops_has_the_same_results(tiny_dalle2, few_steps, whole, stage):
    """What a run leaves when it stops after a stage is the input for the rest of the run."""
    first = tiny_dalle2.generate(PROMPTS, SEEDS, few_steps, stop_after=stage)
    assert torch.equal(getattr(first, stage), getattr(whole, stage))
    rest = tiny_dalle2.generate(PROMPTS, SEEDS, few_steps, **{stage: getattr(first, stage)})
    assert torch.equal(rest.image128, whole.image128)


def test_one_embedding_of_each_prompt_is_drawn_k_times(tiny_dalle2, few_steps, whole):
    z_i = whole.image_embeddings[:, 0]
    made = tiny_dalle2.generate(PROMPTS, SEEDS, few_steps, image_embeddings=z_i)
    assert torch.equal(made.image_embeddings, z_i[:, None].expand(-1, few_steps.drawings, -1))
    assert torch.equal(made.drawings[:, 0], whole.drawings[:, 0])
    assert torch.equal(made.selected_embedding, z_i)


def test_as_many_embeddings_as_drawings_are_needed(tiny_dalle2, few_steps, whole):
    with pytest.raises(ValueError, match="2 image embeddings for each prompt, but 3 drawings"):
        tiny_dalle2.generate(
            PROMPTS, SEEDS, replace(few_steps, drawings=3), image_embeddings=whole.image_embeddings
        )


def test_the_selected_embedding_has_its_own_name(tiny_dalle2, few_steps, whole):
    drawn_from = (whole.selected_embedding[:, None] == whole.image_embeddings).all(-1)
    shown = (whole.image32[:, None] == whole.drawings).flatten(2).all(-1)
    assert drawn_from.any(1).all() and torch.equal(drawn_from & shown, shown)


def test_dalle2_generates_what_the_core_generates(tiny_dalle2, few_steps, whole):
    core = UnCLIP(**{name: getattr(tiny_dalle2, name) for name in UnCLIP.__dataclass_fields__})
    assert_same(core.generate(PROMPTS, SEEDS, few_steps), whole)


def test_the_shipped_weights_compose():
    """The fault of earlier versions: `image_embedding` was replaced after it had been used."""
    dalle2 = DALLE2.load(WEIGHTS / "shapes")
    sampling = replace(dalle2.sampling, candidates=4, drawings=3, decoder_steps=6)
    prompts, seeds = ["a red circle above a blue square"], [5]
    first = dalle2.generate(prompts, seeds, sampling, stop_after="image_embeddings")
    made = dalle2.generate(prompts, seeds, sampling, image_embeddings=first.image_embeddings)
    assert torch.equal(made.image128, dalle2.generate(prompts, seeds, sampling).image128)


def assert_same(a: Generation, b: Generation) -> None:
    for name, value in vars(a).items():
        other = getattr(b, name)
        assert torch.equal(value, other) if isinstance(value, torch.Tensor) else value == other
