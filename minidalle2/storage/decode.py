"""Decodes a picture of any size, mode and format to its square centre in RGB.

Transparent pixels become white. The orientation is that of the EXIF data. The first frame of an
animation is used. Cropping to the square centre and resizing are one operation. The result is the
same as resizing first and cropping then, but a very long picture needs no more memory.
"""

import io
import warnings

import numpy as np
from PIL import Image, ImageOps

MOST_PIXELS = 1 << 26  # 8192 x 8192; even a small file can claim to have far more pixels
RUN_PROGRAMS = ("EPS", "WMF")  # formats that Pillow decodes with another program


def square(data: bytes, side: int) -> Image.Image:
    """The bytes of a file → its square centre in RGB, side x side pixels.

    Smaller pictures are enlarged. Raises ValueError if the file is not a readable picture.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about unusual metadata and very large pictures
            return _square(data, side)
    except Exception as error:  # broken files make Pillow raise many kinds of errors
        raise ValueError(f"not a readable picture ({error})") from error


def _square(data: bytes, side: int) -> Image.Image:
    with Image.open(io.BytesIO(data)) as image:
        if image.format in RUN_PROGRAMS:
            raise ValueError(f"the format {image.format} is not supported")
        image.draft(None, (2 * side, 2 * side))  # decodes a JPEG at a smaller size if possible
        if image.width * image.height > MOST_PIXELS:
            raise ValueError(f"{image.width} x {image.height} pixels are too many")
        image.load()
        picture = rgb(ImageOps.exif_transpose(image))
    short = min(picture.size)
    left, top = (picture.width - short) / 2, (picture.height - short) / 2
    box = (left, top, left + short, top + short)
    return picture.resize((side, side), Image.Resampling.LANCZOS, box=box)


def rgb(image: Image.Image) -> Image.Image:
    """A picture of any mode → RGB, on a white background."""
    if image.mode[0] in "IF":
        image = _eight_bits(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """Gray values as 16-bit, 32-bit or floating-point numbers → 8 bits.

    Pillow itself would clip at 255. White is 65535 in a 16-bit mode. In other modes white is the
    smallest of 1 (only for floating-point numbers), 255 and 65535 that is not below any value.
    """
    values = np.nan_to_num(np.array(image, dtype=np.float32), copy=False)
    if image.mode.startswith("I;16"):
        white = 65535.0
    else:
        tops = (1.0, 255.0, 65535.0) if image.mode == "F" else (255.0, 65535.0)
        white = next((top for top in tops if values.max() <= top), values.max())
    values *= 255 / white  # in place, to save memory
    return Image.fromarray(values.clip(0, 255, out=values).round(out=values).astype(np.uint8))
