"""Published networks with minidalle2's `generate`.

The CLIP comes from OpenAI or open_clip, the prior, decoder and upsamplers from DALLE2-PyTorch.
"""

from minidalle2.bridge.published import PublishedDALLE2, load

__all__ = ["PublishedDALLE2", "load"]
