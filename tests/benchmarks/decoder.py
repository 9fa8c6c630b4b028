"""Decoders: images a second at equal parameters, and prompts drawn right after equal seconds.

All draw 32 px from the committed CLIP's z_i and from the caption, in 12 DDIM steps, guidance 2. The
prompts' z_i come from the committed prior, the same for all; the committed judge reads the
pictures. Prompts are of one and of two objects, half each.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minidalle2.decoder import CAPTION_DROP, IMAGE_DROP, Decoder
from minidalle2.diffusion.guidance import drop_mask
from minidalle2.diffusion.sampling import Noise, clip_to_image, ddim, last
from minidalle2.prior import Prior, PriorConfig
from minidalle2.storage.checkpoints import load_model
from minidalle2.tokenizer import empty_captions_like
from minidalle2.training.precision import half_precision
from minidalle2.training.recipe import Recipe
from minidalle2.unclip import nearest
from minidalle2.worlds.catalogue import load_judge
from minidalle2.worlds.shapes.evaluation.prompts import asked, follows
from minidalle2.worlds.shapes.judge import read
from minidalle2.worlds.shapes.world import Shapes
from tests.benchmarks import training
from tests.benchmarks.frozen import FOLDER, Frozen

BATCH, PROMPTS = 64, 100  # prompts of each kind
STEPS, GUIDANCE, E = 12, 2.0, 128


class DALLE2PyTorch(nn.Module):
    """v-prediction without a learned variance: with its default, eps and a learned one, losses are
    reported to become NaN. cond_dim is not 128, for it refuses the width of z_i."""

    def __init__(self, frozen: Frozen):
        super().__init__()
        from dalle2_pytorch import Decoder as Theirs
        from dalle2_pytorch import Unet

        unet = Unet(
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
        self.model = Theirs(
            unet,
            image_size=32,
            timesteps=1000,
            sample_timesteps=STEPS,
            predict_v=True,
            learned_variance=False,
            image_cond_drop_prob=IMAGE_DROP,
            text_cond_drop_prob=CAPTION_DROP,
        )
        self.frozen = [frozen]  # in a list, so that it is no part of the model

    def forward(self, images: Tensor, z_i: Tensor, tokens: Tensor) -> Tensor:
        _, features = self.frozen[0].read(tokens)
        return self.model((images + 1) / 2, image_embed=z_i, text_encodings=features)

    def draw(self, z_i: Tensor, tokens: Tensor) -> Tensor:
        _, features = self.frozen[0].read(tokens)
        drawn = self.model.sample(image_embed=z_i, text_encodings=features, cond_scale=GUIDANCE)
        return drawn * 2 - 1


class DiffusersUNet(nn.Module):
    """The U-Net of its pipelines, v-prediction: z_i joins the timestep, the caption is context."""

    def __init__(self, frozen: Frozen):
        super().__init__()
        from diffusers import DDIMScheduler, UNet2DConditionModel

        self.model = UNet2DConditionModel(
            sample_size=32,
            in_channels=3,
            out_channels=3,
            block_out_channels=(24, 48, 80, 104),
            layers_per_block=1,
            norm_num_groups=8,
            cross_attention_dim=E,
            attention_head_dim=(1, 2, 2, 4),  # despite its name the number of heads
            down_block_types=("DownBlock2D", *3 * ["CrossAttnDownBlock2D"]),
            up_block_types=(*3 * ["CrossAttnUpBlock2D"], "UpBlock2D"),
            class_embed_type="projection",
            projection_class_embeddings_input_dim=E,
        ).to(memory_format=torch.channels_last)
        self.schedule = DDIMScheduler(
            beta_schedule="squaredcos_cap_v2",
            prediction_type="v_prediction",
            timestep_spacing="trailing",
        )
        self.frozen = [frozen]

    def answer(self, x_t: Tensor, t: Tensor, z_i: Tensor, tokens: Tensor) -> Tensor:
        _, features = self.frozen[0].read(tokens)
        real = features.abs().sum(-1) > 0
        z_i = z_i * E**0.5
        return self.model(
            x_t, t, features, class_labels=z_i, encoder_attention_mask=real
        ).sample.float()

    def forward(self, images: Tensor, z_i: Tensor, tokens: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(int(tokens.sum()))
        drop_image = drop_mask(len(images), IMAGE_DROP, generator)[:, None]
        drop_caption = drop_mask(len(images), CAPTION_DROP, generator)[:, None]
        tokens = torch.where(drop_caption, empty_captions_like(tokens), tokens)
        eps, t = torch.randn_like(images), torch.randint(1000, (len(images),))
        target = self.schedule.get_velocity(images, eps, t)
        x_t = self.schedule.add_noise(images, eps, t)
        return F.mse_loss(self.answer(x_t, t, torch.where(drop_image, 0.0, z_i), tokens), target)

    def draw(self, z_i: Tensor, tokens: Tensor) -> Tensor:
        self.schedule.set_timesteps(STEPS)
        x = torch.randn(len(z_i), 3, 32, 32)
        z_i = torch.cat((z_i, torch.zeros_like(z_i)))
        tokens = torch.cat((tokens, empty_captions_like(tokens)))
        for t in self.schedule.timesteps:
            given, free = self.answer(torch.cat((x, x)), t, z_i, tokens).chunk(2)
            x = self.schedule.step(free + GUIDANCE * (given - free), t, x).prev_sample
        return x


def ours(seconds: float, seed: int) -> dict:
    job = training.our_job("decoder", Recipe(steps=1, batch_size=BATCH, seed=seed))
    model = job.model
    done = training.train_for(
        seconds, model, job.data, job.loss, training.our_optimizers(model), BATCH, seed
    )

    def draw(z_i: Tensor, tokens: Tensor) -> Tensor:
        decoder: Decoder = done.model.decoder
        x_T = Noise(list(range(len(z_i))))(3, 32, 32)
        denoise = decoder.denoiser(z_i, tokens, GUIDANCE)
        return last(ddim(decoder.diffusion, denoise, x_T, STEPS, clip_to_image))

    return _numbers(model.decoder, done, Frozen.load(), draw)


def _theirs(kind: type[nn.Module]):
    def measure(seconds: float, seed: int) -> dict:
        frozen, world = Frozen.load(), Shapes()
        model = kind(frozen)

        def data(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
            images, captions = world.captioned(n, generator)
            return images, frozen.see(images), frozen.tokenizer(captions)

        done = training.train_for(
            seconds,
            model,
            data,
            lambda model, batch, generator: model(*batch),
            training.peers_optimizers(model),
            BATCH,
            seed,
        )
        return _numbers(model, done, frozen, done.model.draw)

    return measure


MEASURES = {
    "minidalle2": ours,
    "dalle2-pytorch": _theirs(DALLE2PyTorch),
    "diffusers": _theirs(DiffusersUNet),
}


@torch.no_grad()
def _numbers(model: nn.Module, done: training.Trained, frozen: Frozen, draw: Callable) -> dict:
    """`model` is what is kept after training."""
    prior = load_model(FOLDER / "prior", "prior", PriorConfig, Prior)
    judge, right = load_judge("shapes", FOLDER, training.CPU), 0
    for name in ("one object", "two objects"):
        scenes, prompts = asked(name, PROMPTS, seed=0)
        tokens = frozen.tokenizer(prompts)
        z_t, _ = frozen.read(tokens)
        with half_precision(training.CPU):
            x_T = Noise(list(range(PROMPTS)))(2, E)
            candidates = prior.candidates(z_t, tokens, x_T, 10, 1.5)
            drawn = draw(nearest(candidates, z_t)[:, 0], tokens)
        right += int(follows(scenes, read(judge, drawn.float().clamp(-1, 1))).sum())
    return {
        "parameters": training.parameters(model),
        "steps": done.steps,
        "trained images/s": done.per_second,
        "prompts drawn right, %": 100 * right / (2 * PROMPTS),
    }
