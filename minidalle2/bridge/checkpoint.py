"""Weights and JSON files as other projects publish them → tensors and settings.

A checkpoint may be pickled, a TorchScript archive or safetensors, bare or inside a trainer's state.
Of pickles only tensors and plain values are read: torch's weights-only reader, with a placeholder
for every class that it does not know, so that nothing in a file is ever run.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from minidalle2.training.checkpoints import CheckpointError, read_tensors

SUFFIXES = (".pth", ".pt", ".bin", ".safetensors")


class Placeholder:
    """What stands in a checkpoint besides tensors and plain values: a version, an optimizer."""

    def __new__(cls, *args: Any) -> "Placeholder":
        self = super().__new__(cls)
        self.content = args
        return self

    def __setstate__(self, state: Any) -> None:
        self.content = (self.content, state)


@dataclass
class Published:
    """A checkpoint file: its top level, and, of a TorchScript archive, that it was one."""

    path: Path
    state: dict
    scripted: bool = False

    @property
    def version(self) -> str:
        """Of the package that saved it, as far as it says."""
        return version_of(self.state.get("version")) or "an unknown version"


def only_file(folder: Path, suffixes: tuple[str, ...], what: str) -> Path:
    """The one file of a folder that ends so. Raises CheckpointError for none and for several."""
    found = sorted(p for p in folder.glob("*") if p.suffix in suffixes)
    if len(found) != 1:
        names = ", ".join(p.name for p in found) or "none"
        raise CheckpointError(
            f"{folder} should hold exactly one {what} ({', '.join(suffixes)}), but holds {names}"
        )
    return found[0]


def read_json(path: Path) -> dict:
    """Raises CheckpointError for what is no JSON object."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise CheckpointError(f"{path} can't be read as JSON ({error})") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} is no JSON object, so no config of a network")
    return content


def read_checkpoint(folder: Path) -> Published:
    """The one file of weights in a folder, on the CPU. Raises CheckpointError."""
    path = only_file(folder, SUFFIXES, "file of weights")
    if path.suffix == ".safetensors":
        return Published(path, read_tensors(path)[0])
    try:
        return _unpickled(path)
    except Exception as error:  # whatever a broken file makes the readers raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"{path} can't be read as a checkpoint ({reason[:200]}); download it again, or save "
            "its state dict anew with torch.save"
        ) from error


def _unpickled(path: Path) -> Published:
    with path.open("rb") as file:
        reader = torch._C.PyTorchFileReader(file)
        if "constants.pkl" in reader.get_all_records():  # as OpenAI publishes CLIP
            module = torch.jit.load(path, map_location="cpu")
            return Published(path, dict(module.state_dict()), scripted=True)
    unknown = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    with torch.serialization.safe_globals([(Placeholder, name) for name in unknown]):
        state = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(state, dict):
        raise ValueError(f"it holds a {type(state).__name__}, not a dict")
    return Published(path, state)


def version_of(value: Any) -> str | None:
    """'1.15.6' of a string or of packaging's pickled Version, which keeps (1, 15, 6) somewhere."""
    if isinstance(value, str):
        return value
    if isinstance(value, tuple) and len(value) > 1 and all(type(n) is int for n in value):
        return ".".join(map(str, value))
    if isinstance(value, Placeholder):
        value = value.content
    parts = value.values() if isinstance(value, dict) else value if type(value) is tuple else ()
    return next(filter(None, map(version_of, parts)), None)


def fill(module: nn.Module, tensors: dict[str, Tensor], where: str, remedy: str) -> None:
    """Every tensor of the module from a state dict, in float32, and none left over.

    Raises CheckpointError, which names the first tensor that does not fit. `strict=False`, which
    many loading scripts pass, would draw noise instead.
    """
    expected = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    wrong = sorted(k for k in expected | found if expected.get(k) != found.get(k))
    if wrong:
        raise CheckpointError(
            f"{where} does not fit its config: {len(wrong)} of {len(expected)} tensors differ, "
            f"first {wrong[0]!r} (expected {expected.get(wrong[0])}, found {found.get(wrong[0])}); "
            f"{remedy}"
        )
    module.load_state_dict({k: v.float() if v.is_floating_point() else v
                            for k, v in tensors.items()})  # fmt: skip
    module.eval().requires_grad_(False)
