"""DALLE2-PyTorch's diffusion prior as the prior of `generate`.

z_t (B, E) and tokens (B, T) → candidates of z_i (B, n, E). The network, its config and its weights
are the peer's (DALLE2-PyTorch's), the sampler is minidalle2's. The prior also reads CLIP's features
of all tokens of the caption, so it contains the CLIP that computes them.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
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
from minidalle2.bridge.recognise import A_PRIOR
from minidalle2.bridge.state_dict import find_network
from minidalle2.diffusion.guidance import Denoiser, guided
from minidalle2.diffusion.sampling import ddim, last, no_clip
from minidalle2.storage.checkpoints import CheckpointError

MARKS = ("net.learned_query",)  # a tensor that each prior has, whatever its version
SIZES_IN_NAME = re.compile(r"ViT-[A-Za-z]+[-/](\d+)(?:[-@\w]*?[-@](\d{2,3})(?=px|-|$))?")
CLIP_PREFIX = "clip.clip."  # of the CLIP's tensors in the checkpoint of a prior or decoder


class PublishedPrior(nn.Module):
    """The peer's DiffusionPrior with the interface that `generate` needs."""

    def __init__(self, peer: nn.Module, clip: OpenAICLIP):
        super().__init__()
        self.peer, self.clip = peer, clip
        self.diffusion = diffusion_of(peer.noise_scheduler, peer.predict_x_start, peer.predict_v)

    @property
    def noise_size(self) -> int:
        return self.peer.image_embed_dim

    @property
    def can_be_guided(self) -> bool:
        return self.peer.can_classifier_guidance

    def denoiser(self, z_t: Tensor, tokens: Tensor, guidance: float) -> Denoiser:
        """The network (noisy scaled z_i (B, E), t (B,)) → (B, E) with its text and guidance bound.

        z_t (B, E) unit length, tokens (B, T). In the unconditional pass the network does not see
        the noisy z_i either, as in its training. Raises ValueError for a scale other than 1 if the
        prior cannot be guided.
        """
        if guidance != 1 and not self.can_be_guided:
            raise ValueError(
                "this prior was trained without dropping its text, so it can't be guided with a "
                f"scale of {guidance}; use prior_guidance=1"
            )
        text = {"text_embed": z_t}
        if self.peer.condition_on_text_encodings:
            text["text_encodings"] = caption_features(self.clip, tokens)
        dropped = {"text_cond_drop_prob": 1.0, "image_cond_drop_prob": 1.0}
        return guided(
            lambda z, t: self.peer.net(z, t, **text),
            lambda z, t: self.peer.net(z, t, **text, **dropped),
            guidance,
            self.noise_size,
        )

    def candidates(
        self, z_t: Tensor, tokens: Tensor, x_T: Tensor, steps: int, guidance: float
    ) -> Tensor:
        """Noise x_T (B, n, E) → n candidates of z_i for each caption (B, n, E), unit length."""
        n = x_T.shape[1]
        denoise = self.denoiser(
            repeat(z_t, "b e -> (b n) e", n=n), repeat(tokens, "b t -> (b n) t", n=n), guidance
        )
        z_T = rearrange(x_T, "b n e -> (b n) e")
        if self.peer.init_image_embed_l2norm:
            z_T = self.peer.l2norm_clamp_embed(z_T)
        z = last(ddim(self.diffusion, denoise, z_T, steps, self._clip()))
        return rearrange(F.normalize(z, dim=-1), "(b n) e -> b n e", n=n)

    def _clip(self) -> Callable[[Tensor], Tensor]:
        return self.peer.l2norm_clamp_embed if self.peer.sampling_clamp_l2norm else no_clip


def caption_features(clip: OpenAICLIP, tokens: Tensor) -> Tensor:
    """(B, T) → (B, T, D) CLIP's features of the tokens, and zeros where the peer ignores them.

    The peer ignores tokens after the end token. It also ignores the first "!" of "!!", which has
    the same id as padding. The networks were trained in this way.
    """
    ended = (tokens == clip.config.vocab_size - 1).cumsum(1)
    before = F.pad(ended == 0, (1, -1), value=True)  # includes the end token itself
    return clip.text_features(tokens) * (before & (tokens != 0))[..., None]


def load_prior(folder: Path, clip: OpenAICLIP) -> PublishedPrior:
    """Reads a prior from a folder with one training config (JSON) and one checkpoint.

    Raises CheckpointError if one is missing, if they do not fit, or if the prior was trained with
    another CLIP.
    """
    package, published = dalle2_pytorch(), read_checkpoint(folder)
    path = only_file(folder, (".json",), "config")
    settings = section(read_json(path), "prior", "net", str(path))
    check_name(settings.pop("clip", None), clip, f"{path}, prior.clip")
    reject(settings, {"clip_adapter_overrides": {}}, f"{path}, prior", "take another prior")
    network = build(
        package.DiffusionPriorNetwork,
        settings_of(settings.pop("net"), f"{path}, prior.net"),
        f"{path}, prior.net",
        (package.CausalTransformer,),
    )
    if network.self_cond:
        raise CheckpointError(f"{path} needs self-conditioning, which minidalle2 does not support")
    peer = build(package.DiffusionPrior, settings, f"{path}, prior", net=network)
    if peer.image_embed_dim != clip.config.embedding:
        raise CheckpointError(
            f"the prior in {folder} is for embeddings of {peer.image_embed_dim} numbers, but the "
            f"CLIP beside it has {clip.config.embedding}; the prior was trained with another CLIP"
        )
    entries = find_network(published, MARKS, A_PRIOR)
    fill_peer(peer, without_clip(entries, clip, published), published)
    return PublishedPrior(peer, clip).eval()


def check_name(named: Any, clip: OpenAICLIP, where: str) -> None:
    """Raises CheckpointError if a config names a CLIP that can't be `clip`.

    Names such as "ViT-L/14", "ViT-L/14@336px" or "ViT-H-14-378" contain the sides of patches and of
    pictures, which are 224 px if the name does not say it. ViT-L/14 and ViT-L/14@336px have
    embeddings of the same width, so nothing else tells them apart.
    """
    name = named.get("model") if isinstance(named, dict) else None
    match = SIZES_IN_NAME.match(name) if isinstance(name, str) else None
    sizes = (int(match[1]), int(match[2] or 224)) if match else None
    found = clip.config.patch_size, clip.config.image_size
    if sizes not in (None, found):
        raise CheckpointError(
            f"{where} names {name}, which has patches of {sizes[0]} px in pictures of {sizes[1]} "
            f"px, but the CLIP in the folder clip has patches of {found[0]} px in pictures of "
            f"{found[1]} px; put the CLIP of the training there"
        )


def without_clip(entries: dict[str, Any], clip: OpenAICLIP, published: Published) -> dict[str, Any]:
    """The entries of a network without the CLIP that training saved with the network.

    Raises CheckpointError if the saved CLIP is another one than `clip`. The network would not
    understand the embeddings of another CLIP.
    """
    name = "ln_final.weight"
    theirs, ours = entries.get(CLIP_PREFIX + name), clip.state_dict()[name]
    if isinstance(theirs, Tensor) and (
        theirs.shape != ours.shape or not torch.allclose(theirs.float(), ours, atol=1e-2)
    ):
        raise CheckpointError(
            f"{published.path} was trained with another CLIP than the one beside it (they differ "
            f"in {name}); put the CLIP of its training in the folder clip"
        )
    return {k: v for k, v in entries.items() if not k.startswith("clip.")}
