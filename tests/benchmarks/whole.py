"""From a prompt to 128 px: seconds a picture and peak memory, at equal parameters and steps.

Both draw a batch of four with two candidates, one drawing of the better, and 10, 12, 6 and 4 steps
in the prior, the decoder and the two upsamplers. dalle2-pytorch has fresh weights: how long a
network takes does not depend on what it has learned. Its unets have widths that give the decoder
and the upsamplers about our number of parameters; its CLIP is x-clip's.
"""

import resource
import sys
import time

import torch
from torch import nn

from minidalle2.clip import CLIPConfig
from minidalle2.dalle2 import DALLE2, Sampling
from minidalle2.prior import PriorConfig
from minidalle2.storage.checkpoints import load_tokenizer
from minidalle2.training.precision import half_precision
from tests.benchmarks import training
from tests.benchmarks.frozen import FOLDER

PROMPTS = [
    "a large red circle",
    "a small red circle above a large blue square",
    "a large yellow heart to the left of a small purple moon",
    "a sign that says star",
]
SAMPLING = Sampling(candidates=2, drawings=1)  # the paper's way
E = 128


def ours(seconds: float, seed: int) -> dict:
    dalle2 = DALLE2.load(FOLDER)
    names = ("clip", "prior", "decoder", "upsampler64", "upsampler128")
    parts = [getattr(dalle2, name) for name in names]
    return _measure(lambda: dalle2.generate(PROMPTS, None, SAMPLING).image128, parts, seconds)


def dalle2_pytorch(seconds: float, seed: int) -> dict:
    import x_clip
    from dalle2_pytorch import DALLE2 as Theirs
    from dalle2_pytorch import Decoder, DiffusionPrior, DiffusionPriorNetwork, Unet

    clip, prior = CLIPConfig(), PriorConfig()
    their_clip = x_clip.CLIP(
        dim_text=E,
        dim_image=E,
        dim_latent=E,
        num_text_tokens=clip.vocab_size,
        text_seq_len=clip.context_length,
        text_enc_depth=clip.text_layers,
        text_heads=4,
        text_dim_head=32,
        visual_enc_depth=clip.image_layers,
        visual_heads=4,
        visual_dim_head=32,
        visual_image_size=32,
        visual_patch_size=4,
        visual_patch_dropout=0.0,
    ).eval()
    their_prior = DiffusionPrior(
        DiffusionPriorNetwork(dim=E, depth=prior.layers, heads=4, dim_head=32, max_text_len=64),
        clip=their_clip,
        cond_drop_prob=0.1,
        sample_timesteps=SAMPLING.prior_steps,
    )
    first = Unet(
        dim=24,
        image_embed_dim=E,
        text_embed_dim=E,
        cond_dim=96,
        dim_mults=(1, 2, 3, 4),
        num_resnet_blocks=1,
        attn_heads=4,
        cond_on_text_encodings=True,
        max_text_len=64,
        cond_on_image_embeds=True,
    )
    enlarge = [
        Unet(
            dim=16,
            image_embed_dim=E,
            cond_dim=96,
            dim_mults=(1, 2, 4),
            num_resnet_blocks=1,
            attn_heads=4,
            attend_at_middle=False,
            cond_on_image_embeds=False,
            add_image_embeds_to_time=False,
        )
        for _ in range(2)
    ]
    steps = (SAMPLING.decoder_steps, SAMPLING.upsampler64_steps, SAMPLING.upsampler128_steps)
    decoder = Decoder(
        (first, *enlarge),
        clip=their_clip,
        image_sizes=(32, 64, 128),
        timesteps=1000,
        sample_timesteps=steps,
        predict_v=True,
        learned_variance=False,
    )
    dalle2 = Theirs(prior=their_prior, decoder=decoder, prior_num_samples=2).eval()
    tokens = load_tokenizer(FOLDER / "tokenizer.json")(PROMPTS)
    guidance = {
        "cond_scale": SAMPLING.decoder_guidance,
        "prior_cond_scale": SAMPLING.prior_guidance,
    }
    parts = [their_clip, their_prior.net, *decoder.unets]
    return _measure(lambda: dalle2(tokens, **guidance), parts, seconds)


MEASURES = {"minidalle2": ours, "dalle2-pytorch": dalle2_pytorch}


@torch.no_grad()
def _measure(draw, parts: list[nn.Module], seconds: float) -> dict:
    """Draw until the seconds are over, at least once after a first time that is not counted."""
    spent = []
    with half_precision(training.CPU):
        assert draw().shape == (len(PROMPTS), 3, 128, 128)
        started = time.perf_counter()
        while not spent or time.perf_counter() - started < seconds:
            before = time.perf_counter()
            draw()
            spent.append(time.perf_counter() - before)
    kilo = 1 if sys.platform == "darwin" else 1024
    return {
        "parameters": sum(p.numel() for part in parts for p in part.parameters()),
        "s/picture": sorted(spent)[len(spent) // 2] / len(PROMPTS),
        "peak memory, MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * kilo / 1e6,
    }
