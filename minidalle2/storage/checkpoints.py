"""Checkpoints: a folder with `config.json` (all constructor arguments) and `model.safetensors`.

Nothing is pickled. Every file is written under a temporary name and then renamed, so that a kill
or a full disk leaves the previous checkpoint intact. Every fault of a checkpoint is reported in
one sentence.
"""

import json
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from minidalle2.storage.eight_bits import unpack
from minidalle2.storage.upgrades import FORMAT_VERSION, upgraded
from minidalle2.tokenizer import Tokenizer

LEEWAY = 1 << 20  # weights that a config may describe beyond ten times those in the file


class CheckpointError(RuntimeError):
    """A checkpoint cannot be written or read. The message says which, why, and what would help."""


# Files


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """`write(temporary_path)`, then rename to `path`. If this fails, `path` is unchanged."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"could not save {path}: {error}; what was saved there before is unchanged. "
            "Free some disk space or choose another folder"
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def remove_unfinished(folder: Path) -> None:
    """Deletes temporary files of killed processes. No other process may be writing there.

    safetensors itself writes to a file such as .tmp04QqhK first.
    """
    for pattern in ("*.tmp", ".tmp" + 6 * "[A-Za-z0-9]"):
        for path in folder.glob(pattern):
            with suppress(OSError):
                path.unlink()


def write_json(path: Path, content: dict) -> None:
    text = json.dumps(content, indent=1) + "\n"
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_atomically(path, lambda temporary: save_file(contiguous, temporary, metadata))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """→ (tensors, metadata). Raises CheckpointError for a missing or broken file."""
    if not path.is_file():
        raise CheckpointError(
            f"there is no checkpoint at {path}; train it first, or check the path"
        )
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return tensors, file.metadata() or {}
    except Exception as error:  # a broken header raises many kinds of errors
        raise CheckpointError(
            f"{path} is truncated or not a safetensors file ({error}); restore it or train it again"
        ) from error


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Inside, every error counts as a fault of the file `path` and becomes one CheckpointError."""
    try:
        yield
    except CheckpointError:
        raise
    except Exception as error:  # nonsense in a file makes constructors raise many kinds of errors
        said = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise CheckpointError(
            f"{path} does not fit its use here ({said}); restore it or train it again"
        ) from error


# Tokenizers


def save_tokenizer(tokenizer: Tokenizer, path: Path) -> None:
    state = {"merges": tokenizer.merges, "words": sorted(tokenizer.words)}
    state["context_length"] = tokenizer.context_length
    text = json.dumps(state, ensure_ascii=False) + "\n"
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def load_tokenizer(path: Path) -> Tokenizer:
    """Raises CheckpointError for a missing file or one that is not a tokenizer."""
    if not path.is_file():
        raise CheckpointError(f"there is no tokenizer at {path}; `train tokenizer` makes one")
    try:
        return Tokenizer(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise CheckpointError(
            f"{path} is not a minidalle2 tokenizer ({error}); restore it or train it again"
        ) from error


# Models


def save_model(
    folder: Path,
    stage: str,
    model: nn.Module,
    pack: Callable[[dict[str, Tensor]], dict[str, Tensor]] = dict,
) -> None:
    """Writes a model with its config. `pack` may compress the parameters (eight_bits.py).

    Buffers are measured values, such as the edges of buckets. They are never compressed.
    """
    content = {"format_version": FORMAT_VERSION, "stage": stage, "config": asdict(model.config)}
    write_json(folder / "config.json", content)
    parameters = {name for name, _ in model.named_parameters()}
    state = model.state_dict()
    tensors = pack({name: value for name, value in state.items() if name in parameters})
    tensors |= {name: value for name, value in state.items() if name not in parameters}
    write_tensors(folder / "model.safetensors", tensors, {"stage": stage})


def load_model(folder: Path, stage: str, config_class: type, model_class: type) -> Any:
    """Reads a model of a known stage, on the CPU, in float32, in eval mode.

    Raises CheckpointError for a missing, truncated, foreign or newer checkpoint.
    """
    config = read_config(folder, stage, config_class)
    tensors, _ = read_tensors(folder / "model.safetensors")
    try:
        tensors = unpack(tensors)
    except ValueError as error:
        raise CheckpointError(f"{folder / 'model.safetensors'} is incomplete: {error}") from error
    with reading(folder / "config.json"):
        check_size(config, tensors)
        with torch.device("meta"):  # shapes without memory, in case the config has a wrong digit
            expected = shapes(model_class(config).state_dict())
        found = shapes(tensors)
    if expected != found:
        wrong = sorted(k for k in expected | found if expected.get(k) != found.get(k))
        raise CheckpointError(
            f"the weights in {folder} do not fit its config.json: {len(wrong)} tensors differ, "
            f"first {wrong[0]!r} (expected {expected.get(wrong[0])}, found {found.get(wrong[0])})"
        )
    with reading(folder / "config.json"):
        model = model_class(config)
    model.load_state_dict(tensors)
    return model.eval()


def shapes(tensors: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def check_size(config: Any, tensors: dict[str, Tensor]) -> None:
    """Raises ValueError if a number in the config is too large for the weights beside it.

    A wrong digit in a number of layers would otherwise build layers for hours.
    """
    held = sum(tensor.numel() for tensor in tensors.values())
    largest = max((n for value in asdict(config).values() for n in _integers(value)), default=0)
    if largest > 2 * math.isqrt(10 * held + LEEWAY):
        raise ValueError(f"{largest} is too much for a model of {held:,} weights")


def _integers(value: Any) -> list[int]:
    if isinstance(value, dict | list | tuple):
        inner = value.values() if isinstance(value, dict) else value
        return [number for part in inner for number in _integers(part)]
    return [value] if isinstance(value, int) else []


def read_config(folder: Path, stage: str, config_class: type) -> Any:
    """`config.json` → the config dataclass of the stage. Raises CheckpointError."""
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
        return config_from_dict(config_class, upgraded(values, version), where=str(path))


def config_from_dict(config_class: type, values: dict, where: str) -> Any:
    """A dict → the dataclass, nested dataclasses included. Unknown keys are rejected by name."""
    known = {field.name: field.type for field in fields(config_class)}
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise CheckpointError(
            f"{where} has the unknown key {unknown[0]!r}; {config_class.__name__} knows: "
            f"{', '.join(known)}"
        )

    def converted(name: str, value: Any) -> Any:
        if isinstance(value, dict) and is_dataclass(known[name]):
            return config_from_dict(known[name], value, where)
        return tuple(value) if isinstance(value, list) else value

    return config_class(**{name: converted(name, value) for name, value in values.items()})
