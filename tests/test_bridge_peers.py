"""The bridge against the packages that published the networks: equal outputs, from their files.

These packages need an environment of their own. `python dev.py bridge` creates it and runs this
file. Elsewhere the tests are skipped.
"""

import importlib.util
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

PEERS = ("open_clip", "dalle2_pytorch")
if missing := [name for name in PEERS if importlib.util.find_spec(name) is None]:
    pytest.skip(
        f"{' and '.join(missing)} not installed (the extra bridge)", allow_module_level=True
    )

import torchvision_stub  # noqa: E402

torchvision_stub.install()
import dalle2_pytorch  # noqa: E402
import open_clip  # noqa: E402
from dalle2_pytorch.train_configs import DecoderConfig, DiffusionPriorConfig  # noqa: E402
from packaging.version import Version  # noqa: E402

from minidalle2 import bridge  # noqa: E402
from minidalle2.bridge.clip_config import check_settings  # noqa: E402
from minidalle2.bridge.clip_files import load_clip  # noqa: E402
from minidalle2.bridge.clip_tokenizer import CLIPTokenizer, find_merges  # noqa: E402
from minidalle2.bridge.openai_clip import OpenAICLIP  # noqa: E402
from minidalle2.bridge.peer import diffusion_of  # noqa: E402
from minidalle2.bridge.prior import caption_features, check_name, load_prior  # noqa: E402
from minidalle2.bridge.published import PublishedDALLE2  # noqa: E402
from minidalle2.dalle2 import Sampling  # noqa: E402
from minidalle2.diffusion.sampling import clip_to_image, ddpm, last  # noqa: E402
from minidalle2.storage.checkpoints import CheckpointError  # noqa: E402

E, TEXT, TIMESTEPS = 24, 64, 21  # two widths, and the fewest steps of a linear schedule
VOCABULARY, CONTEXT = 700, 11
CLIP_CONFIG = {
    "embed_dim": E,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 128, "patch_size": 8},
    "text_cfg": {
        "context_length": CONTEXT,
        "vocab_size": VOCABULARY,
        "width": TEXT,
        "heads": 1,
        "layers": 2,
    },
}
PROMPTS = ["a photo of a cat", "red!!"]


def prior_config() -> dict:
    """As published with LAION's prior, but small and, unlike that, without the caption: the peer
    can read it only where the text tower is as wide as the embedding, which has its own test."""
    net = {
        "dim": E,
        "depth": 2,
        "num_timesteps": TIMESTEPS,
        "max_text_len": CONTEXT,
        "num_time_embeds": 1,
        "num_image_embeds": 1,
        "num_text_embeds": 1,
        "dim_head": 16,
        "heads": 2,
        "ff_mult": 2,
        "norm_out": True,
        "attn_dropout": 0.05,
        "ff_dropout": 0.05,
        "final_proj": True,
        "normformer": True,
        "rotary_emb": True,
    }
    prior = {
        "clip": {"make": "openai", "model": "ViT-T/8@32px"},
        "net": net,
        "image_embed_dim": E,
        "image_size": 224,
        "image_channels": 3,
        "timesteps": TIMESTEPS,
        "cond_drop_prob": 0.1,
        "loss_type": "l2",
        "predict_x_start": True,
        "beta_schedule": "cosine",
        "condition_on_text_encodings": False,
    }
    return {"prior": prior, "data": {"batch_size": 2}, "train": {"ema_beta": 0.99}, "tracker": {}}


