"""Published networks as one model: `load` a folder, then `generate` as with other weights."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from minidalle2.bridge.clip_files import load_clip
from minidalle2.bridge.clip_tokenizer import CLIPTokenizer, find_merges
from minidalle2.bridge.decoder import PublishedDecoder, PublishedUpsampler, load_decoder
from minidalle2.bridge.prior import load_prior
from minidalle2.dalle2 import DALLE2, STAGES, Result, Sampling, StartingNoise
from minidalle2.storage.checkpoints import CheckpointError
from minidalle2.storage.input_pictures import Pictures
from minidalle2.storage.inputs import Numbers, Seeds

DRAWN = STAGES[2:]  # image32, image64, image128


@dataclass(eq=False, repr=False)
class PublishedDALLE2(DALLE2):
    """DALLE2 of three to five published networks. Missing upsamplers are None.

    The names of stages and results stay the same, but not their sizes. image32 is the picture of
    the decoder (for example 64 px), image64 that of the first upsampler (256 px), and image128 that
    of the second upsampler (1024 px).
    """

    @property
    def last_stage(self) -> str:
        """The last stage for which there is a network."""
        return DRAWN[(self.upsampler64 is not None) + (self.upsampler128 is not None)]

    def generate(
        self,
        prompts: str | list[str],
        seeds: Seeds | None = None,
        sampling: Sampling | None = None,
        noise: StartingNoise | None = None,
        stop_after: str | None = None,
        image_embeddings: Numbers | None = None,
        image32: Pictures | None = None,
        image64: Pictures | None = None,
    ) -> Result:
        """Like DALLE2.generate, but `stop_after` is by default the last stage that exists.

        Raises ValueError if there is no upsampler for `stop_after`.
        """
        stop_after = stop_after or self.last_stage
        if stop_after in DRAWN and DRAWN.index(stop_after) > DRAWN.index(self.last_stage):
            raise ValueError(
                f"there is no upsampler for {stop_after} among these networks; use stop_after="
                f"{self.last_stage!r}, or load a folder with an upsampler"
            )
        return super().generate(
            prompts, seeds, sampling, noise, stop_after, image_embeddings, image32, image64
        )


def load(folder: Path | str, device: torch.device | str = "cpu") -> PublishedDALLE2:
    """Reads published networks from a folder with the folders clip, prior, decoder and upsampler.

    Each of them holds one file of weights and the JSON that was published with it. The folder
    upsampler is optional. The upsamplers are the second and third U-Net of the checkpoint of the
    decoder, and of that in the folder upsampler. Raises CheckpointError if a network is missing or
    does not fit its config or the other networks, PeerMissing if DALLE2-PyTorch or ftfy is not
    installed.
    """
    folder = Path(folder)
    for name in ("clip", "prior", "decoder"):
        if not (folder / name).is_dir():
            raise CheckpointError(
                f"there is no folder {name} in {folder}; published networks are loaded from the "
                "folders clip, prior, decoder and, if there is one, upsampler"
            )
    clip = load_clip(folder / "clip")
    merges = find_merges(folder / "clip")
    tokenizer = CLIPTokenizer.load(merges, clip.config.vocab_size, clip.config.context_length)
    peer = load_decoder(folder / "decoder", clip)
    upsamplers = _upsamplers(peer)
    if (folder / "upsampler").is_dir():
        upsamplers += _upsamplers(load_decoder(folder / "upsampler", clip))
    decoder = PublishedDecoder(peer, clip)
    check_chain(decoder, upsamplers, folder)
    networks = [clip, load_prior(folder / "prior", clip), decoder, *upsamplers]
    networks = [network.to(device).eval() for network in networks]
    networks += [None] * (5 - len(networks))
    return PublishedDALLE2(tokenizer, *networks, sampling=published_sampling(*networks[1:]))


def published_sampling(
    prior: Any,
    decoder: PublishedDecoder,
    first: PublishedUpsampler | None,
    second: PublishedUpsampler | None,
) -> Sampling:
    """The sampling of the networks' configs, or else that of the paper (table 3, section 2.2)."""
    return Sampling(
        candidates=2,
        drawings=1,
        prior_steps=_steps(prior, prior.peer.sample_timesteps, 64),
        prior_guidance=1.0,
        decoder_steps=_steps(decoder, decoder.steps, 250),
        decoder_guidance=1.25 if decoder.peer.can_classifier_guidance else 1.0,
        upsampler64_steps=_steps(first, first.steps, 27) if first else 1,
        upsampler128_steps=_steps(second, second.steps, 15) if second else 1,
    )


def check_chain(
    decoder: PublishedDecoder, upsamplers: list[PublishedUpsampler], folder: Path
) -> None:
    """Raises CheckpointError if an upsampler needs another size than the stage before it draws."""
    if len(upsamplers) > 2:
        raise CheckpointError(
            f"{folder} has {len(upsamplers)} upsamplers, but generate uses at most two"
        )
    size = decoder.config.size
    for upsampler in upsamplers:
        if upsampler.low_size != size:
            raise CheckpointError(
                f"an upsampler in {folder} needs pictures of {upsampler.low_size} px, but the "
                f"stage before it draws {size} px; use networks that were published together"
            )
        size = upsampler.config.size


def _upsamplers(peer: Any) -> list[PublishedUpsampler]:
    return [PublishedUpsampler(peer, i) for i in range(1, peer.num_unets)]


def _steps(stage: Any, configured: int | None, paper: int) -> int:
    return min(configured or paper, len(stage.diffusion.schedule))
