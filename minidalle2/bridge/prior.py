"""DALLE2-PyTorch's diffusion prior, as generate's: text embedding and caption → image embedding.

The network is the peer's own, its configuration and weights are as published; the sampler is ours.
It was trained on CLIP's features of the caption's tokens, so it holds the CLIP that makes them.
"""

from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor, nn

from minidalle2.bridge.checkpoint import Published, read_checkpoint, only_file, read_json
from minidalle2.bridge.openai_clip import OpenAICLIP
from minidalle2.bridge.peer import build, dalle2_pytorch, diffusion_of, fill_peer, section
from minidalle2.diffusion.guidance import Denoiser, guided
from minidalle2.diffusion.sampling import ddim, last, no_clip
from minidalle2.training.checkpoints import CheckpointError

CLIP_PREFIX = "clip.clip."  # of the CLIP that a training saved along with its prior or decoder


class PublishedPrior(nn.Module):
    """AnyPrior, around the peer's DiffusionPrior."""

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
        """(noised z_i, scaled; t) → the peer's answer, with guidance.

        Without its text the peer's network does not see the noised z_i either: it was trained so.
        """
        if guidance != 1 and not self.can_be_guided:
            raise ValueError(
                f"this prior was trained without dropping its text, so a guidance of {guidance} "
                "means nothing to it; use prior_guidance=1"
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
        """n draws of z_i for each caption, from noise x_T (B, n, E) → (B, n, E), unit length."""
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
    """(B, T) → (B, T, D), zero after the end token, which is how the peer marks what to ignore.

    The first "!" of "!!" has the id of padding and is zeroed, too: networks were trained so.
    """
    ended = (tokens == clip.config.vocab_size - 1).cumsum(1)
    before = F.pad(ended == 0, (1, -1), value=True)  # the end token itself counts
    return clip.text_features(tokens) * (before & (tokens != 0))[..., None]


def load_prior(folder: Path, clip: OpenAICLIP) -> PublishedPrior:
    """From a folder with a training config (JSON) and a checkpoint. Raises CheckpointError."""
    package, published = dalle2_pytorch(), read_checkpoint(folder)
    path = only_file(folder, (".json",), "config")
    settings = dict(section(read_json(path), "prior", str(path)))
    settings.pop("clip", None)  # ours stands in its place
    network = build(
        package.DiffusionPriorNetwork, settings.pop("net"), f"{path}, prior.net",
        (package.CausalTransformer,),
    )  # fmt: skip
    if network.self_cond:
        raise CheckpointError(f"{path} asks for self-conditioning, which the bridge has no way for")
    peer = build(package.DiffusionPrior, settings, f"{path}, prior", net=network)
    if peer.image_embed_dim != clip.config.embedding:
        raise CheckpointError(
            f"the prior in {folder} is for embeddings of {peer.image_embed_dim} numbers, but CLIP "
            f"beside it makes {clip.config.embedding}; it was trained with another CLIP"
        )
    state = published.state
    tensors = state.get("ema_model") or state.get("model") or state  # the averaged ones, if any
    fill_peer(peer, without_clip(tensors, clip, published), published)
    return PublishedPrior(peer, clip).eval()


def without_clip(
    tensors: dict[str, Tensor], clip: OpenAICLIP, published: Published
) -> dict[str, Tensor]:
    """The state dict less the CLIP that training saved along. Raises CheckpointError where that is
    another one than ours: its embeddings would mean nothing to the network."""
    name = "ln_final.weight"
    theirs, ours = tensors.get(CLIP_PREFIX + name), clip.state_dict()[name]
    if theirs is not None and (
        theirs.shape != ours.shape or not torch.allclose(theirs.float().cpu(), ours, atol=1e-2)
    ):
        raise CheckpointError(
            f"{published.path} was trained with another CLIP than the one beside it (they differ "
            f"in {name}); put that one in the folder clip"
        )
    return {k: v for k, v in tensors.items() if not k.startswith("clip.")}
