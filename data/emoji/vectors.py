"""Icons of an Iconify package → complete SVGs, centred, with one scale for all icons of a style."""

import io

import numpy as np
import resvg_py
from PIL import Image

MARGIN = 1 / 8  # drawn around the canvas to measure the ink, because some icons exceed their canvas
PIXELS = (320, 304, 288, 272)  # sides to measure at; the first is used that resvg can draw
VIEW = 128  # px, the size that is written in every SVG
SIZES = (64, 128)  # px at which resvg must be able to draw every icon
NUDGE = 1.003  # factor by which a frame is enlarged until resvg can draw it
FAINT = 16  # smallest alpha of a pixel that counts as ink
# The icon at this percentile of the sizes fills SPAN of its square. Larger icons fill LARGEST_SPAN.
PERCENTILE, SPAN, LARGEST_SPAN = 75, 0.94, 0.96
ALIAS_FIELDS = {"parent", "hFlip", "hidden"}  # the fields that these packages use

Box = tuple[float, float, float, float]  # left, top, right, bottom in the units of the icon


def resolve(package: dict, name: str) -> tuple[str, float, float] | None:
    """→ (body, width, height) of an icon or alias, with its flips applied.

    Returns None if there is no such icon. Raises ValueError for transformations that these packages
    do not use.
    """
    flip, icon = False, package["icons"].get(name)
    while icon is None:
        alias = package.get("aliases", {}).get(name)
        if alias is None:
            return None
        if unknown := set(alias) - ALIAS_FIELDS:
            raise ValueError(
                f"the alias {name} of {package['prefix']} has the unknown fields {unknown}; "
                "`resolve` must be extended to support them"
            )
        flip ^= alias.get("hFlip", False)
        name = alias["parent"]
        icon = package["icons"].get(name)
    if {"left", "top", "rotate", "hFlip", "vFlip"} & set(icon):
        raise ValueError(
            f"the icon {name} of {package['prefix']} is shifted, rotated or flipped; `resolve` "
            "must be extended to support this"
        )
    width = icon.get("width", package["width"])
    height = icon.get("height", package["height"])
    body = icon["body"]
    if flip:
        body = f'<g transform="translate({width} 0) scale(-1 1)">{body}</g>'
    return body, width, height


def svg(body: str, left: float, top: float, side: float) -> str:
    """A complete square SVG. Its numbers have at most three decimals.

    The SVG contains its size in pixels. Otherwise resvg-py would take the size from the viewBox and
    round, for example, 30.5 to 30 pixels, and the drawing would be too large.
    """
    box = " ".join(f"{number:.3f}".rstrip("0").rstrip(".") for number in (left, top, side, side))
    links = ' xmlns:xlink="http://www.w3.org/1999/xlink"' if "xlink:" in body else ""
    size = f'width="{VIEW}" height="{VIEW}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg"{links} {size} viewBox="{box}">{body}</svg>'


def draw(source: str, pixels: int) -> np.ndarray | None:
    """→ (pixels, pixels, 4) uint8, alpha not premultiplied; None if resvg fails.

    resvg 0.48 panics for some filters at some sizes (a wrong index in filter/composite.rs).
    """
    try:
        png = resvg_py.svg_to_bytes(
            svg_string=source, width=pixels, height=pixels, skip_system_fonts=True
        )
    except BaseException as error:  # PanicException is not a subclass of Exception
        if type(error).__name__ != "PanicException":
            raise
        return None
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGBA"))


def measured(body: str, width: float, height: float) -> tuple[str, Box]:
    """→ the body and the box of its ink.

    Some icons draw outside their canvas, mostly by mistake. Viewers cut this off. Such a body is
    put into an inner SVG, which cuts it off in every frame.
    """
    side = max(width, height)
    start, extent = -side * MARGIN, side * (1 + 2 * MARGIN)

    def box(body: str) -> Box:
        source = svg(body, start, start, extent)
        picture = next(p for p in (draw(source, pixels) for pixels in PIXELS) if p is not None)
        return ink_of(picture, start, extent / len(picture))

    left, top, right, bottom = found = box(body)
    if left >= 0 and top >= 0 and right <= width and bottom <= height:
        return body, found
    canvas = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    body = f"<svg {canvas}>{body}</svg>"
    return body, box(body)


def ink_of(picture: np.ndarray, start: float, unit: float) -> Box:
    """The box of the ink in a picture (S, S, 4).

    The first pixel lies at (start, start), and each pixel is `unit` wide. Raises ValueError if
    there is no ink.
    """
    rows, columns = np.nonzero(picture[:, :, 3] >= FAINT)
    if not len(rows):
        raise ValueError("a drawing is empty")
    edges = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    return tuple(float(start + unit * edge) for edge in edges)


def frames(boxes: dict[str, Box]) -> dict[str, tuple[float, float, float]]:
    """Boxes of all icons of a style → frames: (left, top, side) of the visible square of each icon.

    All icons have the same scale, so that a mouse stays smaller than a face. The icon at the 75th
    percentile of the sizes fills 94 % of its square. An icon that would fill more than 96 % of such
    a square gets a larger square, of which it fills 96 %.
    """
    spans = {
        key: max(right - left, bottom - top) for key, (left, top, right, bottom) in boxes.items()
    }
    usual = float(np.percentile(list(spans.values()), PERCENTILE)) / SPAN
    found = {}
    for key, (left, top, right, bottom) in boxes.items():
        side = max(usual, spans[key] / LARGEST_SPAN)
        found[key] = ((left + right - side) / 2, (top + bottom - side) / 2, side)
    return found


def framed(body: str, left: float, top: float, side: float) -> str:
    """The SVG of an icon in its frame. The frame is enlarged slightly while resvg can't draw it."""
    for _ in range(20):
        source = svg(body, left, top, side)
        if "<filter" not in body or all(draw(source, size) is not None for size in SIZES):
            return source
        growth = side * (NUDGE - 1)
        left, top, side = left - growth / 2, top - growth / 2, side + growth
    raise ValueError("resvg can't draw an icon with any of the frames that were tried")
