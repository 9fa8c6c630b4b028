"""A torchvision that has every name and can do nothing.

Some peers import it for data that we don't load with it. It has no CPU build for this torch, so it
is replaced before their import; a peer that really called it would fail, and none does here.
"""

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

NAMES = (
    "torchvision", "torchvision.transforms", "torchvision.transforms.functional",
    "torchvision.utils", "torchvision.datasets", "torchvision.models", "torchvision.ops",
    "torchvision.ops.misc",
)  # fmt: skip


class _AnyName(type):
    def __getattr__(cls, name: str) -> str:
        if name.startswith("__"):
            raise AttributeError(name)
        return name


class _Module(ModuleType):
    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return _AnyName(name, (), {})


def pretend() -> None:
    for name in NAMES:
        module = _Module(name)
        module.__spec__, module.__path__ = ModuleSpec(name, None), []
        sys.modules[name] = module
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], child, module)
