"""Some rows of a batch, computed as they would be computed in the whole of it.

Losses draw noise, timesteps and dropped conditions for all rows of their batch from one generator.
A process or a pass that has only some rows draws for the whole batch, too, and keeps its own: then
it does not matter into how many parts a batch is divided.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode


def part(batch: Any, rows: slice) -> Any:
    """The rows of a batch: of a tensor or list, or of all of them in tuples and dicts."""
    if isinstance(batch, tuple):
        return tuple(part(piece, rows) for piece in batch)
    if isinstance(batch, dict):
        return {name: part(piece, rows) for name, piece in batch.items()}
    return batch[rows]


def count(batch: Any) -> int:
    """How many rows a batch has."""
    while isinstance(batch, tuple | dict):
        batch = next(iter(batch.values() if isinstance(batch, dict) else batch))
    return len(batch)


def equal_parts(n: int, parts: int) -> list[slice]:
    """n rows in `parts` equal parts. Raises ValueError where they don't come out even."""
    if n % parts:
        raise ValueError(
            f"a batch of {n} can't be divided into {parts} equal parts; as many parts as divide "
            f"{n} would work"
        )
    size = n // parts
    return [slice(i * size, (i + 1) * size) for i in range(parts)]


class Drawn(TorchFunctionMode):
    """Within it, what a loss draws for its rows is drawn for `whole` rows and cut to `rows`.

    It sees the calls of `torch.rand`, `randn` and `randint` that get a generator, the three that
    the losses use, and refuses others. One within another does both: a part's part.
    """

    def __init__(self, rows: slice, whole: int):
        super().__init__()
        self.rows, self.whole = rows, whole

    def __torch_function__(
        self, function: Callable, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if kwargs.get("generator") is None:
            return function(*args, **kwargs)
        before, size = _split(function, args)
        if size[:1] != (self.rows.stop - self.rows.start,):
            raise ValueError(
                f"a loss draws numbers of shape {size}, not for each of its "
                f"{self.rows.stop - self.rows.start} rows; such a loss can't be computed in parts"
            )
        drawn: Tensor = function(*before, (self.whole, *size[1:]), **kwargs)
        return drawn[self.rows]


def _split(function: Callable, args: tuple) -> tuple[tuple, tuple[int, ...]]:
    """Arguments of a call that draws → those before the size, and the size."""
    if function not in (torch.rand, torch.randn, torch.randint):
        name = getattr(function, "__name__", function)
        raise ValueError(
            f"a loss draws with {name}, and can't be computed in parts; torch.rand, randn and "
            "randint, with the rows first, would work"
        )
    if isinstance(args[-1], int):
        return (), args
    return args[:-1], tuple(args[-1])
