"""What is done with latents: variations, interpolation, text diffs, blends, inpainting."""

import math

import pytest
import torch
import torch.nn.functional as F

from minidalle2.dalle2 import DALLE2, WEIGHTS
from minidalle2.diffusion.process import Diffusion
from minidalle2.diffusion.sampling import Noise
from minidalle2.diffusion.schedule import Schedule, cosine_betas
from minidalle2.diffusion.variance import posterior_mean
from minidalle2.manipulations import inpainting
from minidalle2.manipulations.blending import latents_of_text, mix, starting_noise
from minidalle2.manipulations.inpainting import Resampling, inpaint, itinerary
from minidalle2.manipulations.interpolation import between, interpolate, slerp, slerp_noise
from minidalle2.manipulations.inversion import (
    Latents,
    Walk,
    decode,
    decoder_noise,
    error_against_steps,
)
from minidalle2.manipulations.text_diff import LARGEST, angle, direction, edit, fitting_theta, turn
from minidalle2.manipulations.variations import repeated, vary
from minidalle2.tokenizer import PromptTooLong
from minidalle2.worlds.catalogue import load_judge
from minidalle2.worlds.shapes.drawing import draw
from minidalle2.worlds.shapes.evaluation import manipulations as measured
from minidalle2.worlds.shapes.evaluation import report
from minidalle2.worlds.shapes.judge import HEADS, NOTHING, Judge, JudgeConfig, answers_of
from minidalle2.worlds.shapes.scenes import holds_held_out_pair, sample_scenes

WALK = Walk(4)
A, B = (
    F.normalize(torch.randn(5, 12, generator=torch.Generator().manual_seed(s)), dim=1)
    for s in (0, 1)
)


@pytest.fixture
def latents(tiny_dalle2) -> Latents:
    """x_T as it should be; that which leads an untrained network back to a picture is far larger,
    and rounding with it."""
    images = torch.rand(2, 3, 32, 32) * 2 - 1
    return Latents(tiny_dalle2.clip.encode_image(images), torch.randn(2, 3, 32, 32))


# Slerp


