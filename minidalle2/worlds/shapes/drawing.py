"""Scenes → anti-aliased pictures at any resolution, all scenes of a batch at once.

A shape is defined by its outline. Once per process, each outline is converted to a signed distance
field on a grid. To draw an object, the distance of each pixel's centre to the outline is read from
the field. The distance determines which share of the pixel the object covers. Letters: B scenes, H
and W rows and columns of pixels.
"""

import math
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from minidalle2.worlds.shapes.scenes import SHAPES, SLOTS, WORDS, Scenes

RADII = torch.tensor([0.13, 0.2])  # of the SIZES, as a share of the side of the picture
# RGB in [0, 1]. The eight colours differ clearly from each other and from every background.
COLOUR_RGB = (
    torch.tensor(
        [
            [220, 40, 40],  # red
            [245, 140, 30],  # orange
            [250, 220, 50],  # yellow
            [45, 160, 70],  # green
            [60, 200, 225],  # cyan
            [45, 85, 215],  # blue
            [135, 60, 190],  # purple
            [245, 130, 190],  # pink
        ]
    )
    / 255
)
BACKGROUND_RGB = (
    torch.tensor([[250, 250, 250], [160, 160, 160], [25, 25, 25], [225, 205, 170]]) / 255
)
INK, PAPER = torch.tensor([20, 20, 20]) / 255, torch.tensor([255, 255, 240]) / 255

FIELD = 96  # grid points on each side of a distance field
REACH = 1.45  # a field covers [-REACH, REACH]² in radii
LETTER_PIXEL = 1 / 32  # share of the side; a letter has 3 x 5 of these pixels, sharp at 32 px
SIGN_HALF_WIDTH, SIGN_HALF_HEIGHT = 14 * LETTER_PIXEL, 4.5 * LETTER_PIXEL

# Letters of 3 x 5 pixels. The rows are separated by |.
FONT = {
    "a": "###|#.#|###|#.#|#.#",
    "b": "##.|#.#|##.|#.#|##.",
    "c": "###|#..|#..|#..|###",
    "d": "##.|#.#|#.#|#.#|##.",
    "e": "###|#..|##.|#..|###",
    "g": "###|#..|#.#|#.#|###",
    "h": "#.#|#.#|###|#.#|#.#",
    "i": "###|.#.|.#.|.#.|###",
    "k": "#.#|##.|#..|##.|#.#",
    "l": "#..|#..|#..|#..|###",
    "m": "#.#|###|###|#.#|#.#",
    "n": "##.|#.#|#.#|#.#|#.#",
    "o": "###|#.#|#.#|#.#|###",
    "p": "###|#.#|###|#..|#..",
    "q": "###|#.#|#.#|###|..#",
    "r": "##.|#.#|##.|#.#|#.#",
    "s": "###|#..|###|..#|###",
    "t": "###|.#.|.#.|.#.|.#.",
    "u": "#.#|#.#|#.#|#.#|###",
    "w": "#.#|#.#|###|###|#.#",
    "y": "#.#|#.#|.#.|.#.|.#.",
}


def draw(scenes: Scenes, size: int, window: tuple[Tensor, Tensor, float] | None = None) -> Tensor:
    """Scenes → (B, 3, size, size) pictures in [-1, 1].

    `window` draws only a square part of each picture. It is (left (B,), top (B,), side), all as a
    share of the side of the whole picture. The upsamplers train on crops of a quarter of the side,
    and the rest of the picture is never drawn.
    """
    left, top, side = window or (torch.zeros(len(scenes)), torch.zeros(len(scenes)), 1.0)
    centres = (torch.arange(size) + 0.5) / size * side
    x, y = left[:, None] + centres, top[:, None] + centres  # (B, size) pixel centres
    pixel = side / size
    picture = BACKGROUND_RGB[scenes.background][:, :, None, None].repeat(1, 1, size, size)
    for k in range(SLOTS):
        rows = (scenes.shape[:, k] >= 0).nonzero()[:, 0]
        if len(rows):
            coverage = _object_coverage(scenes[rows], k, x[rows], y[rows], pixel)
            rgb = COLOUR_RGB[scenes.colour[rows, k]][:, :, None, None]
            picture[rows] = torch.lerp(picture[rows], rgb, coverage)
    rows = (scenes.word >= 0).nonzero()[:, 0]
    if len(rows):
        picture[rows] = _draw_signs(picture[rows], scenes[rows], x[rows], y[rows], pixel)
    return picture * 2 - 1


