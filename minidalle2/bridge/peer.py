"""Imports the package DALLE2-PyTorch ("the peer") when it is needed, and checks its configs.

The classes of the peer accept every keyword and ignore unknown ones. A misspelled setting therefore
builds another network, which draws noise. Here an unknown key is an error that names the key.
"""

import importlib
import inspect
import json
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from minidalle2.bridge.checkpoint import Published
from minidalle2.bridge.clean_text import PeerMissing
from minidalle2.bridge.state_dict import fill
from minidalle2.diffusion.process import Diffusion
from minidalle2.diffusion.schedule import Schedule
from minidalle2.storage.checkpoints import CheckpointError


def dalle2_pytorch() -> ModuleType:
    """The module dalle2_pytorch.dalle2_pytorch. Raises PeerMissing if it can't be imported."""
    try:
        importlib.import_module("dalle2_pytorch")
        return importlib.import_module("dalle2_pytorch.dalle2_pytorch")
    except ModuleNotFoundError as error:
        raise PeerMissing(
            f"published priors and decoders need DALLE2-PyTorch ({error}); install it with "
            '`pip install -e ".[bridge]"`'
        ) from error
    except (ImportError, RuntimeError, AttributeError) as error:
        raise PeerMissing(
            f"DALLE2-PyTorch can't be imported ({str(error).splitlines()[0]}); usually its "
            "torchvision was built for another torch: install a matching pair of versions, see "
            "pytorch.org"
        ) from error


def installed_version() -> str:
    """The version of the installed DALLE2-PyTorch."""
    return importlib.import_module("dalle2_pytorch.version").__version__


def section(content: dict, name: str, inner: str, where: str) -> dict:
    """The part `name` of a training config, which describes a network with the key `inner`.

    `content` can also be this part alone. Raises CheckpointError if it is neither.
    """
    part = content.get(name, content)
    if not isinstance(part, dict) or inner not in part:
        raise CheckpointError(
            f"{where} describes no {name}: it has neither the key {name!r} nor the key {inner!r} "
            f"of a {name}; its keys are {', '.join(sorted(content)) or '(none)'}"
        )
    return dict(part)


def settings_of(value: Any, where: str) -> dict:
    """`value` if it is a JSON object. Raises CheckpointError if it is not."""
    if not isinstance(value, dict):
        raise CheckpointError(
            f"{where} is {type(value).__name__} and no object with settings; use the JSON that was "
            "published with the weights"
        )
    return value


def build(cls: type, settings: dict, where: str, also: tuple[type, ...] = (), **given: Any) -> Any:
    """Returns `cls(**given, **settings)`, with lists in `settings` converted to tuples.

    Each setting must be a parameter of `cls`, or of a class in `also`, to which `cls` passes its
    other keywords. Raises CheckpointError for any other key, and for values that `cls` rejects.
    """
    known = [
        n
        for c in (cls, *also)
        for n, p in inspect.signature(c).parameters.items()
        if p.kind is not p.VAR_KEYWORD
    ]
    unknown = sorted(set(settings) - set(known))
    if unknown:
        raise CheckpointError(
            f"{where} has the key {unknown[0]!r}, which {cls.__name__} of the installed "
            f"DALLE2-PyTorch {installed_version()} does not know; check its spelling, or install "
            "the version with which the network was trained"
        )
    plain = {k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()}
    try:
        return cls(**given, **plain)
    except Exception as error:  # wrong values make the constructors raise many kinds of errors
        said = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise CheckpointError(f"{where} is no valid {cls.__name__} ({said})") from error


def reject(settings: dict, supported: dict[str, Any], where: str, remedy: str) -> None:
    """Raises CheckpointError for a setting with another value than the one that is supported.

    null also counts as this value.
    """
    for name, only in supported.items():
        if settings.get(name, only) not in (only, None):
            raise CheckpointError(
                f"{where} has the setting {name!r} with the value {json.dumps(settings[name])}, "
                f"but minidalle2 supports only {json.dumps(only)}; {remedy}"
            )


def fill_peer(module: nn.Module, entries: dict[str, Any], published: Published) -> None:
    """Loads the weights of a network of the peer. Names and shapes must be the same.

    Raises CheckpointError if they are not. The message says whether another version of the peer
    saved the file.
    """
    saved, installed = published.version, installed_version()
    if saved is None:
        remedy = (
            "use the JSON that was published with these weights; if it is this JSON, install the "
            f"DALLE2-PyTorch of the training (the file does not say its version, and {installed} "
            "is installed)"
        )
    elif saved == installed:
        remedy = (
            f"DALLE2-PyTorch {installed} saved the file and is installed, so the JSON belongs to "
            "another network: use the JSON that was published with these weights"
        )
    else:
        remedy = (
            f"DALLE2-PyTorch {saved} saved the file, but {installed} is installed: run `pip "
            f"install dalle2-pytorch=={saved}`, and use the JSON that was published with these "
            "weights"
        )
    fill(module, exact_schedules(module, entries, str(published.path)), str(published.path), remedy)


def exact_schedules(module: nn.Module, entries: dict[str, Any], where: str) -> dict[str, Any]:
    """The entries, with the config's own noise schedules in place of rounded ones.

    A network that was saved in half precision has rounded schedules: a beta of 0.999 becomes 1 in
    bfloat16, and the largest numbers become infinite in float16. The config gives the exact ones.
    Raises CheckpointError if the betas of the file are not those of the config.
    """
    exact = {}
    for name, own in module.state_dict().items():
        value = entries.get(name)
        rounded = isinstance(value, Tensor) and value.is_floating_point() and value.itemsize < 4
        if not (rounded and "noise_scheduler" in name and value.shape == own.shape):
            continue
        if name.endswith("betas") and not torch.allclose(value.to(own), own, rtol=1e-2, atol=1e-6):
            raise CheckpointError(
                f"{where} was trained with another noise schedule than its config describes "
                f"({name!r} differs); use the JSON that was published with these weights"
            )
        exact[name] = own
    return entries | exact


def diffusion_of(scheduler: nn.Module, predict_x_start: bool, predict_v: bool) -> Diffusion:
    """The peer's schedule and target as a Diffusion for minidalle2's samplers.

    The peer's own DDIM does not reach t = 0. Raises CheckpointError for a schedule with betas of 1
    or more, which the peer accepts although no network can learn from it.
    """
    if not (scheduler.betas < 1).all():
        raise CheckpointError(
            f"a linear schedule of {len(scheduler.betas)} timesteps has a beta of 1 or more, so no "
            "network was trained with it; check the config, which needs more than 20 timesteps"
        )
    target = "v" if predict_v else "x0" if predict_x_start else "eps"
    return Diffusion(Schedule(scheduler.betas), target)
