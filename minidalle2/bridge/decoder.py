"""DALLE2-PyTorch's decoder and upsamplers, as generate's: each of its U-Nets stands for a stage.

Image embedding and caption → 64 px → 256 px → 1024 px, or whatever the config says. The networks
are the peer's own, the sampler is ours: guided variances and dynamic thresholds, which the peer's
has, stay out.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minidalle2.bridge.checkpoint import Published, only_file, read_checkpoint, read_json
from minidalle2.bridge.openai_clip import OpenAICLIP
from minidalle2.bridge.peer import build, dalle2_pytorch, diffusion_of, fill_peer, section
from minidalle2.bridge.prior import caption_features, without_clip
from minidalle2.decoder import CHANNELS
from minidalle2.diffusion.guidance import Denoiser, guided
from minidalle2.diffusion.sampling import Noise
from minidalle2.training.checkpoints import CheckpointError

LENGTH_TOLERANCE = 1e-2  # of unit vectors, for those that come from half precision


@dataclass
class StageConfig:
    """What generate asks of a stage's config."""

    image_size: int  # pixels of what it draws

    @property
    def size(self) -> int:
        return self.image_size


class PublishedDecoder(nn.Module):
    """The first U-Net of the peer's Decoder: z_i and caption → pictures."""

    lowest = 0  # the peer draws down to the first timestep

    def __init__(self, peer: nn.Module, clip: OpenAICLIP):
        super().__init__()
        self.peer, self.clip = peer, clip
        self.config = StageConfig(peer.image_sizes[0])
        self.steps = peer.sample_timesteps[0]  # as its config says, None where it does not
        self.diffusion = diffusion_of(
            peer.noise_schedulers[0], peer.predict_x_start[0], peer.predict_v[0]
        )

    def denoiser(self, z_i: Tensor, tokens: Tensor, scale: float) -> Denoiser:
        """The U-Net with its conditions bound and guidance applied. A scale of 0 draws without any
        condition, 1 without guidance. Raises ValueError for embeddings that are not unit vectors.
        """
        check_unit(z_i)
        if scale != 1 and not self.peer.can_classifier_guidance:
            raise ValueError(
                f"this decoder was trained without dropping its conditions, so a guidance of "
                f"{scale} means nothing to it; use decoder_guidance=1"
            )
        unet, given = self.peer.unets[0], {"image_embed": z_i}
        if unet.cond_on_text_encodings:
            given["text_encodings"] = caption_features(self.clip, tokens)
        dropped = {"image_cond_drop_prob": 1.0, "text_cond_drop_prob": 1.0}
        return guided(
            lambda x_t, t: unet(x_t, t, **given),
            lambda x_t, t: unet(x_t, t, **given, **dropped),
            scale,
            CHANNELS,
        )


class PublishedUpsampler(nn.Module):
    """A later U-Net of the peer's Decoder: pictures → larger pictures."""

    def __init__(self, peer: nn.Module, index: int):
        super().__init__()
        self.unet, self.config = peer.unets[index], StageConfig(peer.image_sizes[index])
        self.low_size = peer.image_sizes[index - 1]
        self.conditioner = peer.lowres_conds[index]
        self.noise_level = int(1000 * peer.lowres_noise_sample_level)
        self.steps = peer.sample_timesteps[index]
        self.diffusion = diffusion_of(
            peer.noise_schedulers[index], peer.predict_x_start[index], peer.predict_v[index]
        )

    def denoiser(self, low: Tensor) -> Denoiser:
        """The U-Net with its small picture (B, 3, S, S) bound, enlarged as in its training."""
        enlarged = F.interpolate(low, self.config.size, mode="nearest").clamp(-1, 1)
        given = {"lowres_cond_img": enlarged}
        if self.conditioner.use_noise:
            level = torch.full((len(low),), self.noise_level, device=low.device)
            # One noise for all: a picture is to depend on its own seed alone.
            noise = Noise([0] * len(low))(*enlarged.shape[1:]).to(low)
            scheduler = self.conditioner.noise_scheduler
            given["lowres_cond_img"] = scheduler.q_sample(enlarged, level, noise)
            given["lowres_noise_level"] = level
        return lambda x_t, t: self.unet(x_t, t, image_embed=None, **given)


def check_unit(z_i: Tensor) -> None:
    """Raises ValueError for embeddings (B, E) as CLIP's projection gives them."""
    lengths = z_i.norm(dim=-1)
    worst = lengths[(lengths - 1).abs().argmax()].item()
    if not abs(worst - 1) < LENGTH_TOLERANCE:
        raise ValueError(
            f"an image embedding has length {worst:.3g}, but decoders were trained on unit ones "
            "and draw noise from others; normalise it: F.normalize(z_i, dim=-1)"
        )


def load_decoder(folder: Path, clip: OpenAICLIP) -> nn.Module:
    """The peer's Decoder with all its U-Nets, from a folder with a training config (JSON) and a
    checkpoint. Raises CheckpointError."""
    package, published = dalle2_pytorch(), read_checkpoint(folder)
    path = only_file(folder, (".json",), "config")
    settings = dict(section(read_json(path), "decoder", str(path)))
    settings.pop("clip", None)
    unets = [
        build(package.Unet, unet, f"{path}, decoder.unets[{i}]")
        for i, unet in enumerate(settings.pop("unets"))
    ]
    peer = build(package.Decoder, settings, f"{path}, decoder", unet=tuple(unets))
    check_drawable(peer, clip, path)
    tensors = without_clip(averaged(published), clip, published)
    fill_peer(peer, tensors, published)
    return peer


def check_drawable(peer: nn.Module, clip: OpenAICLIP, path: Path) -> None:
    """Raises CheckpointError for what generate has no way to give, or the peer draws wrongly."""
    if peer.unconditional:
        raise CheckpointError(f"{path} describes a decoder without conditions; generate needs both")
    first = peer.unets[0].image_to_tokens
    if isinstance(first, nn.Identity):
        raise CheckpointError(
            f"{path} has an image_embed_dim that equals cond_dim, for which DALLE2-PyTorch gives "
            "each picture the embeddings of the others; no config can mend a network trained so"
        )
    if first[0].in_features != clip.config.embedding:
        raise CheckpointError(
            f"{path} is for image embeddings of {first[0].in_features} numbers, but CLIP beside it "
            f"makes {clip.config.embedding}; it was trained with another CLIP"
        )
    for i, unet in enumerate(peer.unets):
        if unet.self_cond or (i and unet.cond_on_text_encodings):
            what = "self-conditioning" if unet.self_cond else "captions for an upsampler"
            raise CheckpointError(
                f"{path}, decoder.unets[{i}] asks for {what}, which the bridge has no way for"
            )


def averaged(published: Published) -> dict[str, Tensor]:
    """The state dict, each U-Net's weights replaced by their moving average where there is one."""
    tensors = dict(published.state.get("model", published.state))
    for name, value in published.state.get("ema", {}).items():
        index, _, rest = name.partition(".")
        if rest.startswith("ema_model."):
            tensors[f"unets.{index}.{rest.removeprefix('ema_model.')}"] = value
    return tensors
