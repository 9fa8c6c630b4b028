"""Decodes a picture of any size, mode and format to its square centre in RGB.

Transparent pixels become white. The orientation is that of the EXIF data. The first frame of an
animation is used. Cropping to the square centre and resizing are one operation. The result is the
same as resizing first and cropping then, but a very long picture needs no more memory.
"""

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import Image, UnidentifiedImageError

from minidalle2.storage.bare import PNG, bare
from minidalle2.storage.ifd import orientation_of

MOST_PIXELS = 1 << 26  # 8192 x 8192; even a small file can claim to have far more pixels
RUN_PROGRAMS = ("EPS", "WMF")  # formats that Pillow decodes with another program
TURNS = {  # EXIF's orientation → what makes the picture upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SAVE_AGAIN = "open it in a program that can show it, and save it as PNG"
FETCH_AGAIN = "copy or download it again, or save it again as PNG"


class Unreadable(ValueError):
    """A picture that can't be read.

    `kind` is short, for a summary of many pictures: 'unreadable'. The message has the reason and
    the remedy.
    """

    def __init__(self, kind: str, reason: str, remedy: str):
        super().__init__(f"not a readable picture: {reason}; {remedy}")
        self.kind, self.reason, self.remedy = kind, reason, remedy


def square(data: bytes, side: int, paper: str = "white") -> Image.Image:
    """The bytes of a file → its square centre in RGB, side x side pixels.

    Smaller pictures are enlarged. `paper` is the colour behind transparent pixels. Raises
    Unreadable, a ValueError, if the file is not a readable picture.
    """
    picture = _decoded(data, (2 * side, 2 * side), paper)
    short = min(picture.size)
    left, top = (picture.width - short) / 2, (picture.height - short) / 2
    box = (left, top, left + short, top + short)
    return picture.resize((side, side), Image.Resampling.LANCZOS, box=box)


def whole(data: bytes) -> Image.Image:
    """The bytes of a file → the complete picture in RGB. Raises Unreadable."""
    return _decoded(data, None, "white")


def _decoded(data: bytes, least: tuple[int, int] | None, paper: str) -> Image.Image:
    """The upright picture in RGB. A JPEG may be decoded at a smaller size that is above `least`."""
    with _opened(data) as (image, orientation):
        size = f"{image.width:,} x {image.height:,}"
        millions = image.width * image.height / 1e6
        if least:
            image.draft(None, least)
        if image.width * image.height > MOST_PIXELS:
            raise _too_large(f"{millions:.0f} million pixels ({size})")
        image.load()
        if image.format == "PNG":
            _correct_transparency(image, data)
        picture = rgb(image, paper)
        return picture.transpose(TURNS[orientation]) if orientation in TURNS else picture


def upright_size(data: bytes) -> tuple[int, int]:
    """Width and height in pixels, in the orientation of the EXIF data. Raises Unreadable."""
    with _opened(data) as (image, orientation):
        width, height = image.size
    return (height, width) if orientation >= 5 else (width, height)


@contextmanager
def _opened(data: bytes) -> Iterator[tuple[Image.Image, int]]:
    """Opens a file without its metadata. Yields the picture and EXIF's orientation.

    Inside, every error becomes Unreadable, because broken files make Pillow raise many kinds.
    """
    if not data:
        raise Unreadable("unreadable", "the file is empty", "copy or download it again")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about very large pictures
            pixels, metadata = bare(data)
            with Image.open(io.BytesIO(pixels)) as image:
                if image.format in RUN_PROGRAMS:
                    reason = f"the format {image.format} is not supported"
                    raise Unreadable("in a format that is not supported", reason, SAVE_AGAIN)
                metadata += [image.info[key] for key in ("exif", "xmp") if key in image.info]
                yield image, orientation_of([b for b in metadata if isinstance(b, bytes)])
    except Unreadable:
        raise
    except Image.DecompressionBombError as error:
        count = re.search(r"\d+", str(error))  # Pillow gives the number in its sentence only
        raise _too_large(
            f"{int(count[0]) / 1e6:,.0f} million pixels" if count else "more"
        ) from error
    except UnidentifiedImageError as error:
        reason = "it has no known format, or its beginning is damaged"
        raise Unreadable("unreadable", reason, SAVE_AGAIN) from error
    except MemoryError as error:
        reason = "there is not enough memory to read it"
        raise Unreadable("unreadable", reason, "save it with fewer pixels") from error
    except Exception as error:
        reason = f"it is cut off or damaged ({error})"
        raise Unreadable("unreadable", reason, FETCH_AGAIN) from error


def _too_large(size: str) -> Unreadable:
    reason = f"it has {size}, and at most {MOST_PIXELS / 1e6:.0f} million can be read"
    return Unreadable("with too many pixels", reason, "save it with fewer pixels")


def _correct_transparency(image: Image.Image, data: bytes) -> None:
    """Makes the transparent colour of a PNG comparable with the pixels, as Pillow decodes them.

    Pillow scales gray values of 2 and 4 bits to 8 bits, and cuts colours of 16 bits to 8 bits, but
    not the transparent colour.
    """
    bits, colour = data[len(PNG) + 16], image.info.get("transparency")
    if image.mode == "L" and bits in (2, 4) and isinstance(colour, int):
        image.info["transparency"] = colour * 255 // (2**bits - 1)
    elif image.mode == "RGB" and bits == 16 and isinstance(colour, tuple):
        image.info["transparency"] = tuple(value >> 8 for value in colour)


def rgb(image: Image.Image, paper: str = "white") -> Image.Image:
    """A picture of any mode → RGB, on a background of the colour `paper`."""
    if image.mode[0] in "IF":
        image = _eight_bits(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, paper), image).convert("RGB")
    return image.convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """Gray values as 16-bit, 32-bit or floating-point numbers → 8 bits, with alpha if needed.

    Pillow itself would clip at 255. White is 65535 in a 16-bit mode. In other modes white is the
    smallest of 1 (only for floating-point numbers), 255 and 65535 that is not below any value.
    """
    values = np.nan_to_num(np.array(image, dtype=np.float32), copy=False)
    transparent = values == image.info.get("transparency", -1)
    if image.mode.startswith("I;16"):
        white = 65535.0
    else:
        tops = (1.0, 255.0, 65535.0) if image.mode == "F" else (255.0, 65535.0)
        white = next((top for top in tops if values.max() <= top), values.max())
    values *= 255 / white  # in place, to save memory
    gray = Image.fromarray(values.clip(0, 255, out=values).round(out=values).astype(np.uint8))
    if transparent.any():
        gray.putalpha(Image.fromarray(~transparent))
    return gray
