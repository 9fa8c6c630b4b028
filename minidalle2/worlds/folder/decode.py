"""A picture of any size, mode and format → its square centre in RGB.

Transparency goes on white, EXIF says which way is up, of a film the first frame is taken. The
middle square is cut out and resized in one go, which gives what resizing the short side and then
cropping would, without ever making a long strip large.
"""

import io
import warnings

import numpy as np
from PIL import Image, ImageOps

MOST_PIXELS = 1 << 26  # 8192 x 8192; a file of some kilobytes can claim far more
RUN_PROGRAMS = ("EPS", "WMF")  # formats that Pillow hands to another program


def square(data: bytes, side: int) -> Image.Image:
    """A file's bytes → RGB (side, side); smaller pictures are enlarged. Raises ValueError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about odd metadata and very large pictures
            return _square(data, side)
    except Exception as error:  # on broken files Pillow's readers raise almost anything
        raise ValueError(f"not a readable picture ({error})") from error


def _square(data: bytes, side: int) -> Image.Image:
    with Image.open(io.BytesIO(data)) as image:
        if image.format in RUN_PROGRAMS:
            raise ValueError(f"{image.format} is not read")
        image.draft(None, (2 * side, 2 * side))  # a JPEG need not be decoded any larger
        if image.width * image.height > MOST_PIXELS:
            raise ValueError(f"{image.width} x {image.height} pixels are too many")
        image.load()
        picture = rgb(ImageOps.exif_transpose(image))
    short = min(picture.size)
    left, top = (picture.width - short) / 2, (picture.height - short) / 2
    box = (left, top, left + short, top + short)
    return picture.resize((side, side), Image.Resampling.LANCZOS, box=box)


def rgb(image: Image.Image) -> Image.Image:
    """Any mode → RGB, on white."""
    if image.mode[0] in "IF":
        image = _eight_bits(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """Grey of 16 or 32 bits or floats → 8 bits. Pillow itself would cut off at 255.

    White is 65535 in a 16-bit mode; else the least of 1 (floats only), 255, 65535 that holds all
    values.
    """
    values = np.nan_to_num(np.array(image, dtype=np.float32), copy=False)
    if image.mode.startswith("I;16"):
        white = 65535.0
    else:
        tops = (1.0, 255.0, 65535.0) if image.mode == "F" else (255.0, 65535.0)
        white = next((top for top in tops if values.max() <= top), values.max())
    values *= 255 / white  # in place: a large picture is large enough once
    return Image.fromarray(values.clip(0, 255, out=values).round(out=values).astype(np.uint8))
