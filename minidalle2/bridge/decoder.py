"""DALLE2-PyTorch's decoder and upsamplers as stages of `generate`: each U-Net is one stage.

Image embedding and caption → 64 px → 256 px → 1024 px, or other sizes if the config says so. In
this folder, "the peer" is DALLE2-PyTorch. The networks are the peer's, the sampler is minidalle2's.
Left out: the guided variances and the dynamic thresholding of the peer's sampler.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minidalle2.bridge.checkpoint import Published, read_checkpoint
from minidalle2.bridge.files import only_file, read_json
from minidalle2.bridge.openai_clip import OpenAICLIP
from minidalle2.bridge.peer import (
    build,
    dalle2_pytorch,
    diffusion_of,
    fill_peer,
    reject,
    section,
    settings_of,
)
from minidalle2.bridge.prior import caption_features, check_name, without_clip
from minidalle2.bridge.recognise import A_DECODER
from minidalle2.bridge.state_dict import find_network, flat, named
from minidalle2.decoder import CHANNELS
from minidalle2.diffusion.guidance import Denoiser, guided
from minidalle2.diffusion.sampling import Noise
from minidalle2.storage.checkpoints import CheckpointError
from minidalle2.storage.inputs import UNIT

MARKS = ("unets.0.to_time_hiddens.1.weight",)  # a tensor that each decoder has
AVERAGE = re.compile(r"^(\d+)\.ema_model\.")
# The only values that are supported, of settings that change the pictures.
ARCHITECTURE = {"channels": CHANNELS, "vae": [], "clip_adapter_overrides": {}}
SAMPLER = {"use_dynamic_thres": False, "ddim_sampling_eta": 0}


@dataclass
class StageConfig:
    """The part of a stage's config that `generate` needs."""

    image_size: int  # side of the pictures that the stage draws, in pixels

    @property
    def size(self) -> int:
        return self.image_size


