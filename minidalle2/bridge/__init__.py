"""Published networks behind minidalle2's `generate`: OpenAI's and open_clip's CLIP, and the priors
and decoders of DALLE2-PyTorch."""

from minidalle2.bridge.published import PublishedDALLE2, load

__all__ = ["PublishedDALLE2", "load"]