def decoder_config(sizes: list[int]) -> dict:
    first = {
        "dim": 8,
        "cond_dim": 12,
        "image_embed_dim": E,
        "text_embed_dim": TEXT,
        "cond_on_text_encodings": True,
        "channels": 3,
        "dim_mults": [1, 2],
        "attn_heads": 2,
        "attn_dim_head": 8,
        "self_attn": [False, False],
        "num_resnet_blocks": 1,
        "init_cross_embed_kernel_sizes": [3, 7],
        "memory_efficient": True,
    }
    later = {
        "dim": 8,
        "dim_mults": [1, 1, 2],
        "init_cross_embed": False,
        "attend_at_middle": False,
        "num_resnet_blocks": 1,
        "memory_efficient": True,
        "attn_heads": 1,
        "attn_dim_head": 8,
    }
    decoder = {
        "unets": [first, *[later] * (len(sizes) - 1)],
        "image_sizes": sizes,
        "channels": 3,
        "clip": {"make": "openai", "model": "ViT-T/8@32px"},
        "timesteps": TIMESTEPS,
        "loss_type": "l2",
        "learned_variance": [True] + [False] * (len(sizes) - 1),
    }
    return {"decoder": decoder, "data": {}, "train": {}, "evaluate": {}, "tracker": {}, "seed": 0}


def perturbed(network: nn.Module) -> nn.Module:
    """Fresh networks end in zeros; noise on every weight lets inputs matter."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.1 * torch.randn(parameter.shape)
    return network.eval().requires_grad_(False)


def built(config_class: type, part: dict) -> nn.Module:
    """By the peer's own reading of its configs, without the CLIP that it would download."""
    return perturbed(config_class(**{**part, "clip": None}).create())


@pytest.fixture(scope="module")
def theirs() -> nn.Module:
    torch.manual_seed(1)
    return perturbed(open_clip.CLIP(**CLIP_CONFIG, quick_gelu=True))


@pytest.fixture(scope="module")
def prior() -> nn.Module:
    torch.manual_seed(2)
    return built(DiffusionPriorConfig, prior_config()["prior"])


@pytest.fixture(scope="module")
def decoder() -> nn.Module:
    torch.manual_seed(3)
    return built(DecoderConfig, decoder_config([16, 32, 64])["decoder"])


def write(folder: Path, config: dict, state: dict) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    torch.save(state, folder / "latest.pth")
    return folder


def write_clip(folder: Path, theirs: nn.Module, quick_gelu: bool = True) -> Path:
    config = {"model_cfg": {**CLIP_CONFIG, "quick_gelu": quick_gelu}}
    return write(folder, config, theirs.state_dict())


@pytest.fixture(scope="module")
def clip(theirs, tmp_path_factory) -> OpenAICLIP:
    return load_clip(write_clip(tmp_path_factory.mktemp("clip"), theirs))


