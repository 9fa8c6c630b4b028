"""Reads the files of torch.save and TorchScript without running any code of the file.

Both are zip archives: data.pkl describes the objects, and each file in data/ has the numbers of a
storage. A pickle can name any function of any package and have it called. Here it can name only
the few that make a tensor, an OrderedDict or a set. A stand-in replaces everything else. So a whole
pickled module is recognised, but never made.
"""

import pickle
import re
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

# The storage classes of torch.save and the types of their numbers.
STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
    "UntypedStorage": torch.uint8,
}
TORCHSCRIPT = "__torch__."  # begins the class names of TorchScript


class StandIn:
    """Replaces an object of a class that the reader does not make.

    `of` is the name of the class or function, `content` what the pickle gave to it.
    """

    of = ""

    def __new__(cls, *arguments: Any, **named: Any) -> "StandIn":
        self = super().__new__(cls)
        self.content, self.state = [*arguments, *named.values()], None
        return self

    def __init__(self, *arguments: Any, **named: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        self.state = state
        self.content.append(state)

    def __setitem__(self, key: Any, value: Any) -> None:  # of a subclass of dict
        self.content.append((key, value))

    def append(self, value: Any) -> None:  # of a subclass of list
        self.content.append(value)

    add = append  # of a subclass of set

    def extend(self, values: list) -> None:
        self.content += values

    @property
    def is_module(self) -> bool:
        """Whether it was an nn.Module."""
        return isinstance(self.state, dict) and {"_modules", "_parameters"} <= set(self.state)


class Reader(pickle.Unpickler):
    """Unpickles data.pkl of an archive. Every name that it looks up is one of `find_class`."""

    def __init__(self, archive: zipfile.ZipFile, root: str):
        super().__init__(archive.open(root + "data.pkl"), encoding="utf-8")
        self.archive, self.root = archive, root
        self.storages: dict[str, Tensor] = {}
        self.made = constructors()

    def find_class(self, module: str, name: str) -> Any:
        full = f"{module}.{name}"
        if full in self.made:
            return self.made[full]
        if module in ("torch", "torch.storage", "torch.cuda") and name in STORAGES:
            return STORAGES[name]
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        return type("StandIn", (StandIn,), {"of": full})

    def persistent_load(self, identity: Any) -> Tensor:
        """The numbers of a storage (N,). They are read once, even if several tensors share them."""
        _, dtype, key, _, _ = identity
        if key not in self.storages:
            with self.archive.open(f"{self.root}data/{key}") as file:
                numbers = torch.empty(self.archive.getinfo(file.name).file_size, dtype=torch.uint8)
                file.readinto(memoryview(numbers.numpy()))
                if file.read(1):
                    raise ValueError(f"the storage {key} is longer than the archive says")
            self.storages[key] = numbers
        return self.storages[key].view(dtype)


def constructors() -> dict[str, Callable]:
    """Names in a pickle → what makes their object. New functions for each file, never shared."""

    def tensor(storage: Tensor, offset: int, size: tuple, stride: tuple, *_: Any) -> Tensor:
        return storage.as_strided(size, stride, offset)

    def tensor_of_dtype(storage: Tensor, *layout: Any) -> Tensor:
        return tensor(storage.view(layout[5]), *layout[:3])  # dtypes without a storage class

    def parameter(data: Tensor, *_: Any) -> Tensor:
        return data

    def tensor_with_attributes(make: Callable, _: Any, arguments: tuple, *__: Any) -> Any:
        return make(*arguments)

    return {
        "collections.OrderedDict": OrderedDict,
        "builtins.set": set,
        "__builtin__.set": set,
        "torch.Size": tuple,
        "torch._utils._rebuild_tensor_v2": tensor,
        "torch._utils._rebuild_tensor_v3": tensor_of_dtype,
        "torch._utils._rebuild_parameter": parameter,
        "torch._utils._rebuild_parameter_with_state": parameter,
        "torch._tensor._rebuild_from_type_v2": tensor_with_attributes,
    }


def read_archive(path: Path) -> tuple[Any, bool]:
    """→ (the saved object with stand-ins, whether it is a TorchScript archive).

    A TorchScript module becomes its state dict. Raises ValueError for another zip archive, and many
    kinds of errors for a broken one.
    """
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        pickles = [n for n in names if n.count("/") < 2 and n.rpartition("/")[2] == "data.pkl"]
        if len(pickles) != 1:
            raise ValueError("it is a zip archive, but not one of torch.save or TorchScript")
        root = pickles[0].removesuffix("data.pkl")
        byte_order = root + "byteorder"
        if byte_order in names and archive.read(byte_order) != b"little":
            raise ValueError("it was written on a computer with another byte order")
        content = Reader(archive, root).load()
        if root + "constants.pkl" not in names:
            return content, False
        code = [archive.read(name).decode() for name in names if name.endswith(".py")]
        lists = re.findall(r"__(?:parameters|buffers)__ = \[(.*?)\]", "\n".join(code), re.DOTALL)
        return scripted_state(content, set(re.findall(r'"(\w+)"', " ".join(lists)))), True


def scripted_state(module: Any, weights: set[str]) -> dict[str, Any]:
    """The state dict of a TorchScript module. `weights` are the names of parameters and buffers.

    Modules that save their state by code of their own have no such state dict, and are left out.
    """
    state = module.state if isinstance(module, StandIn) else None
    found = {}
    for name, value in (state if isinstance(state, dict) else {}).items():
        if isinstance(value, StandIn) and value.of.startswith(TORCHSCRIPT):
            inner = scripted_state(value, weights)
            found |= {f"{name}.{rest}": part for rest, part in inner.items()}
        elif name in weights:
            found[name] = value
    return found
