"""Published networks as one DALLE2: `load` a folder, then `generate` as with minidalle2's own."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from minidalle2.bridge.clip_tokenizer import CLIPTokenizer, find_merges
from minidalle2.bridge.decoder import PublishedDecoder, PublishedUpsampler, load_decoder
from minidalle2.bridge.openai_clip import load_clip
from minidalle2.bridge.prior import load_prior
from minidalle2.dalle2 import DALLE2, STAGES, Generation, Sampling, StartingNoise
from minidalle2.training.checkpoints import CheckpointError

DRAWN = STAGES[2:]  # image32, image64, image128


class PublishedDALLE2(DALLE2):
    """DALLE2 of two to five published networks.

    Stages and results keep their names, not their sizes: image32 is what the decoder draws (64 px,
    say), image64 and image128 what the first and second upsampler make of it (256 and 1024 px).
    """

    @property
    def last_stage(self) -> str:
        return DRAWN[(self.upsampler64 is not None) + (self.upsampler128 is not None)]

    @property
    def sampling(self) -> Sampling:
        """As in the paper (table 3, section 2.2), or as the networks' configs say."""
        prior, decoder = self.prior, self.decoder
        first, second = self.upsampler64, self.upsampler128
        return Sampling(
            candidates=2, drawings=1,
            prior_steps=_steps(prior, prior.peer.sample_timesteps, 64), prior_guidance=1.0,
            decoder_steps=_steps(decoder, decoder.steps, 250),
            decoder_guidance=1.25 if decoder.peer.can_classifier_guidance else 1.0,
            upsampler64_steps=_steps(first, first.steps, 27) if first else 1,
            upsampler128_steps=_steps(second, second.steps, 15) if second else 1,
        )  # fmt: skip

    def generate(
        self,
        prompts: list[str],
        seeds: list[int] | None = None,
        sampling: Sampling | None = None,
        noise: StartingNoise | None = None,
        stop_after: str | None = None,
        image_embedding: Tensor | None = None,
        image32: Tensor | None = None,
        image64: Tensor | None = None,
    ) -> Generation:
        """As DALLE2.generate; without `stop_after`, to the last stage that there is."""
        stop_after = stop_after or self.last_stage
        if stop_after in DRAWN and DRAWN.index(stop_after) > DRAWN.index(self.last_stage):
            raise ValueError(
                f"there is no upsampler for {stop_after} among these networks; stop after "
                f"{self.last_stage}, or put an upsampler's folder beside the decoder's"
            )
        return super().generate(
            prompts, seeds, sampling or self.sampling, noise, stop_after,
            image_embedding, image32, image64,
        )  # fmt: skip


def load(folder: Path | str, device: torch.device | str = "cpu") -> PublishedDALLE2:
    """From a folder with the folders clip, prior, decoder and, where there is one, upsampler, each
    with one file of weights and the JSON published with it.

    An upsampler is the second (and third) U-Net of the decoder's checkpoint or of the upsampler's.
    Raises CheckpointError for what is missing, contradicts itself or does not fit the rest, and
    PeerMissing where DALLE2-PyTorch is not installed.
    """
    folder = Path(folder)
    for name in ("clip", "prior", "decoder"):
        if not (folder / name).is_dir():
            raise CheckpointError(
                f"there is no folder {name} in {folder}; published networks are loaded from "
                "folders named clip, prior, decoder and (if you have one) upsampler"
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
    return PublishedDALLE2(tokenizer, *networks, *[None] * (5 - len(networks)))


def check_chain(
    decoder: PublishedDecoder, upsamplers: list[PublishedUpsampler], folder: Path
) -> None:
    """Raises CheckpointError where a stage is not made for the size of the one before it."""
    if len(upsamplers) > 2:
        raise CheckpointError(f"{folder} has {len(upsamplers)} upsamplers; generate takes two")
    size = decoder.config.size
    for upsampler in upsamplers:
        if upsampler.low_size != size:
            raise CheckpointError(
                f"an upsampler in {folder} takes pictures of {upsampler.low_size} px, but the "
                f"stage before it draws {size} px; take those that were published together"
            )
        size = upsampler.config.size


def _upsamplers(peer: Any) -> list[PublishedUpsampler]:
    return [PublishedUpsampler(peer, i) for i in range(1, peer.num_unets)]


def _steps(stage: Any, configured: int | None, paper: int) -> int:
    return min(configured or paper, len(stage.diffusion.schedule))
