"""The sizes of the networks of the shapes world.

In scenes, positions matter. The embedding of a LayoutTower contains positions much earlier in
training than the embedding of a transformer does. A decoder learns to use z_i earlier if z_i is
laid out as a picture (docs/speedrun.md).
"""

from minidalle2.clip import CLIPConfig
from minidalle2.decoder import DecoderConfig
from minidalle2.training.world import Sizes

SIZES = Sizes(
    clip=CLIPConfig(image_layers=0, layout_widths=(48, 96, 192)), decoder=DecoderConfig(laid_out=2)
)
