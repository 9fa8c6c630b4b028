"""Reads the weights and JSON files of other projects.

A checkpoint can be a pickle, a TorchScript archive or a safetensors file. It can contain a state
dict only or the whole state of a trainer. No code in a file is ever run: pickles are read by
torch's weights-only reader, and a placeholder replaces each object of a class that this reader does
not know.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from minidalle2.storage.checkpoints import CheckpointError, read_tensors

SUFFIXES = (".pth", ".pt", ".bin", ".safetensors")


class Placeholder:
    """Replaces an object of a checkpoint that is no tensor or plain value, such as a version."""

    def __new__(cls, *args: Any) -> "Placeholder":
        self = super().__new__(cls)
        self.content = args
        return self

    def __setstate__(self, state: Any) -> None:
        self.content = (self.content, state)


@dataclass
class Published:
    """The content of a checkpoint file."""

    path: Path
    state: dict  # its top level
    scripted: bool = False  # whether it is a TorchScript archive

    @property
    def version(self) -> str:
        """The version of the package that saved the file, if the file says it."""
        return version_of(self.state.get("version")) or "an unknown version"


def only_file(folder: Path, suffixes: tuple[str, ...], what: str) -> Path:
    """The only file of a folder with one of these suffixes.

    `what` names the file in the message. Raises CheckpointError if there is none or more than one.
    """
    found = sorted(p for p in folder.glob("*") if p.suffix in suffixes)
    if len(found) != 1:
        names = ", ".join(p.name for p in found) or "none"
        raise CheckpointError(
            f"{folder} should hold exactly one {what} ({', '.join(suffixes)}), but holds {names}"
        )
    return found[0]


def read_json(path: Path) -> dict:
    """Reads a JSON file. Raises CheckpointError if its content is not a JSON object."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise CheckpointError(f"{path} can't be read as JSON ({error})") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} is no JSON object, so it can't be the config of a network")
    return content


def read_checkpoint(folder: Path) -> Published:
    """Reads the only file of weights in a folder, onto the CPU.

    Raises CheckpointError if there is not exactly one such file, or if it can't be read.
    """
    path = only_file(folder, SUFFIXES, "file of weights")
    if path.suffix == ".safetensors":
        return Published(path, read_tensors(path)[0])
    try:
        return _unpickled(path)
    except Exception as error:  # broken files make the readers raise many kinds of errors
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"{path} can't be read as a checkpoint ({reason[:200]}); download it again, or save "
            "its state dict again with torch.save"
        ) from error


def _unpickled(path: Path) -> Published:
    with path.open("rb") as file:
        reader = torch._C.PyTorchFileReader(file)
        if "constants.pkl" in reader.get_all_records():  # a TorchScript archive, like OpenAI's CLIP
            module = torch.jit.load(path, map_location="cpu")
            return Published(path, dict(module.state_dict()), scripted=True)
    unknown = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    with torch.serialization.safe_globals([(Placeholder, name) for name in unknown]):
        state = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(state, dict):
        raise ValueError(f"it holds a {type(state).__name__}, not a dict")
    return Published(path, state)


def version_of(value: Any) -> str | None:
    """The version in a value, for example '1.15.6', or None.

    The value can be a string or a pickled `packaging.Version`, which contains (1, 15, 6).
    """
    if isinstance(value, str):
        return value
    if isinstance(value, tuple) and len(value) > 1 and all(type(n) is int for n in value):
        return ".".join(map(str, value))
    if isinstance(value, Placeholder):
        value = value.content
    parts = value.values() if isinstance(value, dict) else value if type(value) is tuple else ()
    return next(filter(None, map(version_of, parts)), None)


def fill(module: nn.Module, tensors: dict[str, Tensor], where: str, remedy: str) -> None:
    """Loads a state dict into a module in float32, and freezes the module.

    Names and shapes must be the same. Raises CheckpointError, which names the first tensor that
    differs, `where` it is, and the `remedy`. Many loading scripts pass `strict=False` instead. Then
    a tensor that differs keeps its random values, and the network draws noise.
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
    module.load_state_dict(
        {k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}
    )
    module.eval().requires_grad_(False)