@pytest.fixture(scope="module")
def folder(theirs, prior, decoder, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("published")
    write_clip(root / "clip", theirs)
    saved = {"model": prior.state_dict(), "version": Version("1.15.6"), "step": torch.tensor([5])}
    write(root / "prior", prior_config(), saved)
    saved = {"model": decoder.state_dict(), "version": "1.15.6", "steps": torch.tensor([1, 1, 1])}
    write(root / "decoder", decoder_config([16, 32, 64]), saved)
    return root


@pytest.fixture(scope="module")
def dalle2(folder) -> PublishedDALLE2:
    return bridge.load(folder)


@pytest.fixture
def tokens(dalle2) -> Tensor:
    return dalle2.tokenizer(PROMPTS)


def adapter(theirs: nn.Module) -> nn.Module:
    """The peer's own way to CLIP, without the download in its constructor."""
    made = dalle2_pytorch.OpenClipAdapter.__new__(dalle2_pytorch.OpenClipAdapter)
    super(dalle2_pytorch.OpenClipAdapter, made).__init__(theirs)
    made.eos_id, made.cleared = VOCABULARY - 1, False
    made.handle = theirs.ln_final.register_forward_hook(made._hook)
    return made


# CLIP


@pytest.mark.parametrize("quick_gelu", [True, False])
def test_embeddings_equal_open_clips(tmp_path, quick_gelu):
    theirs = perturbed(open_clip.CLIP(**CLIP_CONFIG, quick_gelu=quick_gelu))
    ours = load_clip(write_clip(tmp_path, theirs, quick_gelu))
    images, tokens = torch.rand(3, 3, 32, 32), torch.randint(1, VOCABULARY - 2, (3, CONTEXT))
    tokens[[0, 1, 2], [4, 10, 1]] = VOCABULARY - 1
    mean, std = (torch.tensor(v)[:, None, None] for v in (ours.config.mean, ours.config.std))
    expected = theirs.encode_image((images - mean) / std, normalize=True)
    torch.testing.assert_close(ours.encode_image(2 * images - 1), expected, atol=1e-5, rtol=0)
    expected = theirs.encode_text(tokens, normalize=True)
    torch.testing.assert_close(ours.encode_text(tokens), expected, atol=1e-5, rtol=0)


def test_embeddings_of_unusual_sizes_equal_open_clips(tmp_path):
    """As in ViT-bigG: narrow heads and hidden layers that are not four times the width."""
    image = {**CLIP_CONFIG["vision_cfg"], "mlp_ratio": 4.9231, "head_width": 32, "image_size": 37}
    text = {**CLIP_CONFIG["text_cfg"], "mlp_ratio": 3.5, "heads": 4}
    config = {"embed_dim": E, "vision_cfg": image, "text_cfg": text}
    theirs = perturbed(open_clip.CLIP(**config))
    ours = load_clip(write(tmp_path, {"model_cfg": config}, theirs.state_dict()))
    assert (ours.config.image_hidden, ours.config.text_hidden) == (630, 224)
    images, tokens = torch.rand(3, 3, 37, 37), torch.randint(1, VOCABULARY - 2, (3, CONTEXT))
    tokens[:, 6] = VOCABULARY - 1
    mean, std = (torch.tensor(v)[:, None, None] for v in (ours.config.mean, ours.config.std))
    expected = theirs.encode_image((images - mean) / std, normalize=True)
    torch.testing.assert_close(ours.encode_image(2 * images - 1), expected, atol=1e-5, rtol=0)
    expected = theirs.encode_text(tokens, normalize=True)
    torch.testing.assert_close(ours.encode_text(tokens), expected, atol=1e-5, rtol=0)


def test_the_configs_of_open_clips_vision_transformers_are_known():
    names = [name for name in open_clip.list_models() if name.startswith("ViT-")]
    others = ("SigLIP", "CLIPA", "ViT-M-16-alt")  # other architectures
    for name in (name for name in names if not any(other in name for other in others)):
        config = open_clip.get_model_config(name)
        sizes = SimpleNamespace(**config["vision_cfg"])
        check_name({"model": name}, SimpleNamespace(config=sizes), name)
        for part in ("vision_cfg", "text_cfg"):
            check_settings(Path(name), part, config.pop(part))
        check_settings(Path(name), "", config)


def test_caption_features_equal_the_peers(theirs, clip, tokens):
    embedding, features = adapter(theirs).embed_text(tokens)
    torch.testing.assert_close(caption_features(clip, tokens), features, atol=1e-5, rtol=0)
    torch.testing.assert_close(clip.encode_text(tokens), embedding, atol=1e-5, rtol=0)


def test_tokens_equal_open_clips():
    ours = CLIPTokenizer.load(find_merges(Path("nowhere")), 49408, 77)
    texts = ["A photo of a Corgi's 12 hats, isn't it?!", "红苹果 größe ½ हिन्दी 👍🏽 &amp; co.", ""]
    texts += ["antidisestablishmentarianism's  ''s 2,000.5 a_b", "x" * 60]
    texts += [
        "it’s “a dog”",
        "cafe\u0301",
        "ＡＢＣ　ｶﾅ",
        "ﬁsh",
        "\ufeffred",
        "&amp;amp; &eacute; <b>&lt;",
    ]
    texts += [
        "cafÃ© itâ€™s \x92s",
        "\x00a\x07\x7f \x1b[31mred",
        "one\u2028two\x85three\r\nfour\x1cfive",
    ]
    texts += [
        "\ud83d\ude00 \ud800 \u200b\u00ad",
        "İSTANBUL ΣΟΦΟΣ ǅ ſ'ſ",
        "x² ½ … „x“ «y» Ⅷ ٣",
        "👨‍👩‍👧",
    ]
    texts += [
        "&#39;s&nbsp;&#x41; &EACUTE; &bogus; &#0;",
        "’S ʼs ´s `s 'S",
        "ﬀ Ǆ ß ẞ",
        " \t\x0b\x0c ",
    ]
    assert torch.equal(ours(texts), open_clip.get_tokenizer("ViT-B-32")(texts))
    assert ours.decode(ours.encode(texts[0])) == "a photo of a corgi 's 1 2 hats , isn 't it ?!"


# The prior


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_the_prior_answers_as_the_peers(dalle2, prior, tokens, guidance):
    z, t = torch.randn(2, E), torch.tensor([3, 11])
    z_t = dalle2.clip.encode_text(tokens)
    expected = prior.net.forward_with_cond_scale(z, t, text_embed=z_t, cond_scale=guidance)
    answer = dalle2.prior.denoiser(z_t, tokens, guidance)(z, t)
    torch.testing.assert_close(answer, expected)


@pytest.mark.parametrize("change", [{}, {"predict_v": True}, {"sampling_clamp_l2norm": True}])
def test_the_prior_samples_as_the_peers_ddpm(tmp_path, clip, tokens, change):
    config = prior_config()
    config["prior"].update(change)
    peer = built(DiffusionPriorConfig, config["prior"])
    ours = load_prior(write(tmp_path, config, {"model": peer.state_dict()}), clip)
    z_t = clip.encode_text(tokens)
    torch.manual_seed(5)
    expected = peer.p_sample_loop((2, E), text_cond={"text_embed": z_t}, timesteps=TIMESTEPS)
    torch.manual_seed(5)
    z = last(
        ddpm(
            ours.diffusion,
            ours.denoiser(z_t, tokens, 1.0),
            torch.randn(2, E),
            TIMESTEPS,
            lambda *shape: torch.randn(2, *shape),
            ours._clip(),
        )
    )
    if not change.get("predict_v"):  # where the peer clamps scaled embeddings to [-1, 1]
        torch.testing.assert_close(z / peer.image_embed_scale, expected, atol=1e-4, rtol=1e-3)
    assert ours.diffusion.target == ("v" if "predict_v" in change else "x0")


def test_the_prior_reads_the_caption_where_it_was_trained_to(tmp_path, theirs):
    """With a text tower as wide as the embedding, as in ViT-L/14."""
    config = {**CLIP_CONFIG, "embed_dim": TEXT}
    peer_clip = perturbed(open_clip.CLIP(**config, quick_gelu=True))
    content = {"model_cfg": {**config, "quick_gelu": True}}
    clip = load_clip(write(tmp_path / "clip", content, peer_clip.state_dict()))
    content = prior_config()
    content["prior"].update(image_embed_dim=TEXT, condition_on_text_encodings=True)
    content["prior"]["net"]["dim"] = TEXT
    peer = built(DiffusionPriorConfig, content["prior"])
    state = peer.state_dict() | {f"clip.clip.{k}": v for k, v in peer_clip.state_dict().items()}
    ours = load_prior(write(tmp_path / "prior", content, {"model": state}), clip)
    tokens = torch.randint(0, 600, (2, CONTEXT))
    tokens[:, 6] = VOCABULARY - 1
    z_t, features = adapter(peer_clip).embed_text(tokens)
    z, t = torch.randn(2, TEXT), torch.tensor([3, 11])
    expected = peer.net(z, t, text_embed=z_t, text_encodings=features)
    torch.testing.assert_close(ours.denoiser(z_t, tokens, 1.0)(z, t), expected, atol=1e-4, rtol=0)


def test_guidance_of_a_prior_that_never_lost_its_text(tmp_path, clip, tokens):
    config = prior_config()
    config["prior"]["cond_drop_prob"] = 0.0
    peer = built(DiffusionPriorConfig, config["prior"])
    ours = load_prior(write(tmp_path, config, {"model": peer.state_dict()}), clip)
    z_t = clip.encode_text(tokens)
    ours.candidates(z_t, tokens, torch.randn(2, 2, E), 3, 1.0)
    with pytest.raises(ValueError, match="use prior_guidance=1"):
        ours.candidates(z_t, tokens, torch.randn(2, 2, E), 3, 2.0)


# The decoder and its upsamplers


@pytest.mark.parametrize("guidance", [0.0, 1.0, 3.0])
def test_the_decoder_answers_as_the_peers(dalle2, decoder, tokens, guidance):
    x, t, z_i = torch.randn(2, 3, 16, 16), torch.tensor([3, 11]), F.normalize(torch.randn(2, E))
    features = caption_features(dalle2.clip, tokens)
    expected = decoder.unets[0].forward_with_cond_scale(
        x, t, image_embed=z_i, text_encodings=features, cond_scale=guidance
    )
    answer = dalle2.decoder.denoiser(z_i, tokens, guidance)(x, t)
    torch.testing.assert_close(answer[:, :3], expected[:, :3], atol=1e-4, rtol=1e-4)
    with pytest.raises(ValueError, match="normalise it"):
        dalle2.decoder.denoiser(z_i * 3, tokens, guidance)
    with pytest.raises(ValueError, match="guided at every timestep"):
        dalle2.decoder.denoiser(z_i, tokens, guidance, 0.5)


def sampled(stage: nn.Module, denoise, size: int) -> Tensor:
    return last(
        ddpm(
            stage.diffusion,
            denoise,
            torch.randn(2, 3, size, size),
            TIMESTEPS,
            lambda *shape: torch.randn(2, *shape),
            clip_to_image,
        )
    )


def test_the_decoder_samples_as_the_peers_ddpm(dalle2, decoder, tokens):
    z_i = F.normalize(torch.randn(2, E), dim=-1)
    features = caption_features(dalle2.clip, tokens)
    torch.manual_seed(5)
    expected = decoder.sample(image_embed=z_i, text_encodings=features, stop_at_unet_number=1)
    torch.manual_seed(5)
    images = sampled(dalle2.decoder, dalle2.decoder.denoiser(z_i, tokens, 1.0), 16)
    torch.testing.assert_close((images + 1) / 2, expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize("number", [2, 3])
def test_an_upsampler_samples_as_the_peers_ddpm(dalle2, decoder, number):
    upsampler = (dalle2.upsampler64, dalle2.upsampler128)[number - 2]
    low, size = torch.rand(2, 3, 8 * 2 ** (number - 1), 8 * 2 ** (number - 1)), 8 * 2**number
    assert (upsampler.low_size, upsampler.config.size) == (low.shape[-1], size)
    torch.manual_seed(5)
    expected = decoder.sample(
        image=low,
        image_embed=torch.zeros(2, E),
        text_encodings=torch.zeros(2, CONTEXT, TEXT),
        start_at_unet_number=number,
        stop_at_unet_number=number,
    )
    torch.manual_seed(5)
    images = sampled(upsampler, upsampler.denoiser(2 * low - 1), size)
    torch.testing.assert_close((images + 1) / 2, expected, atol=1e-3, rtol=0)


def test_an_upsampler_that_was_trained_on_noisy_pictures(tmp_path, theirs, prior, folder):
    config = decoder_config([16, 32])
    config["decoder"].update(use_noise_for_lowres_cond=True, use_blur_for_lowres_cond=False)
    peer = built(DecoderConfig, config["decoder"])
    (tmp_path / "clip").symlink_to(folder / "clip")
    (tmp_path / "prior").symlink_to(folder / "prior")
    write(tmp_path / "decoder", config, {"model": peer.state_dict()})
    upsampler = bridge.load(tmp_path).upsampler64
    low, x, t = torch.rand(1, 3, 16, 16) * 2 - 1, torch.randn(1, 3, 32, 32), torch.tensor([4])
    alone = upsampler.denoiser(low)(x, t)
    both = upsampler.denoiser(low.repeat(2, 1, 1, 1))(x.repeat(2, 1, 1, 1), t.repeat(2))
    torch.testing.assert_close(both[1:], alone, atol=1e-5, rtol=1e-4)
    without = peer.unets[1](
        x,
        t,
        image_embed=None,
        lowres_cond_img=F.interpolate(low, 32),
        lowres_noise_level=torch.tensor([200]),
    )
    assert not torch.allclose(alone, without, atol=1e-4)


# The whole machine


def test_generate_keeps_its_promises(dalle2):
    made = dalle2.generate(PROMPTS, seeds=[3, 4])
    assert made.candidates.shape == (2, 2, E) and made.selected_embedding.shape == (2, E)
    sizes = [tuple(image.shape[1:]) for image in (made.image32, made.image64, made.image128)]
    assert sizes == [(3, 16, 16), (3, 32, 32), (3, 64, 64)]
    alone = dalle2.generate(PROMPTS[1:], seeds=[4])
    torch.testing.assert_close(alone.image128, made.image128[1:], atol=1e-2, rtol=0)
    again = dalle2.generate(
        PROMPTS, seeds=[3, 4], image_embeddings=made.selected_embedding, stop_after="image32"
    )
    assert again.image32.shape == (2, 3, 16, 16) and again.image64 is None
    with pytest.raises(ValueError, match="normalise it"):
        dalle2.generate(PROMPTS, image_embeddings=10 * made.selected_embedding)


def test_64_to_256_to_1024_px_from_two_checkpoints(tmp_path, folder):
    (tmp_path / "clip").symlink_to(folder / "clip")
    (tmp_path / "prior").symlink_to(folder / "prior")
    peer = built(DecoderConfig, decoder_config([64])["decoder"])
    write(tmp_path / "decoder", decoder_config([64]), {"model": peer.state_dict()})
    first_only = bridge.load(tmp_path)
    with pytest.raises(ValueError, match="no upsampler for image128 .* stop_after='image32'"):
        first_only.generate(PROMPTS[:1], stop_after="image128")
    assert first_only.generate(PROMPTS[:1]).image32.shape == (1, 3, 64, 64)
    peer = built(DecoderConfig, decoder_config([64, 256, 1024])["decoder"])
    write(tmp_path / "upsampler", decoder_config([64, 256, 1024]), {"model": peer.state_dict()})
    few = Sampling(
        candidates=1,
        drawings=1,
        prior_steps=2,
        decoder_steps=2,
        upsampler64_steps=2,
        upsampler128_steps=1,
    )
    made = bridge.load(tmp_path).generate(PROMPTS[:1], sampling=few)
    assert made.image64.shape == (1, 3, 256, 256) and made.image128.shape == (1, 3, 1024, 1024)


def test_sizes_that_do_not_follow_each_other(tmp_path, folder):
    for name in ("clip", "prior", "decoder"):
        (tmp_path / name).symlink_to(folder / name)
    config = decoder_config([16, 32])
    peer = built(DecoderConfig, config["decoder"])
    write(tmp_path / "upsampler", config, {"model": peer.state_dict()})
    with pytest.raises(CheckpointError, match="has 3 upsamplers"):
        bridge.load(tmp_path)
    config = decoder_config([32])
    (tmp_path / "decoder").unlink()
    peer = built(DecoderConfig, config["decoder"])
    write(tmp_path / "decoder", config, {"model": peer.state_dict()})
    with pytest.raises(CheckpointError, match="needs pictures of 16 px, .* draws 32 px"):
        bridge.load(tmp_path)


# Files as the peer's trainers write them


def test_the_averaged_weights_of_a_trainers_checkpoint(tmp_path, folder, prior):
    """A prior's checkpoint holds a Version and a warm-up object, pickled."""
    torch.manual_seed(6)
    fresh = DiffusionPriorConfig(**{**prior_config()["prior"], "clip": None}).create()
    trainer = dalle2_pytorch.DiffusionPriorTrainer(fresh, warmup_steps=3)
    trainer.ema_diffusion_prior.ema_model.load_state_dict(prior.state_dict())
    write(tmp_path, prior_config(), {})
    trainer.save(tmp_path / "latest.pth")
    ours = load_prior(tmp_path, load_clip(folder / "clip"))
    name = "net.learned_query"
    assert torch.equal(ours.peer.state_dict()[name], prior.state_dict()[name])
    (tmp_path / "config.json").write_text(json.dumps(wrong_depth()))
    version = dalle2_pytorch.__version__
    with pytest.raises(CheckpointError, match=f"{version} saved the file and is installed, so"):
        load_prior(tmp_path, load_clip(folder / "clip"))


def wrong_depth() -> dict:
    config = prior_config()
    config["prior"]["net"]["depth"] = 3
    return config


def test_the_averaged_weights_of_a_decoder(tmp_path, folder, decoder):
    part = decoder_config([16, 32, 64])["decoder"]
    fresh = DecoderConfig(**{**part, "clip": None}).create()
    trainer = dalle2_pytorch.DecoderTrainer(fresh)
    for i, average in enumerate(trainer.ema_unets):
        average.ema_model.load_state_dict(decoder.unets[i].state_dict())
    (tmp_path / "clip").symlink_to(folder / "clip")
    (tmp_path / "prior").symlink_to(folder / "prior")
    write(tmp_path / "decoder", decoder_config([16, 32, 64]), {})
    trainer.save(tmp_path / "decoder" / "latest.pth")
    loaded = bridge.load(tmp_path)
    assert torch.equal(loaded.upsampler64.unet.to_out.weight, decoder.unets[1].to_out.weight)


# Configs


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d["unets"][0].update(self_atn=True), "unets.0. has the key 'self_atn'"),
        (lambda d: d.update(timestep=5), "decoder has the key 'timestep', which Decoder"),
        (lambda d: d["unets"][0].update(dim=16), "tensors differ, first 'unets.0"),
        (lambda d: d.update(image_sizes=[16, 32]), "is no valid Decoder .*number of u-nets"),
        (lambda d: d.update(clip={"model": "ViT-L/14"}), "clip names ViT-L/14, which has patches"),
        (lambda d: d.update(vae=[{"dim": 3}]), "'vae' .* supports only ..; take another decoder"),
        (lambda d: d.update(channels=4), "'channels' with the value 4, .* only 3"),
        (lambda d: d.update(use_dynamic_thres=True), "'use_dynamic_thres' .* change the setting"),
        (lambda d: d.update(ddim_sampling_eta=0.5), "'ddim_sampling_eta' .* supports only 0"),
        (lambda d: d.update(unets=3), r"decoder.unets.0. is int and no object with settings"),
        (lambda d: d["unets"].append(None), r"decoder.unets.3. is NoneType and no object"),
        (lambda d: d.update(timesteps="x"), "is no valid Decoder .TypeError"),
        (lambda d: d["unets"][0].update(dim_mults=[]), "is no valid Unet"),
        (lambda d: d["unets"][0].update(cond_dim=E), "image_embed_dim that equals cond_dim"),
        (lambda d: d["unets"][0].update(image_embed_dim=768), "embeddings of 768 numbers"),
        (lambda d: d["unets"][0].update(self_cond=True), "needs self-conditioning"),
        (
            lambda d: d["unets"][1].update(cond_on_text_encodings=True, text_embed_dim=TEXT),
            "needs captions for an upsampler",
        ),
    ],
)
def test_a_decoders_config_that_does_not_fit(tmp_path, folder, decoder, change, said):
    for name in ("clip", "prior"):
        (tmp_path / name).symlink_to(folder / name)
    config = decoder_config([16, 32, 64])
    change(config["decoder"])
    write(tmp_path / "decoder", config, {"model": decoder.state_dict(), "version": "0.9.9"})
    with pytest.raises(CheckpointError, match=said):
        bridge.load(tmp_path)


