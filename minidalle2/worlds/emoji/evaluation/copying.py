"""Is a drawn picture new, or a copy of a training picture? Compares it with the nearest one.

The distance is the root mean square difference of RGB in [0, 1] on white, at 32 px, at the best
shift of up to two pixels. A near-copy is nearer than NEAR. NEAR was chosen by these measurements on
drawings of `train`. If two of the four unlike styles draw the same name, the median distance is
0.28, and 2.0 % of 6,355 such pairs are near-copies. If a drawing is softened by shrinking to 24 px,
82 % are near-copies of their original; at 16 px it is 60 %.

One third of all drawings, and 17 % of those in the four unlike styles, are near-copies of another
drawing of `train`, for example of another face in the same style. Therefore the share of
near-copies among drawn pictures indicates copying only if it exceeds the share among the real
held-out drawings.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from minidalle2.evaluation.rows import row
from minidalle2.storage.pictures import labelled_grid, to_uint8
from minidalle2.storage.progress import each
from minidalle2.worlds.emoji.evaluation.prompts import Drawn, prompt_of, real_pictures
from minidalle2.worlds.emoji.labels import are_unlike
from minidalle2.worlds.emoji.names import drawings
from minidalle2.worlds.emoji.splits import members

SIDE = 32  # pixels a side of the pictures that are compared
SHIFT = 2  # largest shift in pixels in each direction
NEAR = 0.1  # the distance of a near-copy is smaller
IN_SHEET, SHEET_SIDE, COLUMNS = 24, 64, 3


def nearest(images: Tensor, training: Tensor) -> tuple[Tensor, Tensor]:
    """(n, 3, S, S) and (N, 3, S, S), in [-1, 1] on white → distances (n,) and indices (n,).

    They are those of the nearest of the N training pictures.
    """
    n, side = len(images), images.shape[-1]
    flat = (training / 2 - 0.5).flatten(1)  # white is 0, like the padding
    padded = F.pad(images / 2 - 0.5, (SHIFT,) * 4)
    squares, best = flat.square().sum(1), torch.full((n, len(training)), float("inf"))
    shifts = [(y, x) for y in range(2 * SHIFT + 1) for x in range(2 * SHIFT + 1)]
    for y, x in each(shifts, "comparing with the training pictures"):
        moved = padded[:, :, y : y + side, x : x + side].flatten(1)
        distance = moved.square().sum(1, keepdim=True) + squares - 2 * moved @ flat.T
        best = torch.minimum(best, distance)
    least, which = best.min(1)
    return (least.clamp(min=0) / flat.shape[1]).sqrt(), which


def nearest_training(images: Tensor) -> tuple[Tensor, Tensor]:
    """(n, 3, S, S) in [-1, 1] → distances (n,) and rows of `drawings()` (n,).

    S is a multiple of 32.
    """
    training = members("train")
    small = F.avg_pool2d(images, images.shape[-1] // SIDE)
    distance, which = nearest(small, real_pictures(training, SIDE))
    return distance, training[which]


def copying_rows(drawn: Drawn) -> Iterator[dict]:
    """The share of near-copies among drawings of held-out pairs, and among the real drawings."""
    sources = {
        "drawn pictures": drawn.images.float() / 127.5 - 1,
        "real drawings": real_pictures(drawn.rows, SIDE),
    }
    groups = {"": torch.ones_like(drawn.rows, dtype=torch.bool)}
    groups[", four hands"] = are_unlike(drawn.rows)
    for source, images in sources.items():
        near = nearest_training(images)[0] < NEAR
        for group, chosen in groups.items():
            if chosen.any():
                name, n = f"near-copies, {source}{group}", int(chosen.sum())
                yield row("copying", name, "pairs", int(near[chosen].sum()), n)


def copying_sheet(drawn: Drawn) -> Image.Image:
    """Rows of: the drawn picture, the nearest training picture, the held-out drawing itself."""
    rows, images = drawn.rows[:IN_SHEET], drawn.images[:IN_SHEET].float() / 127.5 - 1
    distance, found = nearest_training(images)
    small = F.avg_pool2d(images, images.shape[-1] // SHEET_SIDE)
    columns = [small, real_pictures(found, SHEET_SIDE), real_pictures(rows, SHEET_SIDE)]
    pictures = torch.stack([to_uint8(column) for column in columns], 1)
    cells = []
    for i, row_found in enumerate(found.tolist()):
        nearest_is = prompt_of(*drawings()[row_found], "English")
        label = f"{drawn.prompts[i]} | nearest in training, {distance[i]:.2f}: {nearest_is} | real"
        cells.append((label, list(pictures[i])))
    return labelled_grid(cells, COLUMNS)