class PublishedDecoder(nn.Module):
    """The first U-Net of the peer's Decoder: z_i (B, E) and tokens (B, T) → (B, 3, S, S)."""

    def __init__(self, peer: nn.Module, clip: OpenAICLIP):
        super().__init__()
        self.peer, self.clip = peer, clip
        self.config = StageConfig(peer.image_sizes[0])
        self.steps = peer.sample_timesteps[0]  # sampling steps of its config; None if not given
        self.diffusion = diffusion_of(
            peer.noise_schedulers[0], peer.predict_x_start[0], peer.predict_v[0]
        )

    def denoiser(
        self, z_i: Tensor, tokens: Tensor, scale: float, guided_above: float = 0.0
    ) -> Denoiser:
        """The U-Net with its conditions bound and guidance applied at every timestep.

        z_i (B, E) unit length, tokens (B, T). With scale 0 the conditions are not used; scale 1
        means no guidance. Raises ValueError for embeddings that are not unit vectors, for a
        `guided_above` other than 0, and for a scale other than 1 if the decoder cannot be guided.
        """
        if guided_above:
            raise ValueError(
                "published decoders are guided at every timestep, so guided_above must be 0, not "
                f"{guided_above}"
            )
        check_unit(z_i)
        if scale != 1 and not self.peer.can_classifier_guidance:
            raise ValueError(
                "this decoder was trained without dropping its conditions, so it can't be guided "
                f"with a scale of {scale}; use decoder_guidance=1"
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
    """A later U-Net of the peer's Decoder: pictures → larger pictures (B, 3, S, S)."""

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
        """The U-Net with the smaller pictures (B, 3, S, S) bound, enlarged as in its training."""
        enlarged = F.interpolate(low, self.config.size, mode="nearest").clamp(-1, 1)
        given = {"lowres_cond_img": enlarged}
        if self.conditioner.use_noise:
            level = torch.full((len(low),), self.noise_level, device=low.device)
            # All pictures get the same noise, so that none depends on the others of its batch.
            noise = Noise([0] * len(low))(*enlarged.shape[1:]).to(low)
            scheduler = self.conditioner.noise_scheduler
            given["lowres_cond_img"] = scheduler.q_sample(enlarged, level, noise)
            given["lowres_noise_level"] = level
        return lambda x_t, t: self.unet(x_t, t, image_embed=None, **given)


def check_unit(z_i: Tensor) -> None:
    """Raises ValueError if embeddings (B, E) are not normalised."""
    lengths = z_i.norm(dim=-1)
    worst = lengths[(lengths - 1).abs().argmax()].item()
    if not abs(worst - 1) < UNIT:
        raise ValueError(
            f"an image embedding has length {worst:.3g}, but the decoder was trained on unit "
            "vectors and draws noise from others; normalise it: F.normalize(z_i, dim=-1)"
        )


def load_decoder(folder: Path, clip: OpenAICLIP) -> nn.Module:
    """Reads the peer's Decoder with all its U-Nets.

    `folder` must contain one training config (JSON) and one checkpoint. Raises CheckpointError if
    one is missing, if they do not fit, or if `generate` can't use such a decoder.
    """
    package, published = dalle2_pytorch(), read_checkpoint(folder)
    path = only_file(folder, (".json",), "config")
    settings = section(read_json(path), "decoder", "unets", str(path))
    check_name(settings.pop("clip", None), clip, f"{path}, decoder.clip")
    reject(settings, ARCHITECTURE, f"{path}, decoder", "take another decoder")
    change = "change the setting to this value to use minidalle2's sampler"
    reject(settings, SAMPLER, f"{path}, decoder", change)
    unets = settings.pop("unets")
    unets = [
        build(package.Unet, settings_of(unet, where), where)
        for i, unet in enumerate(unets if isinstance(unets, list) else [unets])
        for where in [f"{path}, decoder.unets[{i}]"]
    ]
    peer = build(package.Decoder, settings, f"{path}, decoder", unet=tuple(unets))
    check_drawable(peer, clip, path)
    entries = without_clip(averaged(published), clip, published)
    fill_peer(peer, entries, published)
    return peer


def check_drawable(peer: nn.Module, clip: OpenAICLIP, path: Path) -> None:
    """Raises CheckpointError for a decoder that `generate` can't use.

    Such a decoder needs inputs that `generate` does not have, or is drawn incorrectly by the peer.
    """
    if peer.unconditional:
        raise CheckpointError(
            f"{path} describes a decoder without conditions, but generate needs a decoder of image "
            "embeddings"
        )
    first = peer.unets[0].image_to_tokens
    if isinstance(first, nn.Identity):
        raise CheckpointError(
            f"{path} has an image_embed_dim that equals cond_dim; in this case DALLE2-PyTorch "
            "mixes the embeddings of the pictures in a batch, so no network trained with it works"
        )
    if first[0].in_features != clip.config.embedding:
        raise CheckpointError(
            f"{path} is for image embeddings of {first[0].in_features} numbers, but the CLIP "
            f"beside it has {clip.config.embedding}; the decoder was trained with another CLIP"
        )
    for i, unet in enumerate(peer.unets):
        if unet.self_cond or (i and unet.cond_on_text_encodings):
            what = "self-conditioning" if unet.self_cond else "captions for an upsampler"
            raise CheckpointError(
                f"{path}, decoder.unets[{i}] needs {what}, which minidalle2 does not support"
            )


def averaged(published: Published) -> dict[str, Any]:
    """The entries of the decoder, with the moving averages of the U-Nets' weights if there are any.

    The peer's trainer saves the averages under names such as "0.ema_model.to_out.weight". Raises
    CheckpointError if the checkpoint has more than one decoder, or more than one set of averages.
    """
    entries = find_network(published, MARKS, A_DECODER)
    groups = {
        where: found
        for where, group in flat(published.content, published.path).items()
        if (found := {k: v for k, v in group.items() if AVERAGE.match(k)})
    }
    if len(groups) > 1:
        raise CheckpointError(
            f"{published.path} holds moving averages under {named(groups)}; save the "
            "checkpoint with one of them"
        )
    averages = next(iter(groups.values()), {})
    return entries | {AVERAGE.sub(r"unets.\1.", name): value for name, value in averages.items()}
