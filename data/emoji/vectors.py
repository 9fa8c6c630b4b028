"""Icons of an Iconify package → whole SVGs, centred, all drawings of a style at one scale."""

import io

import numpy as np
import resvg_py
from PIL import Image

MARGIN = 1 / 8  # drawn around an icon's own canvas when its ink is measured: some reach outside
PIXELS = (320, 304, 288, 272)  # a side of that picture; the first at which resvg draws it
VIEW = 128  # px that a drawing gives as its own size
SIZES = (64, 128)  # px at which every frame must be drawn without fail
NUDGE = 1.003  # a frame grows by this factor until it is
FAINT = 16  # alpha from which a pixel counts as ink
PERCENTILE, SPAN, LARGEST_SPAN = 75, 0.94, 0.96  # of the canvas
ALIAS_FIELDS = {"parent", "hFlip", "hidden"}  # the ones that these packages use

Box = tuple[float, float, float, float]  # left, top, right, bottom in the icon's own units


def resolve(package: dict, name: str) -> tuple[str, float, float] | None:
    """→ (body, width, height) of an icon or alias, flips applied; None where there is none."""
    flip, icon = False, package["icons"].get(name)
    while icon is None:
        alias = package.get("aliases", {}).get(name)
        if alias is None:
            return None
        if unknown := set(alias) - ALIAS_FIELDS:
            raise ValueError(f"alias {name} of {package['prefix']} has {unknown}; resolve it too")
        flip ^= alias.get("hFlip", False)
        name = alias["parent"]
        icon = package["icons"].get(name)
    if {"left", "top", "rotate", "hFlip", "vFlip"} & set(icon):
        raise ValueError(f"icon {name} of {package['prefix']} is shifted or turned; resolve it too")
    width = icon.get("width", package["width"])
    height = icon.get("height", package["height"])
    body = icon["body"]
    if flip:
        body = f'<g transform="translate({width} 0) scale(-1 1)">{body}</g>'
    return body, width, height


def svg(body: str, left: float, top: float, side: float) -> str:
    """A whole square SVG; numbers of at most three decimals.

    It says its size: where only a viewBox of 30.5 does, resvg-py takes that for 30 pixels, and the
    drawing comes out too large.
    """
    box = " ".join(f"{number:.3f}".rstrip("0").rstrip(".") for number in (left, top, side, side))
    links = ' xmlns:xlink="http://www.w3.org/1999/xlink"' if "xlink:" in body else ""
    size = f'width="{VIEW}" height="{VIEW}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg"{links} {size} viewBox="{box}">{body}</svg>'


def draw(source: str, pixels: int) -> np.ndarray | None:
    """→ (pixels, pixels, 4) uint8, alpha not premultiplied; None where resvg fails.

    resvg 0.48 panics on some filters at some sizes (an index in filter/composite.rs).
    """
    try:
        png = resvg_py.svg_to_bytes(
            svg_string=source, width=pixels, height=pixels, skip_system_fonts=True
        )
    except BaseException as error:  # PanicException is not an Exception
        if type(error).__name__ != "PanicException":
            raise
        return None
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGBA"))


def measured(body: str, width: float, height: float) -> tuple[str, Box]:
    """→ the body and what it covers.

    Viewers cut at an icon's own canvas. Some draw beyond it (stray paths, mostly), so those are put
    into an inner SVG, which cuts them in any frame.
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
    """(P, P, 4) of which each pixel is `unit` wide, the first at (start, start)."""
    rows, columns = np.nonzero(picture[:, :, 3] >= FAINT)
    if not len(rows):
        raise ValueError("a drawing is empty")
    edges = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    return tuple(float(start + unit * edge) for edge in edges)


def frames(boxes: dict[str, Box]) -> dict[str, tuple[float, float, float]]:
    """Boxes of a style → (left, top, side) of the square that each drawing is seen through.

    One scale for all, so that a mouse stays smaller than a face: the drawing at the 75th percentile
    spans 94 % of its square. A larger one gets a larger square, which it fills to 96 %.
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
    """The SVG through its frame, which grows a little where resvg fails at one of SIZES."""
    for _ in range(20):
        source = svg(body, left, top, side)
        if "<filter" not in body or all(draw(source, size) is not None for size in SIZES):
            return source
        growth = side * (NUDGE - 1)
        left, top, side = left - growth / 2, top - growth / 2, side + growth
    raise ValueError("resvg fails at every frame of a drawing")
