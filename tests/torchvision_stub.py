"""A torchvision that can be imported beside a torch without GPU: classes of every name, all empty.

dalle2-pytorch and open_clip import torchvision, whose builds ask for the operators of a GPU build.
What the tests and benchmarks run of them uses none of it.
"""

import importlib.machinery
import sys
from types import ModuleType

SUBMODULES = ("transforms", "transforms.functional", "utils", "models", "datasets", "ops")
SUBMODULES += ("ops.misc", "models.feature_extraction", "io")


class AnyAttribute(type):
    """Enumerations are looked into when modules are imported: every member is its own name."""

    def __getattr__(cls, name: str) -> str:
        if name.startswith("__"):
            raise AttributeError(name)
        return name


class Stub(ModuleType):
    __path__: list[str] = []

    def __getattr__(self, name: str):
        if name.startswith("__"):
            raise AttributeError(name)
        return AnyAttribute(name, (), {})


def install() -> None:
    """Puts the stub in torchvision's place, unless the real one works."""
    try:
        import torchvision  # noqa: F401
    except (ImportError, RuntimeError):
        for name in ("torchvision", *(f"torchvision.{part}" for part in SUBMODULES)):
            stub = Stub(name)
            stub.__spec__ = importlib.machinery.ModuleSpec(name, None, is_package=True)
            sys.modules[name] = stub
            if "." in name:
                parent, child = name.rsplit(".", 1)
                setattr(sys.modules[parent], child, stub)
