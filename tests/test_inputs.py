"""What a caller may give: a text, numbers and pictures of any kind, or else one sentence."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from minidalle2.bridge.clip_tokenizer import CLIPTokenizer
from minidalle2.dalle2 import StartingNoise
from minidalle2.diffusion.process import Diffusion
from minidalle2.diffusion.sampling import Noise
from minidalle2.diffusion.schedule import Schedule, cosine_betas
from minidalle2.evaluation.drawn import draw_prompts
from minidalle2.manipulations.blending import latents_of_text, mix, starting_noise
from minidalle2.manipulations.inpainting import Resampling, conditioned, inpaint
from minidalle2.manipulations.interpolation import between, interpolate, slerp, slerp_noise
from minidalle2.manipulations.inversion import Latents, Walk, decode, decoder_noise, invert, psnr
from minidalle2.manipulations.text_diff import direction, fitting_theta, turn
from minidalle2.manipulations.variations import repeated
from minidalle2.storage.input_pictures import as_mask, as_pictures
from minidalle2.storage.inputs import as_embeddings, as_floats, as_seeds
from minidalle2.tokenizer import Tokenizer, as_texts

E = 12
Z = F.normalize(torch.randn(2, E, generator=torch.Generator().manual_seed(0)), dim=1)
BYTES = torch.randint(0, 256, (2, 8, 8, 3), generator=torch.Generator().manual_seed(1)).byte()
ARRAY = BYTES.numpy()
RIGHT = BYTES.permute(0, 3, 1, 2) / 127.5 - 1
PILLOW = [Image.fromarray(picture) for picture in ARRAY]


@pytest.fixture(autouse=True)
def warnings_are_errors():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


# Texts


def test_a_text_is_one_text():
    assert as_texts("star") == ["star"]
    assert (
        as_texts(("a", "b")) == as_texts(np.array(["a", "b"])) == as_texts(iter("ab")) == ["a", "b"]
    )
    for texts in (np.str_("star"), np.array("star"), [np.str_("star")]):
        assert [type(text) for text in as_texts(texts)] == [str]


@pytest.mark.parametrize("texts", [5, None, b"star", ["a", 5], [["a"]], [b"a"], {1: 2}])
def test_what_is_not_a_text(texts, tokenizer):
    for function in (as_texts, tokenizer, tokenizer.cut, Tokenizer.train):
        with pytest.raises(ValueError, match="is (int|NoneType|bytes|list), not a text"):
            function(texts)


def test_the_tokenizer_reads_no_letters(tokenizer):
    assert torch.equal(tokenizer("star"), tokenizer(["star"]))
    assert torch.equal(tokenizer.cut("star"), tokenizer.cut(["star"]))
    a, b = Tokenizer.train("star star", 270), Tokenizer.train(["star star"], 270)
    assert (a.merges, a.words) == (b.merges, b.words) and a.words == {"star"}


def test_clip_s_tokenizer_reads_no_letters():
    theirs = CLIPTokenizer([("r", "e")])
    assert torch.equal(theirs("red"), theirs(["red"])) and theirs("red").shape == (1, 77)
    assert torch.equal(theirs.cut("red"), theirs.cut(["red"]))
    with pytest.raises(ValueError, match="5 is int, not a text"):
        theirs([5])


def test_generate_takes_one_prompt(tiny_dalle2, few_steps):
    """UnCLIP.generate, which has no more than the core, too."""
    many = tiny_dalle2.generate(["star"], [3], few_steps)
    for made in (
        tiny_dalle2.generate("star", 3, few_steps),
        super(type(tiny_dalle2), tiny_dalle2).generate("star", [3], few_steps),
    ):
        assert made.prompts == ["star"] and torch.equal(made.image128, many.image128)
    assert torch.equal(tiny_dalle2.tokenize("Star."), many.tokens)
    with pytest.raises(ValueError, match="there is no prompt"):
        tiny_dalle2.generate([])


def test_an_evaluation_takes_one_prompt(tiny_dalle2, few_steps):
    (made,) = draw_prompts(tiny_dalle2, "a red circle " * 4, few_steps, stop_after="text_embedding")
    assert made.prompts == ["a red circle " * 4]  # longer than a batch has prompts


def test_two_captions_are_two_texts(clip, tokenizer):
    one = direction(clip, tokenizer, "a red circle", "a blue circle")
    assert one.shape == (1, E)
    assert torch.equal(one, direction(clip, tokenizer, ["a red circle"], ["a blue circle"]))
    theta = fitting_theta(clip, tokenizer, Z[0].numpy(), "a red circle", "a blue circle")
    assert theta.shape == (1, 1)
    with pytest.raises(ValueError, match="2 old captions and 1 new ones; give one new"):
        direction(clip, tokenizer, ["a red circle", "a star"], "a blue circle")


# Numbers


@pytest.mark.parametrize(
    "given",
    [Z.double(), Z.numpy(), Z.numpy().astype(">f8"), Z.tolist(), list(Z), tuple(Z.numpy())]
    + [[Z[0], Z[1].tolist()], Z.numpy()[:, ::-1][:, ::-1], Z.clone().requires_grad_()]
    + [Z.to_sparse()],
    ids=lambda given: type(given).__name__,
)
def test_embeddings_of_any_kind(given):
    z = as_embeddings(given, "z", E)
    assert z.dtype == torch.float32 and torch.equal(z, Z)


@pytest.mark.parametrize("kind", [torch.half, torch.bfloat16, np.float16])
def test_embeddings_of_half_precision(kind):
    """Their lengths differ a little from 1. They are used as they are, without a warning."""
    half = Z.to(kind) if isinstance(kind, torch.dtype) else Z.numpy().astype(kind)
    z = as_embeddings(half, "z", E)
    assert z.dtype == torch.float32
    torch.testing.assert_close(z, Z, atol=4e-3, rtol=0)
    listed = [half[0], half[1]]
    assert torch.equal(as_embeddings(listed, "z", E), z)


def test_what_is_right_is_not_copied():
    assert as_embeddings(Z, "z", E) is Z
    assert as_pictures(RIGHT, "images", 8) is RIGHT
    noisy = 2.5 * RIGHT
    assert as_pictures(noisy, "images", 8) is noisy
    assert as_floats(Z.double(), "z").dtype == torch.float64


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (torch.ones(2, 7), "z has 7 numbers for each embedding, but these weights need 12"),
        (np.ones((2, 7)), "z has 7 numbers for each embedding, but these weights need 12"),
        (torch.ones(1, 2, 3, E), r"z has the shape \(1, 2, 3, 12\); \(B, E\)"),
        (torch.tensor(1.0), r"z has the shape \(\); \(B, E\)"),
        ([], r"z has the shape \(1, 0\)"),
        (Z * torch.nan, r"z has NaN or infinity at \[0, 0\]"),
        (Z.half() / 0, r"z has NaN or infinity at \[0, 0\]"),
        (np.full((2, E), 1e300), r"z has NaN or infinity at \[0, 0\]"),
        (Z.double() * 1e300, r"z has NaN or infinity at \[0, 0\]"),
        (Z.to("meta"), "z is on the device meta, which holds no numbers"),
        (Z + 0j, "z has complex numbers"),
        ("red", "z is str without numbers; give a tensor"),
        ([None] * E, "z is list without numbers"),
        ([[1.0, 2.0], [3.0]], "z has parts of different shapes"),
        ([Z[0], Z[1, :4]], "z has parts of different shapes"),
    ],
)
def test_embeddings_that_cannot_be_used(given, said):
    with pytest.raises(ValueError, match=said):
        as_embeddings(given, "z", E)


def test_another_length_is_used_and_said():
    for z in (13.9 * Z, 0 * Z):
        with pytest.warns(UserWarning, match="z has an embedding of length (13.9|0), but .* unit"):
            assert as_embeddings(z, "z", E) is z


@pytest.mark.parametrize(
    "given",
    [5, np.int32(5), np.array(5), np.array([5]), torch.tensor(5), torch.tensor([5]), [np.uint8(5)]]
    + [(torch.tensor(5),), range(5, 6)],
)
def test_seeds_of_any_kind(given):
    (seed,) = as_seeds(given)
    assert seed == 5 and type(seed) is int


@pytest.mark.parametrize(
    "given", [0.5, "5", ["5"], [None], np.array([0.5]), torch.tensor([1.0]), np.array(0.5)]
)
def test_what_is_not_a_seed(given):
    with pytest.raises(ValueError, match="the seed .* is not a whole number"):
        as_seeds(given)


def test_seeds_do_not_overflow(tiny_dalle2):
    """4 * uint8(100) would be another seed."""
    expected = decoder_noise([100])(3)
    for seeds in (np.array([100], np.uint8), [np.int8(100)], torch.tensor([100], dtype=torch.int8)):
        assert torch.equal(decoder_noise(seeds)(3), expected)
        assert torch.equal(Noise(seeds)(3), Noise([100])(3))
    assert torch.equal(starting_noise(tiny_dalle2, 100), starting_noise(tiny_dalle2, [100]))
    for seed in (2**62, -(2**70)):
        with pytest.raises(ValueError, match="the seed .* is out of range"):
            as_seeds(seed)


# Pictures


@pytest.mark.parametrize(
    "given",
    [PILLOW, ARRAY, list(ARRAY), BYTES, BYTES.permute(0, 3, 1, 2), BYTES.long(), ARRAY.tolist()]
    + [ARRAY.astype(np.uint16), ARRAY[:, :, ::-1][:, :, ::-1], [PILLOW[0], BYTES[1]]]
    + [RIGHT.double(), RIGHT.numpy(), RIGHT.permute(0, 2, 3, 1), [RIGHT[0], RIGHT[1:]]]
    + [[picture.convert("RGBA") for picture in PILLOW]]
    + [np.concatenate((ARRAY, np.full((2, 8, 8, 1), 255, np.uint8)), axis=3)],
)
def test_pictures_of_any_kind(given):
    pictures = as_pictures(given, "images", 8)
    assert pictures.dtype == torch.float32 and torch.equal(pictures, RIGHT)


def test_one_picture_and_grey():
    assert torch.equal(as_pictures(PILLOW[0], "image", 8), RIGHT[:1])
    assert torch.equal(as_pictures(RIGHT[0], "image", 8), RIGHT[:1])
    grey = PILLOW[0].convert("L")
    expected = (torch.from_numpy(np.array(grey)) / 127.5 - 1).expand(1, 3, -1, -1)
    for given in (grey, np.asarray(grey), np.asarray(grey)[None], np.asarray(grey)[..., None]):
        assert torch.equal(as_pictures(given, "image", 8), expected)
    clear = np.zeros((8, 8, 4), np.uint8)  # transparent black is white
    assert (as_pictures(clear, "image", 8) == 1).all()
    assert (as_pictures(Image.fromarray(clear), "image", 8) == 1).all()
    white = Image.new("1", (8, 8), 1)
    assert (as_pictures(white, "image", 8) == 1).all()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (Image.new("RGB", (300, 200)), "has pictures of 300 x 200 px, but 8 x 8 px are needed"),
        (RIGHT[:, :, :7], "has pictures of 8 x 7 px, but 8 x 8 px are needed"),
        ([PILLOW[0], Image.new("RGB", (9, 9))], "has pictures of 9 x 9 px, but 8 x 8 px"),
        (BYTES.float(), r"fractional pixels from 0 to 255; .* whole numbers \(uint8\)"),
        (ARRAY.astype(np.uint16) * 256, "whole numbers from 0 to 65280; .* from 0 to 255"),
        (BYTES.long() - 9, "whole numbers from -9 to"),
        (RIGHT / 0, "images has NaN or infinity at"),
        (RIGHT.half() * torch.nan, "images has NaN or infinity at"),
        (BYTES > 9, "True and False, but pixels are numbers"),
        (torch.zeros(2, 5, 8, 8), "5 colours for each pixel; 3 of RGB"),
        (torch.zeros(2, 4, 8, 8), "transparency in fractional numbers"),
        (torch.full((3, 8, 8), 300, dtype=torch.uint16), "whole numbers from 300 to 300"),
        (torch.zeros(8), r"the shape \(8,\)"),
        (torch.zeros(0, 3, 8, 8), r"the shape \(0, 3, 8, 8\)"),
        ([], "images has the shape"),
        ("picture.png", "images is str without numbers"),
        (None, "images is NoneType without numbers"),
    ],
)
def test_pictures_that_cannot_be_used(given, said):
    with pytest.raises(ValueError, match=said):
        as_pictures(given, "images", 8)


def test_pixels_from_0_to_1_are_said():
    with pytest.warns(UserWarning, match="all pixels of images are between 0 and 1, but black"):
        as_pictures(BYTES.permute(0, 3, 1, 2) / 255, "images", 8)
    pale = torch.ones(1, 3, 8, 8)
    as_pictures(pale, "images", 8)  # white
    pale[:, 0, :4] = 0.4  # light blue on white: no pixel is black in either range
    as_pictures(pale, "images", 8)


# Generation


def test_generate_converts_what_is_given(tiny_dalle2, few_steps):
    whole = tiny_dalle2.generate(["a red circle", "a star"], sampling=few_steps)
    z, small = whole.image_embeddings, whole.image32
    prompts = whole.prompts
    for given in (z.double().numpy(), z.tolist(), list(z)):
        made = tiny_dalle2.generate(prompts, sampling=few_steps, image_embeddings=given)
        assert torch.equal(made.image128, whole.image128)
    for given in (small.numpy(), small.double(), small.permute(0, 2, 3, 1), list(small)):
        made = tiny_dalle2.generate(prompts, sampling=few_steps, image32=given)
        assert torch.equal(made.image128, whole.image128)
    one = tiny_dalle2.generate("a", 0, few_steps, stop_after="image32", image_embeddings=z[0, 0])
    assert torch.equal(one.image_embeddings, z[:1, :1].expand(-1, 2, -1))
    noise = StartingNoise(*(x.double().numpy() for x in _noise(tiny_dalle2, few_steps)))
    assert torch.equal(
        tiny_dalle2.generate(prompts, [8, 9], few_steps, noise).image128, whole.image128
    )


def _noise(dalle2, sampling):
    return vars(dalle2.starting_noise([0, 1], sampling)).values()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"image_embeddings": torch.ones(1, 64)}, "64 numbers for each embedding, but .* need 12"),
        ({"image_embeddings": Z}, "image_embeddings has 2 rows for 1 prompts"),
        ({"image_embeddings": Z[:1] * torch.nan}, "image_embeddings has NaN"),
        ({"image32": RIGHT[:1]}, "image32 has pictures of 8 x 8 px, but 32 x 32 px"),
        ({"image64": np.zeros((64, 64, 3)) + np.inf}, "image64 has NaN or infinity"),
        ({"image64": torch.zeros(2, 3, 64, 64)}, "image64 has 2 rows for 1 prompts"),
        ({"noise": StartingNoise(prior=torch.full((1, 3, E), torch.nan))}, "noise.prior has NaN"),
        ({"noise": StartingNoise(prior=torch.zeros(2, 3, E))}, "noise.prior has 2 rows for 1"),
        ({"seeds": [0.5]}, "the seed 0.5 is not a whole number"),
        ({"seeds": [1, 2]}, "2 seeds for 1 prompts"),
    ],
)
def test_generate_says_what_does_not_fit(tiny_dalle2, few_steps, given, said):
    with pytest.raises(ValueError, match=said):
        tiny_dalle2.generate("a", sampling=few_steps, **given)


# Manipulations


def test_manipulations_convert_what_is_given(tiny_dalle2):
    clip, decoder, walk = tiny_dalle2.clip, tiny_dalle2.decoder, Walk(2)
    pixels = torch.randint(0, 256, (1, 32, 32, 3), dtype=torch.uint8)
    right = pixels.permute(0, 3, 1, 2) / 127.5 - 1
    latents = invert(clip, decoder, right, walk)
    assert len(repr(latents)) < 60
    for images in (pixels, pixels[0].numpy(), Image.fromarray(pixels[0].numpy())):
        other = invert(clip, decoder, images, walk)
        assert torch.equal(other.z_i, latents.z_i) and torch.equal(other.x_T, latents.x_T)
    drawn = decode(decoder, latents, walk)
    for other in (
        Latents(latents.z_i.double(), latents.x_T.double()),
        Latents(latents.z_i[0].tolist(), latents.x_T[0].numpy()),
    ):
        assert torch.equal(decode(decoder, other, walk), drawn)
    assert torch.equal(psnr(pixels, drawn.numpy()), psnr(right, drawn))
    with pytest.raises(ValueError, match="8 x 8 px, but 32 x 32 px are needed"):
        invert(clip, decoder, RIGHT, walk)
    with pytest.raises(ValueError, match="z_i has 5 numbers for each embedding"):
        decode(decoder, replace(latents, z_i=torch.ones(1, 5)), walk)
    with pytest.raises(ValueError, match="x_T has NaN"):
        decode(decoder, replace(latents, x_T=latents.x_T * torch.nan), walk)
    with pytest.raises(ValueError, match=r"latents have z_i \(2, 12\) and x_T \(3, 3, 32, 32\)"):
        decode(decoder, Latents(Z, torch.zeros(3, 3, 32, 32)), walk)


def test_vectors_of_any_kind():
    a, b = Z
    for given in (b.numpy(), b.tolist(), b.double().numpy()):
        assert torch.equal(slerp(a.numpy(), given, np.float64(0.3)), slerp(a, b, 0.3))
        assert torch.equal(turn(a.numpy(), given, 0.3), turn(a, b, 0.3))
    assert torch.equal(mix(Z.numpy(), [0.5, 0.5]), mix(Z, torch.tensor([0.5, 0.5])))
    with pytest.raises(ValueError, match="b has NaN"):
        slerp(a, b * torch.nan, 0.5)
    with pytest.raises(ValueError, match=r"b has the shape \(7,\), but \(12,\) is beside it"):
        slerp(a, b[:7], 0.5)
    with pytest.raises(ValueError, match=r"shares of the shape \(3,\)"):
        mix(Z, [0.2, 0.3, 0.5])


def test_latents_of_any_kind(tiny_dalle2):
    x, theta = torch.randn(2, 3, 32, 32), torch.tensor([0.25])
    a, b = Latents(Z[:1], x[:1]), Latents(Z[1:], x[1:])
    assert a.z_i.data_ptr() == Z.data_ptr()  # not copied
    own = Latents(Z[:1].numpy(), x[:1].double().numpy()), Latents(Z[1:].tolist(), x[1:].numpy())
    assert torch.equal(slerp_noise(x[:1].numpy(), x[1:], [0.25]), slerp_noise(x[:1], x[1:], theta))
    middle, expected = between(*own, [0.25]), between(a, b, theta)
    assert torch.equal(middle.z_i, expected.z_i)
    torch.testing.assert_close(middle.x_T, expected.x_T)
    frames = interpolate(tiny_dalle2.decoder, *own, 2, Walk(1), x[:1].numpy())
    assert torch.equal(frames, interpolate(tiny_dalle2.decoder, a, b, 2, Walk(1), x[:1]))
    assert len(Latents.joined([own[0], b])) == len(repeated(own[0], 2)) == 2
    with pytest.raises(ValueError, match="x_T has NaN"):
        Latents(Z, x * torch.nan)


def test_one_caption_where_one_is_needed(tiny_dalle2, few_steps):
    assert len(latents_of_text(tiny_dalle2, "star", np.int64(1), few_steps)) == 1
    pixels = np.zeros((32, 32, 3), np.uint8)
    denoise = conditioned(tiny_dalle2, pixels, "star", 3, 1.0)
    x, t = torch.zeros(1, 3, 32, 32), torch.tensor([500])
    right = conditioned(tiny_dalle2, torch.full((1, 3, 32, 32), -1.0), "star", [3], 1.0)
    assert torch.equal(denoise(x, t), right(x, t))


def test_masks_of_any_kind():
    known = torch.zeros(1, 1, 8, 8, dtype=torch.bool)
    known[..., :4] = True
    flat = known[0, 0]
    given = (known, flat, flat.numpy(), flat[None].int(), flat.byte() * 255, flat.float().tolist())
    pillow = Image.fromarray(flat.byte().numpy() * 255)
    for mask in (*given, pillow, pillow.convert("1")):
        assert torch.equal(as_mask(mask, "known"), known)
    with pytest.raises(ValueError, match="known has values between 0 and 255"):
        as_mask(torch.tensor([[0, 128, 255]]), "known")
    with pytest.raises(ValueError, match=r"known has the shape \(1, 1, 0, 0\)"):
        as_mask(torch.zeros(1, 1, 0, 0), "known")
    diffusion = Diffusion(Schedule(cosine_betas(100)), "x0")
    half, noise = lambda x, t: 0.5 * x, [4, 5]  # noqa: E731
    expected = inpaint(diffusion, half, RIGHT, known, Resampling(3, 1, 1), Noise(noise))
    made = inpaint(diffusion, half, ARRAY, pillow, Resampling(3, 1, 1), Noise(noise))
    assert torch.equal(made, expected)
    with pytest.raises(ValueError, match=r"the mask has the shape \(1, 1, 4, 8\) for pictures"):
        inpaint(diffusion, half, RIGHT, flat[:4], Resampling(3, 1, 1), Noise(noise))