def _object_coverage(scenes: Scenes, k: int, x: Tensor, y: Tensor, pixel: float) -> Tensor:
    """(B, 1, H, W): the share of each pixel that object k covers."""
    radius = RADII[scenes.size[:, k]][:, None]
    u = (x - scenes.x[:, k, None]) / radius  # (B, W) distances in radii
    v = (y - scenes.y[:, k, None]) / radius
    size = u.shape[1]
    grid = torch.stack(
        (u[:, None, :].expand(-1, size, -1), v[:, :, None].expand(-1, -1, size)), dim=-1
    )
    fields = distance_fields()[scenes.shape[:, k], None]
    # Outside the field, its border value is used. The border is far outside every outline.
    distance = F.grid_sample(fields, grid / REACH, padding_mode="border", align_corners=True)
    return (0.5 - distance * (radius / pixel)[:, :, None, None]).clamp(0, 1)


def _draw_signs(picture: Tensor, scenes: Scenes, x: Tensor, y: Tensor, pixel: float) -> Tensor:
    """Draws a board with a border, and the word in its middle, over each picture."""
    u, v = x - 0.5, y - scenes.sign_y[:, None]

    def box(half_width: float, half_height: float) -> Tensor:
        across = (0.5 + (half_width - u.abs()) / pixel).clamp(0, 1)
        down = (0.5 + (half_height - v.abs()) / pixel).clamp(0, 1)
        return (across[:, None, :] * down[:, :, None])[:, None]

    picture = torch.lerp(picture, INK[:, None, None], box(SIGN_HALF_WIDTH, SIGN_HALF_HEIGHT))
    inside = box(SIGN_HALF_WIDTH - LETTER_PIXEL, SIGN_HALF_HEIGHT - LETTER_PIXEL)
    picture = torch.lerp(picture, PAPER[:, None, None], inside)
    masks = word_masks()[scenes.word]  # (B, 5, 24)
    rows, columns = masks.shape[1:]
    down = _cell_overlap(v / LETTER_PIXEL + rows / 2, rows, pixel / LETTER_PIXEL)  # (B, H, 5)
    across = _cell_overlap(u / LETTER_PIXEL + columns / 2, columns, pixel / LETTER_PIXEL)
    ink = down @ masks @ across.transpose(1, 2)
    return torch.lerp(picture, INK[:, None, None], ink[:, None])


def _cell_overlap(centre: Tensor, cells: int, width: float) -> Tensor:
    """(B, P) pixel centres in cells → (B, P, cells): the share of each pixel in each cell."""
    low, high = centre[..., None] - width / 2, centre[..., None] + width / 2
    edge = torch.arange(cells)
    return (torch.minimum(high, edge + 1) - torch.maximum(low, edge)).clamp(min=0) / width


@cache
def word_masks() -> Tensor:
    """(len(WORDS), 5, 24): 1 where a word has ink.

    The words are centred. The letters have 3 x 5 pixels, with a gap of one column between them.
    """
    masks = torch.zeros(len(WORDS), 5, 24)
    for i, word in enumerate(WORDS):
        start = (24 - (4 * len(word) - 1)) // 2
        for j, letter in enumerate(word):
            for row, line in enumerate(FONT[letter].split("|")):
                for column, ink in enumerate(line):
                    masks[i, row, start + 4 * j + column] = ink == "#"
    return masks


