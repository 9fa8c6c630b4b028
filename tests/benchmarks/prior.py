"""Priors: samples a second in training and in sampling, and how near they come to the true z_i.

All learn from the same embeddings of the committed CLIP, are four layers of width 128, predict z_i
itself on a cosine schedule of 1,000 steps, and draw with DDIM in ten steps, guidance 1.5.
"""

import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minidalle2.diffusion.guidance import drop_mask
from minidalle2.prior import DEVIATION, TEXT_DROP, Prior, PriorConfig, prior_loss
from minidalle2.tokenizer import PAD, empty_captions_like
from minidalle2.training.precision import half_precision
from minidalle2.worlds.shapes.world import Shapes
from tests.benchmarks import training
from tests.benchmarks.frozen import Frozen

BATCH, LEARNED, DRAWN = 256, 8_192, 256
STEPS, GUIDANCE = 10, 1.5
CONFIG = PriorConfig()
HEAD = CONFIG.width // CONFIG.heads


class DALLE2PyTorch(nn.Module):
    def __init__(self, frozen: Frozen):
        super().__init__()
        from dalle2_pytorch import DiffusionPrior, DiffusionPriorNetwork

        network = DiffusionPriorNetwork(
            dim=CONFIG.width,
            depth=CONFIG.layers,
            heads=CONFIG.heads,
            dim_head=HEAD,
            num_timesteps=CONFIG.timesteps,
            max_text_len=CONFIG.context_length,
        )
        self.model = DiffusionPrior(
            network,
            image_embed_dim=CONFIG.clip_embedding,
            timesteps=CONFIG.timesteps,
            cond_drop_prob=TEXT_DROP,
            condition_on_text_encodings=True,
        )
        self.frozen = [frozen]  # in a list, so that it is no part of the model

    def forward(self, z_i: Tensor, z_t: Tensor, tokens: Tensor) -> Tensor:
        _, features = self.frozen[0].read(tokens)
        # It scales what it is given in place.
        return self.model(image_embed=z_i.clone(), text_embed=z_t, text_encodings=features)

    def draw(self, z_t: Tensor, tokens: Tensor) -> Tensor:
        _, features = self.frozen[0].read(tokens)
        return self.model.p_sample_loop(
            z_t.shape,
            text_cond={"text_embed": z_t, "text_encodings": features},
            cond_scale=GUIDANCE,
            timesteps=STEPS,
        )


class DiffusersPrior(nn.Module):
    """diffusers has no training of its own: noise, target and dropped texts are as in its example
    of Kandinsky, DDIM its own scheduler."""

    scale = DEVIATION * CONFIG.clip_embedding**0.5

    def __init__(self, frozen: Frozen):
        super().__init__()
        from diffusers import DDIMScheduler, PriorTransformer

        self.model = PriorTransformer(
            num_attention_heads=CONFIG.heads,
            attention_head_dim=HEAD,
            num_layers=CONFIG.layers,
            embedding_dim=CONFIG.clip_embedding,
            num_embeddings=CONFIG.context_length,
        )
        self.schedule = DDIMScheduler(
            beta_schedule="squaredcos_cap_v2",
            prediction_type="sample",
            clip_sample=False,
            timestep_spacing="trailing",
        )
        self.frozen = [frozen]

    def answer(self, noised: Tensor, t: Tensor, z_t: Tensor, tokens: Tensor) -> Tensor:
        """It reads texts of its context length only."""
        tokens = F.pad(tokens, (0, CONFIG.context_length - tokens.shape[1]), value=PAD)
        _, features = self.frozen[0].read(tokens)
        return self.model(
            noised,
            t,
            proj_embedding=z_t,
            encoder_hidden_states=features,
            attention_mask=tokens != PAD,
        ).predicted_image_embedding

    def forward(self, z_i: Tensor, z_t: Tensor, tokens: Tensor) -> Tensor:
        drop = drop_mask(len(z_i), TEXT_DROP, torch.Generator().manual_seed(int(tokens.sum())))
        tokens = torch.where(drop[:, None], empty_captions_like(tokens), tokens)
        z_t = torch.where(drop[:, None], 0.0, z_t)
        target, t = z_i * self.scale, torch.randint(CONFIG.timesteps, (len(z_i),))
        noised = self.schedule.add_noise(target, torch.randn_like(target), t)
        return F.mse_loss(self.answer(noised, t, z_t, tokens).float(), target)

    @torch.no_grad()
    def draw(self, z_t: Tensor, tokens: Tensor) -> Tensor:
        self.schedule.set_timesteps(STEPS)
        z = torch.randn(z_t.shape)
        both_t = torch.cat((z_t, torch.zeros_like(z_t)))
        both_tokens = torch.cat((tokens, empty_captions_like(tokens)))
        for t in self.schedule.timesteps:
            answer = self.answer(torch.cat((z, z)), t, both_t, both_tokens).float()
            given, free = answer.chunk(2)
            z = self.schedule.step(free + GUIDANCE * (given - free), t, z).prev_sample
        return z


def ours(seconds: float, seed: int) -> dict:
    model, frozen = Prior(CONFIG), Frozen.load()
    optimizers = training.our_optimizers(model)

    def draw(average: Prior, z_t: Tensor, tokens: Tensor) -> Tensor:
        x_T = torch.randn(len(z_t), 1, CONFIG.clip_embedding)
        return average.candidates(z_t, tokens, x_T, STEPS, GUIDANCE)[:, 0]

    return _measure(model, frozen, prior_loss, optimizers, draw, seconds, seed)


def _theirs(kind: type[nn.Module]):
    def measure(seconds: float, seed: int) -> dict:
        frozen = Frozen.load()
        model = kind(frozen)
        return _measure(
            model,
            frozen,
            lambda model, batch, generator: model(*batch),
            training.peers_optimizers(model),
            lambda average, *text: average.draw(*text),
            seconds,
            seed,
        )

    return measure


MEASURES = {
    "minidalle2": ours,
    "dalle2-pytorch": _theirs(DALLE2PyTorch),
    "diffusers": _theirs(DiffusersPrior),
}


def _measure(
    model: nn.Module, frozen: Frozen, loss, optimizers, draw: Callable, seconds: float, seed: int
) -> dict:
    generator = torch.Generator().manual_seed(1)
    images, captions = Shapes().captioned(LEARNED, generator)
    z_i = torch.cat([frozen.see(part) for part in images.split(512)])
    tokens = frozen.tokenizer(captions)
    z_t = torch.cat([frozen.read(part)[0] for part in tokens.split(512)])

    def data(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        rows = torch.randint(LEARNED, (n,), generator=generator)
        longest = int((tokens[rows] != PAD).sum(1).max())
        return z_i[rows], z_t[rows], tokens[rows, :longest]

    done = training.train_for(seconds, model, data, loss, optimizers, BATCH, seed)
    images, captions = Shapes().captioned(DRAWN, torch.Generator().manual_seed(2), "seen")
    truth, asked = frozen.see(images), frozen.tokenizer(captions)
    asked_z_t = frozen.read(asked)[0]
    with torch.no_grad(), half_precision(training.CPU):
        draw(done.model, asked_z_t[:8], asked[:8])
        started = time.perf_counter()
        drawn = draw(done.model, asked_z_t, asked)
        spent = time.perf_counter() - started
    return {
        "parameters": training.parameters(model),
        "steps": done.steps,
        "trained samples/s": done.per_second,
        "drawn samples/s": DRAWN / spent,
        "cosine to the true z_i": F.cosine_similarity(drawn.float(), truth).mean().item(),
    }
