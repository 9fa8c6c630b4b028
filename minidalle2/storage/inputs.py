"""What a caller gives → what the networks use: embeddings, other numbers and seeds.

Tensors of any type and device, NumPy arrays, and lists of these or of numbers are converted. A
tensor that is right already is returned as it is. Everything else raises ValueError with one
sentence. input_pictures.py does the same for pictures.
"""

import warnings
from collections.abc import Iterable
from operator import index
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from minidalle2.unclip import StartingNoise

Numbers = Tensor | np.ndarray | list | tuple
Seeds = int | Iterable[int] | Tensor | np.ndarray
UNIT = 1e-2  # largest error of a unit vector's length; half precision is not more exact
SEEDS = range(-(2**61), 2**62)  # torch's generators take 4 times such a number


def as_embeddings(
    value: Any, name: str, width: int | None = None, device: torch.device | None = None
) -> Tensor:
    """Embeddings (E,), (B, E) or (B, k, E) → (B, E) or (B, k, E), float32, on the device.

    `width` is the E that is needed. Without it, any E is right. Without `device`, a tensor stays
    where it is. Warns about embeddings that are not unit vectors, and does not change them. Raises
    ValueError for another shape or width, for NaN, and for what is not numbers.
    """
    z = as_floats(value, name, device).float()
    z = z[None] if z.ndim == 1 else z
    if z.ndim not in (2, 3) or not z.numel():
        raise ValueError(
            f"{name} has the shape {tuple(z.shape)}; (B, E), or (B, k, E) with one for each of k "
            "drawings, would work"
        )
    if width is not None and z.shape[-1] != width:
        raise ValueError(
            f"{name} has {z.shape[-1]} numbers for each embedding, but these weights need {width}; "
            "use embeddings of the CLIP that belongs to the weights"
        )
    warn_unless_unit(z, name)
    return z


def warn_unless_unit(z: Tensor, name: str) -> None:
    """Warns if vectors (…, E) are not of length 1.

    They are used as they are, because to draw from a wrong length is an experiment of its own.
    """
    lengths = z.norm(dim=-1)
    worst = lengths.flatten()[(lengths - 1).abs().argmax()].item()
    if abs(worst - 1) > UNIT:
        warnings.warn(
            f"{name} has an embedding of length {worst:.3g}, but the networks were trained on unit "
            "vectors; torch.nn.functional.normalize(z, dim=-1) gives it length 1",
            stacklevel=2,
        )


def as_floats(value: Any, name: str, device: torch.device | None = None) -> Tensor:
    """Numbers in any form → float32 on the device; a float64 tensor keeps its type.

    Raises ValueError for NaN and infinity, and for what is not numbers.
    """
    tensor = as_tensor(value, name)
    if tensor.is_complex():
        raise ValueError(f"{name} has complex numbers; real numbers are needed")
    device = device or tensor.device
    if tensor.dtype not in (torch.float32, torch.float64) or device.type == "mps":
        tensor = tensor.float()  # MPS has no float64
    tensor = tensor.to(device)
    finite = tensor.float().isfinite()  # the networks compute in float32
    if not finite.all():
        where = (~finite).nonzero()[0].tolist()
        raise ValueError(f"{name} has NaN or infinity at {where}; every number must be finite")
    return tensor


def same_width(vectors: Tensor, others: Tensor, name: str) -> Tensor:
    """The vectors (…, E) as they are. Raises ValueError if the others have another E."""
    if vectors.shape[-1:] != others.shape[-1:]:
        raise ValueError(
            f"{name} has the shape {tuple(vectors.shape)}, but {tuple(others.shape)} is beside it; "
            "the last dimensions must be equal"
        )
    return vectors


def as_tensor(value: Any, name: str) -> Tensor:
    """A dense tensor as it is; arrays and lists as a tensor of float32, int64, uint8 or bool."""
    if isinstance(value, Tensor):
        if value.is_meta:
            raise ValueError(f"{name} is on the device meta, which holds no numbers")
        return value if value.layout == torch.strided else value.to_dense()
    try:
        array = np.asarray(_without_tensors(value))
    except ValueError as error:  # rows of different lengths
        raise ValueError(
            f"{name} has parts of different shapes; give all the same shape"
        ) from error
    if array.dtype.kind not in "fiub":
        raise ValueError(
            f"{name} is {type(value).__name__} without numbers; give a tensor, a NumPy array or a "
            "list of numbers"
        )
    types = {"f": np.float32, "b": np.bool_, "i": np.int64, "u": np.int64}
    wanted = np.uint8 if array.dtype == np.uint8 else types[array.dtype.kind]
    with np.errstate(over="ignore"):  # too large for float32 becomes infinity, which is rejected
        return torch.from_numpy(array.astype(wanted, order="C"))


def _without_tensors(value: Any) -> Any:
    """Tensors in lists become arrays. NumPy has no bfloat16."""
    if isinstance(value, list | tuple):
        return [_without_tensors(part) for part in value]
    if isinstance(value, Tensor):
        value = value.detach().cpu()
        return (value.float() if value.is_floating_point() else value).numpy()
    return value


def as_seeds(seeds: Any) -> list[int]:
    """One whole number or several, of Python, NumPy or torch → a list.

    Raises ValueError for other numbers, and for numbers that are out of range.
    """
    try:
        parts = [index(seeds)]
    except TypeError:
        several = isinstance(seeds, Iterable) and getattr(seeds, "ndim", 1)
        parts = list(seeds) if several else [seeds]
    for i, seed in enumerate(parts):
        try:
            parts[i] = index(seed)
        except TypeError as error:
            raise ValueError(f"the seed {seed!r} is not a whole number") from error
        if parts[i] not in SEEDS:
            raise ValueError(f"the seed {parts[i]} is out of range; -2**61 to 2**62 - 1 would work")
    return parts


def as_noise(noise: StartingNoise | None, n: int) -> StartingNoise | None:
    """The given x_T of n prompts in any form → tensors."""
    if noise is None:
        return None
    given = {name: value for name, value in vars(noise).items() if value is not None}
    given = {name: as_floats(value, f"noise.{name}").float() for name, value in given.items()}
    for name, value in given.items():
        check_count(value, f"noise.{name}", n)
    return StartingNoise(**given)


def check_count(values: Tensor, name: str, n: int) -> None:
    """Raises ValueError unless there is a value for each of n prompts."""
    if len(values) != n:
        raise ValueError(
            f"{name} has {len(values)} rows for {n} prompts; give one row for each prompt"
        )


def device_of(network: Any) -> torch.device | None:
    """The device of a network; None for an object without parameters."""
    parameters = network.parameters() if isinstance(network, nn.Module) else ()
    return next((parameter.device for parameter in parameters), None)