@cache
def distance_fields() -> Tensor:
    """(8, FIELD, FIELD): signed distances to each shape's outline in radii, negative inside."""
    axis = torch.linspace(-REACH, REACH, FIELD, dtype=torch.float64)
    points = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), dim=-1).reshape(-1, 2)
    fields = [signed_distance(points, outlines(shape)) for shape in SHAPES]
    return torch.stack(fields).reshape(len(SHAPES), FIELD, FIELD).float()


def signed_distance(points: Tensor, polygons: list[Tensor]) -> Tensor:
    """(N, 2) points → (N,) distances to the nearest edge, negative inside.

    Inside is determined by the even-odd rule.
    """
    a = torch.cat(polygons)  # (V, 2) edge starts
    b = torch.cat([p.roll(-1, 0) for p in polygons])  # (V, 2) edge ends
    edge, to_point = b - a, points[:, None] - a
    along = ((to_point * edge).sum(-1) / (edge * edge).sum(-1)).clamp(0, 1)
    distance = (to_point - along[..., None] * edge).norm(dim=-1).amin(1)
    px, py = points[:, None, 0], points[:, None, 1]
    crosses = (a[:, 1] > py) != (b[:, 1] > py)
    crosses &= px < a[:, 0] + (py - a[:, 1]) / (b[:, 1] - a[:, 1] + 1e-300) * edge[:, 0]
    return torch.where(crosses.sum(1) % 2 == 1, -distance, distance)


def outlines(shape: str) -> list[Tensor]:
    """The outline of a shape as closed polygons (V, 2), in radii, with y downwards.

    A hole is a second polygon. Raises ValueError for an unknown shape.
    """
    turn = torch.linspace(0, 2 * math.pi, 97, dtype=torch.float64)[:-1]

    def polygon(*corners: tuple[float, float]) -> list[Tensor]:
        return [torch.tensor(corners, dtype=torch.float64)]

    def around(radius: Tensor | float, angle: Tensor = turn) -> Tensor:
        return torch.stack((radius * angle.sin(), -radius * angle.cos()), dim=-1)

    if shape == "circle":
        return [around(1.0)]
    if shape == "square":
        return polygon((-0.86, -0.86), (0.86, -0.86), (0.86, 0.86), (-0.86, 0.86))
    if shape == "triangle":
        return polygon((0, -1.02), (1.05, 0.84), (-1.05, 0.84))
    if shape == "star":
        corner = torch.arange(10, dtype=torch.float64)
        return [around(torch.where(corner % 2 == 0, 1.15, 0.5), corner * math.pi / 5)]
    if shape == "heart":
        x = 16 * turn.sin() ** 3
        y = -(13 * turn.cos() - 5 * (2 * turn).cos() - 2 * (3 * turn).cos() - (4 * turn).cos())
        return [torch.stack((x, y - 2.5), dim=-1) / 16 * 1.08]
    if shape == "cross":
        a, b = 0.34, 1.02
        x = (-a, a, a, b, b, a, a, -a, -a, -b, -b, -a)
        y = (-b, -b, -a, -a, a, a, b, b, a, a, -a, -a)
        return polygon(*zip(x, y, strict=True))
    if shape == "ring":
        return [around(1.05), around(0.55)]
    if shape == "moon":  # a disc, minus a second disc that overlaps it from the right
        outer, bite, offset = 1.08, 0.86, 0.52
        meet_x = (outer**2 - bite**2 + offset**2) / (2 * offset)
        angle, bite_angle = math.acos(meet_x / outer), math.acos((meet_x - offset) / bite)
        long = torch.linspace(angle, 2 * math.pi - angle, 72, dtype=torch.float64)
        back = torch.linspace(2 * math.pi - bite_angle, bite_angle, 48, dtype=torch.float64)[1:-1]
        far = torch.stack((outer * long.cos(), outer * long.sin()), dim=-1)
        near = torch.stack((offset + bite * back.cos(), bite * back.sin()), dim=-1)
        return [torch.cat((far, near)) + torch.tensor([0.15, 0.0], dtype=torch.float64)]
    raise ValueError(f"unknown shape {shape!r}; the shapes world has {', '.join(SHAPES)}")
