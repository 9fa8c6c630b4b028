"""The package DALLE2-PyTorch: imported when it is needed, and its configs checked by name.

Its classes take any keyword and forget it, and its loading scripts build with defaults what a
config leaves out; both end in noise. Here a key that no class has is an error that names it.
"""

import importlib
import inspect
from types import ModuleType
from typing import Any

from torch import Tensor, nn

from minidalle2.bridge.checkpoint import Published, fill
from minidalle2.diffusion.process import Diffusion
from minidalle2.diffusion.schedule import Schedule
from minidalle2.training.checkpoints import CheckpointError


class PeerMissing(ImportError):
    """DALLE2-PyTorch is not installed, or cannot be imported here."""


def dalle2_pytorch() -> ModuleType:
    """The package. Raises PeerMissing, with what would help."""
    try:
        importlib.import_module("dalle2_pytorch")
        return importlib.import_module("dalle2_pytorch.dalle2_pytorch")
    except ModuleNotFoundError as error:
        raise PeerMissing(
            f"published priors and decoders need DALLE2-PyTorch ({error}); "
            '`pip install -e ".[bridge]"` brings it'
        ) from error
    except (ImportError, RuntimeError, AttributeError) as error:
        raise PeerMissing(
            f"DALLE2-PyTorch can't be imported ({str(error).splitlines()[0]}); most often its "
            "torchvision was built for another torch: install the pair that pytorch.org names"
        ) from error


def installed_version() -> str:
    return importlib.import_module("dalle2_pytorch.version").__version__


def section(content: dict, name: str, where: str) -> dict:
    """The part of a training config that describes the network, or a config of that part alone.

    Raises CheckpointError where there is neither."""
    part = content.get(name, content)
    if not isinstance(part, dict) or not {"net", "unets"} & set(part):
        raise CheckpointError(
            f"{where} describes no {name}: it has neither {name!r} nor the keys of one, but "
            f"{', '.join(sorted(content)) or 'nothing'}"
        )
    return part


def build(cls: type, settings: dict, where: str, also: tuple[type, ...] = (), **given: Any) -> Any:
    """`cls(**given, **settings)`, where each setting is a parameter of `cls` or of what it passes
    the rest on to (`also`). Raises CheckpointError for any other key and for values it refuses."""
    known = [n for c in (cls, *also) for n, p in inspect.signature(c).parameters.items()
             if p.kind is not p.VAR_KEYWORD]  # fmt: skip
    unknown = sorted(set(settings) - set(known))
    if unknown:
        raise CheckpointError(
            f"{where} has the key {unknown[0]!r}, which {cls.__name__} of the installed "
            f"DALLE2-PyTorch {installed_version()} does not know; install the version that the "
            "network was trained with"
        )
    plain = {k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()}
    try:
        return cls(**given, **plain)
    except (TypeError, ValueError, AssertionError, RuntimeError) as error:
        raise CheckpointError(f"{where} describes no {cls.__name__} ({error})") from error


def fill_peer(module: nn.Module, tensors: dict[str, Tensor], published: Published) -> None:
    """The weights of a network of the peer, strictly; versions are named where they do not fit."""
    fill(
        module, tensors, str(published.path),
        f"it was saved by DALLE2-PyTorch {published.version} and {installed_version()} is "
        "installed: take the JSON that was published beside it, and that version",
    )  # fmt: skip


def diffusion_of(scheduler: nn.Module, predict_x_start: bool, predict_v: bool) -> Diffusion:
    """The peer's schedule and target, for our samplers: its own DDIM stops short of t = 0.

    Raises CheckpointError for a schedule that the peer lets pass but nothing can be learned from.
    """
    if not (scheduler.betas < 1).all():
        raise CheckpointError(
            f"a linear schedule of {len(scheduler.betas)} timesteps adds more noise than there is "
            "room for (it needs more than 20); no network was trained so, check its config"
        )
    target = "v" if predict_v else "x0" if predict_x_start else "eps"
    return Diffusion(Schedule(scheduler.betas), target)
