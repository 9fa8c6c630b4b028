"""Finds the state dict of a network in the content of a checkpoint, and loads it into the network.

State dicts lie under keys ({"state_dict": …}, {"ema": {"model": …}}) and below prefixes
("module._orig_mod.", "model.clip."). No list of keys and prefixes is complete. So a network is
found by the names of a few of its tensors: whatever comes before these names is the prefix.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from minidalle2.bridge.checkpoint import Published
from minidalle2.bridge.recognise import DEPTH, recognised, type_name
from minidalle2.storage.checkpoints import CheckpointError

# Parts of names that come from wrappers: DistributedDataParallel, compile, FSDP, checkpointing.
WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}


def find_network(published: Published, marks: tuple[str, ...], what: str) -> dict[str, Any]:
    """The entries of a network in a checkpoint, without prefix. Moving averages are preferred.

    Tensors that an average lacks, such as buffers, come from the network beside the average.
    `marks` are names of tensors that each network of the kind `what` has. Entries can have values
    that are no tensors. Raises CheckpointError if there is no such network, or more than one.
    """
    groups = flat(published.content, published.path)
    found = {
        where + prefix: entries_below(entries, prefix)
        for where, entries in groups.items()
        for prefix in prefixes(entries, marks)
    }
    found = distinct(found)
    averages = {where: entries for where, entries in found.items() if is_average(where)}
    others = [entries for where, entries in found.items() if where not in averages]
    if len(averages) == 1:
        found = averages
        if len(others) == 1:
            found = {where: completed(entries, others[0]) for where, entries in averages.items()}
    if not found:
        raise CheckpointError(f"{published.path} {recognised(published.content, groups, what)}")
    if len(found) > 1:
        raise CheckpointError(
            f"{published.path} holds {len(found)} different networks that could be {what}, under "
            f"{named(found)}; save the one that you want in a file of its own"
        )
    return next(iter(found.values()))


def flat(content: Any, path: Path, where: str = "", depth: int = 0) -> dict[str, dict[str, Any]]:
    """Each dict in the content → its entries with their names, without the parts of wrappers.

    A dict is named by the keys that lead to it, with "/" after each, as in "ema/model/". Lists
    count as dicts of their indices. `path` is the file. Raises CheckpointError if two names become
    the same name.
    """
    if isinstance(content, list | tuple):
        content = dict(enumerate(content))
    if not isinstance(content, dict) or depth > DEPTH:
        return {}
    entries, inner = {}, {}
    for key, value in content.items():
        name = ".".join(part for part in str(key).split(".") if part not in WRAPPERS)
        if isinstance(value, Tensor) and isinstance(entries.get(name), Tensor):
            raise CheckpointError(
                f"{path} has the tensor {name!r} twice, once as {str(key)!r}; save the state dict "
                "of one network in a file of its own"
            )
        if name not in entries or isinstance(value, Tensor):
            entries[name] = value
        inner |= flat(value, path, f"{where}{key}/", depth + 1)
    return {where: entries} | inner


def named(wheres: Iterable[str]) -> str:
    """Names of dicts and prefixes for a message, as in "'ema/model', 'state_dict/clip.'"."""
    return ", ".join(repr(where.rstrip("/") or "no key") for where in wheres)


def prefixes(entries: dict[str, Any], marks: tuple[str, ...]) -> list[str]:
    """The prefixes below which all of `marks` are found, in the order of the alphabet."""
    first = {name.removesuffix(marks[0]) for name in entries if name.endswith(marks[0])}
    complete = (p for p in first if all(p + mark in entries for mark in marks))
    return sorted(p for p in complete if p == "" or p.endswith("."))


def entries_below(entries: dict[str, Any], prefix: str) -> dict[str, Any]:
    return {k.removeprefix(prefix): v for k, v in entries.items() if k.startswith(prefix)}


def is_average(where: str) -> bool:
    """Whether the keys and prefixes of a network say that it is a moving average."""
    words = where.replace("/", ".").replace("_", ".").split(".")
    return "ema" in words and "online" not in words


def completed(average: dict[str, Any], network: dict[str, Any]) -> dict[str, Any]:
    """A moving average, with what it lacks of its network. Other networks add nothing to it."""
    tensors = {name: value for name, value in average.items() if isinstance(value, Tensor)}
    return network | tensors if set(tensors) <= set(network) else average


def distinct(found: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The networks without copies. Some trainers save the same average twice."""
    kept: dict[str, dict[str, Any]] = {}
    for where, entries in found.items():
        if not any(same(entries, other) for other in kept.values()):
            kept[where] = entries
    return kept


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    a, b = ({k: v for k, v in d.items() if isinstance(v, Tensor)} for d in (a, b))
    return set(a) == set(b) and all(
        a[k].shape == b[k].shape and a[k].dtype == b[k].dtype and torch.equal(a[k], b[k]) for k in a
    )


def fill(module: nn.Module, entries: dict[str, Any], where: str, remedy: str) -> None:
    """Loads a state dict into a module in float32, and freezes the module.

    Names and shapes must be the same. Entries that are neither tensors nor wanted by the module are
    left out. Raises CheckpointError, which names the first tensor that differs, `where` it is, and
    the `remedy`. Many loading scripts pass `strict=False` instead. Then a tensor that differs keeps
    its random values, and the network draws noise.
    """
    expected = module.state_dict()
    for name in expected:
        if name in entries:
            check_numbers(name, entries[name], expected[name].is_floating_point(), where)
    found = {k: v for k, v in entries.items() if isinstance(v, Tensor)}
    wrong = list(differences(expected, found))
    if wrong:
        raise CheckpointError(
            f"{where} does not fit its config: {len(wrong)} of {len(expected)} tensors differ, "
            f"first {wrong[0]}; {remedy}"
        )
    module.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in found.items()})
    module.eval().requires_grad_(False)


def differences(expected: dict[str, Tensor], found: dict[str, Tensor]) -> Iterator[str]:
    """What differs between the tensors of a network and those of a file, in the order of names."""
    for name in sorted(expected | found):
        if name not in found:
            yield f"{name!r} (it is missing in the file)"
        elif name not in expected:
            yield f"{name!r} (the network of this config has no such tensor)"
        elif found[name].shape != expected[name].shape:
            shapes = tuple(expected[name].shape), tuple(found[name].shape)
            yield f"{name!r} (expected {shapes[0]}, found {shapes[1]})"


def check_numbers(name: str, value: Any, floating: bool, where: str) -> None:
    """Raises CheckpointError if a value can't be a tensor of a network, whatever its shape.

    `floating` says whether the tensor has floating-point numbers.
    """
    said = None
    if not isinstance(value, Tensor):
        said = (
            f"has {type_name(value)} under {name!r}, not a plain tensor; save the state dict again"
        )
    elif value.is_meta or value.layout != torch.strided:
        said = (
            f"has no plain numbers under {name!r} ({value.device}, {value.layout}); save it again"
        )
    elif value.is_floating_point() != floating:
        said = (
            f"has the numbers of {name!r} as {value.dtype}; quantised weights are not supported: "
            "take the weights in float16, bfloat16 or float32"
        )
    elif floating and not value.float().isfinite().all():
        said = (
            f"has numbers under {name!r} that are not finite (NaN or infinity); download the file "
            "again, or take weights that were saved in bfloat16 or float32"
        )
    if said:
        raise CheckpointError(f"{where} {said}")