@pytest.mark.parametrize("theta", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_slerp_goes_along_the_great_circle(theta):
    """e-41: of unit length, in the plane of both, and theta of the angle from the first."""
    z = slerp(A, B, theta)
    torch.testing.assert_close(z.norm(dim=1), torch.ones(5))
    torch.testing.assert_close(angle(A, z), theta * angle(A, B), atol=1e-5, rtol=0)
    torch.testing.assert_close(angle(z, B), (1 - theta) * angle(A, B), atol=1e-5, rtol=0)


def test_slerp_hits_its_ends():
    assert torch.equal(slerp(A, B, 0.0), A)
    torch.testing.assert_close(slerp(A, B, 1.0), B, atol=1e-6, rtol=0)


def test_slerp_half_way_is_the_sum_brought_to_length_1():
    torch.testing.assert_close(slerp(A, B, 0.5), F.normalize(A + B, dim=1))


def test_slerp_has_a_theta_a_row():
    theta = torch.linspace(0, 1, 5)[:, None]
    z = slerp(A, B, theta)
    for k in range(5):
        torch.testing.assert_close(z[k], slerp(A[k], B[k], theta[k].item()))


@pytest.mark.parametrize("nudge", [0.0, 1e-8, 1e-4])
def test_slerp_of_parallel_vectors(nudge):
    """The quotient of sines would be 0/0."""
    other = F.normalize(A + nudge * B, dim=1)
    for theta in (0.0, 0.3, 1.0):
        torch.testing.assert_close(slerp(A, other, theta), A, atol=2 * nudge + 1e-6, rtol=0)


def test_slerp_of_opposite_vectors():
    """Some half circle, but a whole one: half way at right angles to both, and the far end hit."""
    for theta in (0.0, 0.25, 0.5, 1.0):
        z = slerp(A, -A, theta)
        torch.testing.assert_close(z.norm(dim=1), torch.ones(5))
        torch.testing.assert_close(
            (A * z).sum(1), torch.full((5,), math.cos(math.pi * theta)), atol=1e-6, rtol=0
        )


def test_noise_keeps_its_length():
    """x_T is no unit vector: its direction is turned, and its length goes straight."""
    a, b = torch.randn(3, 3, 8, 8), 0.5 * torch.randn(3, 3, 8, 8)
    for theta in (0.0, 0.5, 1.0):
        x = slerp_noise(a, b, torch.full((3,), theta))
        length = (1 - theta) * a.flatten(1).norm(dim=1) + theta * b.flatten(1).norm(dim=1)
        torch.testing.assert_close(x.flatten(1).norm(dim=1), length)
    torch.testing.assert_close(slerp_noise(a, b, torch.zeros(3)), a)
    torch.testing.assert_close(slerp_noise(a, b, torch.ones(3)), b, atol=1e-5, rtol=0)


# Interpolation


def test_the_ends_of_an_interpolation_are_the_pictures(tiny_dalle2, latents):
    frames = interpolate(tiny_dalle2.decoder, latents[:1], latents[1:], 5, WALK)
    ends = decode(tiny_dalle2.decoder, latents, WALK)
    assert frames.shape == (5, 3, 32, 32)
    torch.testing.assert_close(frames[[0, -1]], ends, atol=1e-3, rtol=0)


def test_a_fixed_x_T_is_every_frame_s(tiny_dalle2, latents):
    x_T = torch.randn(1, 3, 32, 32)
    frames = interpolate(tiny_dalle2.decoder, latents[:1], latents[1:], 3, WALK, x_T)
    z_i = slerp(latents.z_i[0], latents.z_i[1], 0.5)[None]
    middle = decode(tiny_dalle2.decoder, Latents(z_i, x_T), WALK)
    torch.testing.assert_close(frames[1:2], middle, atol=1e-3, rtol=0)
    own = between(latents[:1], latents[1:], torch.tensor([0.5]))
    assert (own.x_T - x_T).abs().max() > 0.1


def test_too_few_frames(tiny_dalle2, latents):
    with pytest.raises(ValueError, match="1 frames are too few; 2"):
        interpolate(tiny_dalle2.decoder, latents[:1], latents[1:], 1, WALK)


# Variations


def test_eta_0_gives_the_picture_back_whatever_the_seed(tiny_dalle2, latents):
    same = decode(tiny_dalle2.decoder, latents, WALK)
    for seed in (0, 1):
        noise = decoder_noise([seed, seed + 9])
        assert torch.equal(vary(tiny_dalle2.decoder, latents, 0.0, noise, WALK), same)


def test_seeds_decide_a_variation(tiny_dalle2, latents):
    a, again, b = (
        vary(tiny_dalle2.decoder, latents, 0.7, decoder_noise(seeds), WALK)
        for seeds in ([1, 2], [1, 2], [1, 3])
    )
    assert torch.equal(a, again)
    difference = (a - b).abs().amax((1, 2, 3))
    assert difference[0] < 1e-4 and difference[1] > 1e-3


def test_eta_says_how_much_changes(tiny_dalle2, latents):
    same = decode(tiny_dalle2.decoder, latents, WALK)
    changes = [
        (vary(tiny_dalle2.decoder, latents, eta, decoder_noise([1, 2]), WALK) - same)
        .square()
        .mean()
        for eta in (0.0, 0.2, 1.0)
    ]
    assert changes[0] == 0 and changes[2] > 4 * changes[1] > 0


@pytest.mark.parametrize("eta", [-0.1, 1.1, math.nan])
def test_eta_out_of_range(tiny_dalle2, latents, eta):
    with pytest.raises(ValueError, match="eta .* is out of range; 0 .* to 1 would work"):
        vary(tiny_dalle2.decoder, latents, eta, decoder_noise([0, 1]), WALK)


def test_repeated(latents):
    rows = repeated(latents, 3)
    assert len(rows) == 6
    assert torch.equal(rows.z_i[2], latents.z_i[0]) and torch.equal(rows.x_T[3], latents.x_T[1])


# Text diffs


def test_the_direction_is_that_of_the_difference(tiny_dalle2):
    clip, tokenizer = tiny_dalle2.clip, tiny_dalle2.tokenizer
    old, new = ["a red circle", "a star"], ["a blue circle", "a red circle"]
    z_d = direction(clip, tokenizer, old, new)
    difference = clip.encode_text(tokenizer(new)) - clip.encode_text(tokenizer(old))
    torch.testing.assert_close(z_d.norm(dim=1), torch.ones(2))
    assert (F.cosine_similarity(z_d, difference) > 1 - 1e-5).all()
    torch.testing.assert_close(direction(clip, tokenizer, new, old), -z_d)


def test_theta_0_is_the_picture_itself(tiny_dalle2, latents):
    z_d = direction(tiny_dalle2.clip, tiny_dalle2.tokenizer, ["a red circle"], ["a star"])
    assert torch.equal(turn(latents.z_i, z_d, 0.0), latents.z_i)
    same = decode(tiny_dalle2.decoder, latents, WALK)
    assert torch.equal(edit(tiny_dalle2.decoder, latents, z_d, 0.0, WALK), same)


def test_theta_turns_towards_the_difference_and_keeps_x_T(tiny_dalle2, latents):
    z_d = direction(tiny_dalle2.clip, tiny_dalle2.tokenizer, ["a red circle"], ["a star"])
    z_i = turn(latents.z_i, z_d, LARGEST)
    torch.testing.assert_close(z_i.norm(dim=1), torch.ones(2))
    torch.testing.assert_close((z_i * z_d).sum(1), (z_i * latents.z_i).sum(1))  # half of the way
    expected = decode(tiny_dalle2.decoder, Latents(z_i, latents.x_T), WALK)
    assert torch.equal(edit(tiny_dalle2.decoder, latents, z_d, LARGEST, WALK), expected)


def test_the_fitting_theta_turns_by_the_angle_between_the_captions(tiny_dalle2, latents):
    """Of the way to z_d, which for each picture is another one."""
    clip, tokenizer = tiny_dalle2.clip, tiny_dalle2.tokenizer
    old, new = ["a red circle", "a star"], ["a blue circle", "a star a"]
    z_d = direction(clip, tokenizer, old, new)
    theta = fitting_theta(clip, tokenizer, latents.z_i, old, new)
    assert theta.shape == (2, 1) and (theta > 0).all()
    apart = angle(*(clip.encode_text(tokenizer(texts)) for texts in (old, new)))
    free = theta[:, 0] < LARGEST
    assert free.any() and (theta[~free] == LARGEST).all()
    turned = angle(latents.z_i, turn(latents.z_i, z_d, theta))
    torch.testing.assert_close(turned[free], apart[free], atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match="nothing would change"):
        fitting_theta(clip, tokenizer, latents.z_i, old, old)


@pytest.mark.parametrize("theta", [-0.01, 0.51, 25.0, math.nan])
def test_theta_out_of_range(theta):
    with pytest.raises(ValueError, match="theta .* is out of range; 0 to 0.5 would work"):
        turn(A, B, theta)


@pytest.mark.parametrize("new", ["a red circle", "  A red  CIRCLE."])
def test_equal_captions_have_no_direction(tiny_dalle2, new):
    with pytest.raises(ValueError, match="both captions are 'a red circle', so nothing would"):
        direction(tiny_dalle2.clip, tiny_dalle2.tokenizer, ["a red circle"], [new])


def test_captions_that_cannot_be_read(tiny_dalle2):
    for old, new in (("", "a star"), ("a star", " . ")):
        with pytest.raises(ValueError, match="the prompt is empty"):
            direction(tiny_dalle2.clip, tiny_dalle2.tokenizer, [old], [new])
    with pytest.raises(PromptTooLong):
        direction(tiny_dalle2.clip, tiny_dalle2.tokenizer, ["a star"], ["a star " * 100])


# Blends


def test_a_mixture_has_length_1_and_its_shares():
    z = torch.stack((A, B), dim=1)  # (5, 2, 12)
    torch.testing.assert_close(mix(z, torch.tensor([1.0, 0.0])), A)
    torch.testing.assert_close(mix(z, torch.tensor([0.5, 0.5])), slerp(A, B, 0.5))
    mixed = mix(z, torch.tensor([0.8, 0.2]))
    torch.testing.assert_close(mixed.norm(dim=1), torch.ones(5))
    assert ((mixed * A).sum(1) > (mixed * B).sum(1)).all()


def test_embeddings_that_cancel_out():
    with pytest.raises(ValueError, match="cancel each other out"):
        mix(torch.stack((A, -A), dim=1), torch.tensor([0.5, 0.5]))


def test_a_text_is_the_prior_s_picture_of_it(tiny_dalle2, few_steps):
    made = tiny_dalle2.generate(["a red circle"], [3], few_steps, stop_after="image_embeddings")
    latents = latents_of_text(tiny_dalle2, "a red circle", 3, few_steps)
    assert torch.equal(latents.z_i, made.image_embeddings[:, 0])
    assert torch.equal(latents.x_T, starting_noise(tiny_dalle2, [3]))
    assert torch.equal(latents.x_T, decoder_noise([3])(3, 32, 32))


# Inpainting


@pytest.mark.parametrize(
    ("steps", "jump", "times", "levels"),
    [
        (4, 2, 2, [4, 3, 2, 3, 4, 3, 2, 1, 0, 1, 2, 1, 0]),
        (3, 1, 1, [3, 2, 1, 0]),
        (3, 2, 2, [3, 2, 1, 2, 3, 2, 1, 0, 1, 0]),
        (2, 9, 2, [2, 1, 0, 1, 2, 1, 0]),
    ],
)
def test_itinerary(steps, jump, times, levels):
    assert itinerary(Resampling(steps, jump, times)) == levels


@pytest.mark.parametrize("counts", [(0, 1, 1), (5, 0, 1), (5, 1, 0)])
def test_itinerary_of_nothing(counts):
    with pytest.raises(ValueError, match="must be 1 or more"):
        itinerary(Resampling(*counts))


@pytest.fixture
def diffusion() -> Diffusion:
    return Diffusion(Schedule(cosine_betas(1000)), "x0")


def left_half() -> torch.Tensor:
    known = torch.zeros(2, 1, 8, 8, dtype=torch.bool)
    known[..., :4] = True
    return known


def test_known_pixels_come_back_bit_by_bit(diffusion):
    """And what is beside them is what the network believes in, here the negative."""
    images = torch.rand(2, 3, 8, 8) * 2 - 1
    made = inpaint(
        diffusion, lambda x, t: -images, images, left_half(), Resampling(6, 2, 3), Noise([0, 1])
    )
    assert torch.equal(made[..., :4], images[..., :4])
    torch.testing.assert_close(made[..., 4:], -images[..., 4:])


def test_the_network_sees_the_known_region_at_every_level(diffusion):
    """Noised as much as the rest: in the mean over pixels it is √ᾱ times the picture."""
    images, seen = torch.full((2, 3, 64, 64), 0.8), []
    known = torch.zeros(2, 1, 64, 64, dtype=torch.bool)
    known[..., :32] = True

    def denoise(x, t):
        level = diffusion.schedule.signal[t[0]].item()
        seen.append((t[0].item(), x[..., :32].mean().item(), 0.8 * level))
        return torch.zeros_like(x)

    inpaint(diffusion, denoise, images, known, Resampling(8, 4, 2), Noise([0, 1]))
    assert len(seen) == 16
    for t, mean, expected in seen:
        assert mean == pytest.approx(expected, abs=0.04), t


def test_seeds_decide_what_is_unknown(diffusion):
    images = torch.zeros(2, 3, 8, 8)
    half = lambda x, t: 0.5 * x  # noqa: E731
    a, b, c = (
        inpaint(diffusion, half, images, left_half(), Resampling(6, 2, 2), Noise(seeds))
        for seeds in ([0, 1], [0, 1], [0, 2])
    )
    assert torch.equal(a, b) and torch.equal(a[0], c[0]) and (a[1] - c[1]).abs().max() > 1e-3


def test_the_step_down_is_ddpm_s(diffusion):
    """Between neighbouring timesteps it has the posterior's mean and variance."""
    schedule = diffusion.schedule
    x0, x_t = torch.randn(1, 3, 4, 4), torch.randn(1, 3, 4, 4)
    here, there = schedule.alpha_bar[500].item(), schedule.alpha_bar[499].item()
    mean = inpainting._posterior(x0, x_t, here, there, torch.zeros_like(x0))
    expected = posterior_mean(schedule, x0, x_t, torch.tensor([500]))
    torch.testing.assert_close(mean, expected, atol=1e-5, rtol=0)
    shifted = inpainting._posterior(x0, x_t, here, there, torch.ones_like(x0))
    variance = (shifted - mean).square().mean().item()
    assert variance == pytest.approx(schedule.posterior_variance[500].item(), rel=1e-3)


def test_a_trained_decoder_can_inpaint(tiny_dalle2):
    """The real one, with its learned variance, which inpainting leaves alone."""
    images = torch.rand(2, 3, 32, 32) * 2 - 1
    known = torch.rand(2, 1, 32, 32) < 0.5
    z_i = tiny_dalle2.clip.encode_image(images)
    tokens = tiny_dalle2.tokenizer(["a red circle"] * 2)
    denoise = tiny_dalle2.decoder.denoiser(z_i, tokens, 2.0)
    made = inpaint(
        tiny_dalle2.decoder.diffusion, denoise, images, known, Resampling(4, 2, 2), Noise([0, 1])
    )
    everywhere = known.expand_as(images)
    assert torch.equal(made[everywhere], images[everywhere])
    assert made.abs().max() <= 1 and (made - images)[~everywhere].abs().max() > 1e-3


# How they are measured


@pytest.fixture
def scenes():
    return sample_scenes(60, "seen", torch.Generator().manual_seed(3), ("one", "two"))


def test_everything_is_kept_where_the_judge_reads_the_truth(scenes):
    truth = answers_of(scenes)
    kept = measured.attributes_kept(scenes, truth)
    assert {name: len(value) for name, value in kept.items()} == {
        "colour": int(scenes.count.sum()),
        "shape": int(scenes.count.sum()),
        "size": int(scenes.count.sum()),
        "background": 60,
    }
    assert all(value.all() for value in kept.values())
    assert measured.same_scene(truth, truth).all()


@pytest.mark.parametrize("name", ["colour", "shape", "size", "background"])
def test_what_is_lost_is_counted(scenes, name):
    answers = {k: value.clone() for k, value in answers_of(scenes).items()}
    place = 0 if name == "background" else int(scenes.place[7, 0])
    answers[name][7, place] = (answers[name][7, place] + 1) % 2
    kept = measured.attributes_kept(scenes, answers)
    assert {k: int((~value).sum()) for k, value in kept.items()} == {
        k: int(k == name) for k in kept
    }
    assert measured.same_scene(answers_of(scenes), answers).logical_not().nonzero().tolist() == [
        [7]
    ]


def test_of_a_vanished_object_nothing_is_kept_and_a_new_one_spoils_the_scene(scenes):
    answers = answers_of(scenes)
    answers["shape"][7, scenes.place[7, 0]] = NOTHING
    kept = measured.attributes_kept(scenes, answers)
    lost = {name: int((~value).sum()) for name, value in kept.items()}
    assert lost == {"colour": 1, "shape": 1, "size": 1, "background": 0}
    answers = answers_of(scenes)
    free = (answers["shape"][9] == NOTHING).nonzero()[0, 0]
    answers["shape"][9, free] = 0
    assert measured.same_scene(answers_of(scenes), answers).sum() == 59
    assert all(value.all() for value in measured.attributes_kept(scenes, answers).values())


def test_what_differs_clearly():
    """A hundredth of the pixels by a tenth of the range: here 11 of 1,024, and by 26 levels."""
    images = torch.zeros(3, 3, 32, 32)
    others = images.clone()
    others[0, 1].view(-1)[:11] = 0.21
    others[1, 1].view(-1)[:11] = 0.19  # too little
    others[2, 1].view(-1)[:10] = 2.0  # too few
    assert measured.clearly_different(images, others).tolist() == [True, False, False]


@pytest.mark.parametrize("name", ["colour", "shape", "size", "background"])
def test_one_attribute_is_changed(name):
    generator = torch.Generator().manual_seed(3)
    scenes = sample_scenes(200, "seen", generator, ("one",))
    wanted = measured.changed(scenes, name, generator)
    for field, value in vars(scenes).items():
        same = (getattr(wanted, field) == value).flatten()
        assert same.float().mean() < 0.7 if field == name else same.all(), field
    first = getattr(wanted, name).reshape(200, -1)[:, 0]
    assert (first != getattr(scenes, name).reshape(200, -1)[:, 0]).all()
    assert not holds_held_out_pair(wanted).any()
    old, new = measured.full_captions(scenes), measured.full_captions(wanted)
    assert all(a != b for a, b in zip(old, new, strict=True))
    assert measured.VALUES[name][int(first[0])] in new[0]


def test_probabilities_are_those_of_each_scene_s_own_answers():
    """A judge that is sure of a: 1 for a, 0 for b; one that knows nothing: one of the answers."""
    generator = torch.Generator().manual_seed(3)
    a, b = (answers_of(sample_scenes(40, "seen", generator, ("one",))) for _ in range(2))
    sizes = {name: answers for name, (_, answers) in HEADS.items()}
    sure = {k: 50.0 * F.one_hot(a[k].clamp(min=0), sizes[k]).float() for k in sizes}
    p_a, p_b = measured.probabilities(sure, a, b)
    asked = p_a > 0  # equal scenes have no question between them
    assert asked.sum() >= 38 and (p_a[asked] > 0.999).all() and (p_b < 0.001).all()
    blank = {k: torch.zeros_like(v) for k, v in sure.items()}
    p_a, p_b = measured.probabilities(blank, a, b)
    torch.testing.assert_close(p_a, p_b)
    assert p_a[asked].min() >= 1 / 9 - 1e-6 and p_a.max() <= 1 / 2


def test_all_rows(tiny_dalle2, monkeypatch, bars):
    """Of a machine that has learnt nothing: each has its count and a share of it."""
    monkeypatch.setattr(measured, "STEPS", (2, 3))
    monkeypatch.setattr(measured, "WALK", Walk(2))
    monkeypatch.setattr(measured, "CLEARER", Walk(2, guidance=2.0))
    monkeypatch.setattr(measured, "BATCH", 2)
    judge = Judge(JudgeConfig(width=8))
    rows = list(measured.manipulation_rows(tiny_dalle2, judge, 3, 0))
    assert len({row["name"] for row in rows}) == len(rows) == 2 + 6 + 2 + 8
    assert {row["what"] for row in rows} == {"manipulations"} == {report.WHAT[-1]}
    for row in rows:
        assert 0 <= row["low"] <= row["accuracy"] <= row["high"] <= 1
    counts = {row["name"]: row["n"] for row in rows}
    assert counts["inversion, 2 steps: 30 dB"] == 3
    assert counts["interpolation: ends are their scenes"] == 6
    assert counts["interpolation: steps that lead on"] == 2 * (measured.FRAMES - 1)
    assert counts["text diff, colour: flipped"] == 3
    assert counts["text diff, colour: others kept"] == 9
    assert rows[0]["decibels"] < 30
    activities = bars.full()
    assert {"rebuilding with 3 steps", "varying, eta 1", "interpolating"} < set(activities)
    assert activities[-2:] == ["inverting 3 pictures", "editing the background"]


# With the committed weights


@pytest.fixture(scope="module")
def trained():
    folder = WEIGHTS / "shapes"
    return DALLE2.load(folder), load_judge("shapes", folder, torch.device("cpu"))


def test_trained_inversion_gives_pictures_back(trained):
    """To reach: 30 dB at 50 steps."""
    dalle2, _ = trained
    images = draw(sample_scenes(4, "seen", torch.Generator().manual_seed(5), ("one", "two")), 32)
    few, many = error_against_steps(dalle2.clip, dalle2.decoder, images, [3, 50]).values()
    assert many.mean() > 30 and many.mean() > few.mean()