def test_a_schedule_that_nothing_can_be_learned_from():
    scheduler = dalle2_pytorch.dalle2_pytorch.NoiseScheduler
    with pytest.raises(CheckpointError, match="linear schedule of 20 timesteps"):
        diffusion_of(scheduler(beta_schedule="linear", timesteps=20, loss_type="l2"), False, False)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda p: p["clip"].update(model="ViT-B/32"),
            "patches of 32 px in pictures of 224 px, but",
        ),
        (lambda p: p.update(net=None), "prior.net is NoneType and no object with settings"),
        (lambda p: p.update(clip_adapter_overrides={"a": 1}), "'clip_adapter_overrides'"),
        (lambda p: p["net"].update(depth=-0.5), "is no valid DiffusionPriorNetwork .TypeError"),
        (lambda p: p["net"].update(dim=E + 1), "is no valid DiffusionPrior .AssertionError"),
    ],
)
def test_a_priors_config_that_does_not_fit(tmp_path, clip, prior, change, said):
    config = prior_config()
    change(config["prior"])
    with pytest.raises(CheckpointError, match=said):
        load_prior(write(tmp_path, config, {"model": prior.state_dict()}), clip)


@pytest.mark.parametrize(
    ("wrapped", "said"),
    [
        (lambda n: {"state_dict": {f"prior.module.{k}": v for k, v in n.state_dict().items()}}, ""),
        (lambda n: {"model": {k: v.half() for k, v in n.state_dict().items()}, "epoch": 3}, ""),
        (lambda n: [n.bfloat16().state_dict(), None], ""),
        (lambda n: n, "whole pickled module .dalle2_pytorch.*DiffusionPrior."),
        (lambda n: {"model": n}, r"DiffusionPrior. under .'model'., which is not read"),
        (lambda n: n.net.state_dict(), "the network of a prior without its DiffusionPrior"),
    ],
)
def test_layouts_of_a_priors_checkpoint(tmp_path, clip, prior, wrapped, said):
    fresh = built(DiffusionPriorConfig, prior_config()["prior"])
    fresh.load_state_dict(prior.state_dict())
    folder = write(tmp_path, prior_config(), wrapped(fresh))
    if said:
        with pytest.raises(CheckpointError, match=said):
            load_prior(folder, clip)
        return
    ours, theirs = load_prior(folder, clip).peer.state_dict(), prior.state_dict()
    assert all(torch.allclose(ours[k], theirs[k], rtol=1e-2, atol=1e-3) for k in theirs)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_does_not_round_the_noise_schedule(tmp_path, clip, prior, dtype):
    saved = {k: v.to(dtype) for k, v in prior.state_dict().items()}
    ours = load_prior(write(tmp_path, prior_config(), saved), clip).peer.state_dict()
    schedule = {k: v for k, v in prior.state_dict().items() if k.startswith("noise_scheduler.")}
    assert schedule and all(torch.equal(ours[k], schedule[k]) for k in schedule)
    config = prior_config()
    config["prior"]["beta_schedule"] = "linear"
    with pytest.raises(CheckpointError, match="another noise schedule .*'noise_scheduler.betas'"):
        load_prior(write(tmp_path, config, saved), clip)


def test_a_prior_for_another_clip(tmp_path, clip):
    config = prior_config()
    config["prior"]["image_embed_dim"] = config["prior"]["net"]["dim"] = 32
    with pytest.raises(CheckpointError, match="embeddings of 32 numbers, but the CLIP .* has 24"):
        load_prior(write(tmp_path, config, {"model": {}}), clip)
    with pytest.raises(CheckpointError, match="describes no prior: it has neither"):
        load_prior(write(tmp_path, decoder_config([16]), {"model": {}}), clip)
