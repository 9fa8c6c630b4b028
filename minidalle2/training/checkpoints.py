"""Checkpoints: a folder with `config.json` (all constructor arguments) and `model.safetensors`.

Nothing is pickled. Every file is written beside its place and then renamed onto it, so a kill or a
full disk leaves the previous checkpoint whole. Whatever is wrong with a checkpoint is one sentence.
"""

import json
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from minidalle2.training.eight_bits import unpack

FORMAT_VERSION = 1
LEEWAY = 1 << 22  # weights that a config may describe beyond ten times those in its file


class CheckpointError(RuntimeError):
    """A checkpoint can't be written or read; the message says which, why and what would help."""


def write_atomically(path: Path, write) -> None:
    """`write(temporary_path)`, then rename onto `path`; on failure `path` stays as it was."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"could not save {path}: {error}; what was saved there before is untouched. "
            "Free some space or choose another folder"
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def remove_unfinished(folder: Path) -> None:
    """Delete what processes that were killed had begun to write; none may be writing there now."""
    for path in folder.glob("*.tmp"):
        with suppress(OSError):
            path.unlink()


def write_json(path: Path, content: dict) -> None:
    text = json.dumps(content, indent=1) + "\n"
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_atomically(path, lambda temporary: save_file(contiguous, temporary, metadata))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """→ (tensors, metadata)."""
    if not path.is_file():
        raise CheckpointError(
            f"there is no checkpoint at {path}; train it first, or check the path"
        )
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return tensors, file.metadata() or {}
    except Exception as error:  # on broken headers almost anything
        raise CheckpointError(
            f"{path} is truncated or not a safetensors file ({error}); restore it or train it again"
        ) from error


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Whatever goes wrong in here is a fault of the file's content: one sentence about it."""
    try:
        yield
    except CheckpointError:
        raise
    except Exception as error:  # on nonsense, constructors and look-ups raise almost anything
        said = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise CheckpointError(
            f"{path} does not fit what it is to be used for ({said}); restore it or train it again"
        ) from error


def save_model(
    folder: Path,
    stage: str,
    model: nn.Module,
    packed: Callable[[dict[str, Tensor]], dict[str, Tensor]] = dict,
) -> None:
    """Write a model with its config; `packed` may make its tensors smaller, see eight_bits.py."""
    content = {"format_version": FORMAT_VERSION, "stage": stage, "config": asdict(model.config)}
    write_json(folder / "config.json", content)
    write_tensors(folder / "model.safetensors", packed(model.state_dict()), {"stage": stage})


def load_model(folder: Path, stage: str, config_class: type, model_class: type) -> Any:
    """Read a model of a known stage, on the CPU, in float32, in eval mode.

    Raises CheckpointError for a missing, truncated, foreign or newer checkpoint.
    """
    config = read_config(folder, stage, config_class)
    tensors, _ = read_tensors(folder / "model.safetensors")
    try:
        tensors = unpack(tensors)
    except ValueError as error:
        raise CheckpointError(f"{folder / 'model.safetensors'} is incomplete: {error}") from error
    with reading(folder / "config.json"), no_larger_than(tensors, config):
        model = model_class(config)
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if expected != found:
        wrong = sorted(k for k in expected | found if expected.get(k) != found.get(k))
        raise CheckpointError(
            f"the weights in {folder} do not fit its config.json: {len(wrong)} tensors differ, "
            f"first {wrong[0]!r} (expected {expected.get(wrong[0])}, found {found.get(wrong[0])})"
        )
    model.load_state_dict(tensors)
    return model.eval()


@contextmanager
def no_larger_than(tensors: dict[str, Tensor], config: Any) -> Iterator[None]:
    """Stop a model that is built in here from filling the memory because of one wrong digit in its
    config. Raises ValueError as soon as it is far larger than its weights in the file."""
    held = sum(tensor.numel() for tensor in tensors.values())
    most, built = 10 * held + LEEWAY, 0
    numbers = [n for value in asdict(config).values() for n in _integers(value)]
    if max(numbers, default=0) > 2 * math.isqrt(most):
        raise ValueError(f"{max(numbers)} is too much for a model of {held:,} weights")

    def count(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        nonlocal built
        built += 0 if parameter is None else parameter.numel()
        if built > most:
            raise ValueError(f"it describes far more weights than the {held:,} beside it")

    hook = register_module_parameter_registration_hook(count)  # before the memory is touched
    try:
        yield
    finally:
        hook.remove()


def _integers(value: Any) -> list[int]:
    if isinstance(value, dict | list | tuple):
        inner = value.values() if isinstance(value, dict) else value
        return [number for part in inner for number in _integers(part)]
    return [value] if isinstance(value, int) else []


def read_config(folder: Path, stage: str, config_class: type) -> Any:
    """`config.json` → the stage's config dataclass."""
    path = folder / "config.json"
    if not path.is_file():
        raise CheckpointError(
            f"there is no {stage} checkpoint in {folder} (no config.json); train it first, "
            "or check the path"
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        version, found_stage, values = (content[k] for k in ("format_version", "stage", "config"))
    except (ValueError, KeyError, TypeError, OSError, RecursionError) as error:
        raise CheckpointError(
            f"{path} is not a minidalle2 config ({type(error).__name__}: {error}); it needs "
            "format_version, stage and config"
        ) from error
    if not isinstance(version, int) or not isinstance(values, dict):
        raise CheckpointError(
            f"{path} is not a minidalle2 config (format_version {version!r} is no number, or "
            "config is no object); restore it or train it again"
        )
    if version > FORMAT_VERSION:
        raise CheckpointError(
            f"{path} has format {version}, newer than the {FORMAT_VERSION} this minidalle2 reads; "
            "update minidalle2"
        )
    if found_stage != stage:
        raise CheckpointError(f"{folder} holds a {found_stage!r} checkpoint, not a {stage!r} one")
    with reading(path):
        return config_from_dict(config_class, values, where=str(path))


def config_from_dict(config_class: type, values: dict, where: str) -> Any:
    """A dict → the dataclass, refusing unknown keys by name; nested dataclasses are followed."""
    known = {field.name: field.type for field in fields(config_class)}
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise CheckpointError(
            f"{where} has the unknown key {unknown[0]!r}; {config_class.__name__} knows: "
            f"{', '.join(known)}"
        )
    return config_class(
        **{
            name: config_from_dict(known[name], value, where)
            if isinstance(value, dict) and is_dataclass(known[name])
            else tuple(value) if isinstance(value, list) else value
            for name, value in values.items()
        }
    )  # fmt: skip
