"""What a package costs before it does anything: import time, installed size, lines to read.

Torch counts for nobody. Sizes are those of a package and of all that it requires and that is
installed here (no torchvision, no timm). Lines are those of all functions outside torch, numpy and
the standard library that run from a prompt to its pixels: what one has to read, imports aside.
"""

import re
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, distribution
from inspect import CO_OPTIMIZED
from pathlib import Path
from types import CodeType

from tests.benchmarks import whole

ROOT = Path(__file__).parent.parent.parent
NOT_COUNTED = {"torch"}
IMPORT = """
import time, torch
from tests.torchvision_stub import install
install()
started = time.perf_counter()
{}
print(time.perf_counter() - started)
"""


def footprint(imported: str, package: str, draw: Callable | None = None) -> Callable:
    def measure(seconds: float, seed: int) -> dict:
        code = IMPORT.format(imported)
        output = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code],
            cwd=ROOT,
            check=True,
            text=True,
            stdout=subprocess.PIPE,
        ).stdout
        numbers = {
            "import, s": float(output.split()[-1]),
            "installed, MB": installed(package) / 1e6,
        }
        if draw:
            exec(imported, {})  # else its import would run while lines are counted
            numbers["lines to read"] = lines_run(draw)
        return numbers

    return measure


def installed(package: str) -> int:
    """Bytes of a package and of all that it requires, as far as that is here."""
    if package == "minidalle2":  # runs from the repository's files
        files = [p for p in (ROOT / "minidalle2").rglob("*") if p.is_file()]
        own = sum(p.stat().st_size for p in files if "__pycache__" not in p.parts)
        text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
        requires = re.findall(r'"([\w-]+)>=', text.split("dependencies = [")[1].split("]")[0])
    else:
        own, requires = 0, [package]
    todo, seen = list(requires), set(NOT_COUNTED)
    while todo:
        name = re.match(r"[\w.-]+", todo.pop()).group().lower().replace("_", "-")
        if name in seen:
            continue
        seen.add(name)
        try:
            found = distribution(name)
        except PackageNotFoundError:
            continue
        own += sum(p.stat().st_size for f in found.files or [] if (p := Path(f.locate())).is_file())
        todo += [r for r in found.requires or [] if "extra ==" not in r]
    return own


def lines_run(draw: Callable) -> int:
    """Lines of every function that `draw` calls, but of torch's, numpy's and Python's own."""
    codes: set[CodeType] = set()

    def see(frame, event: str, argument) -> None:
        codes.add(frame.f_code)

    sys.setprofile(see)
    try:
        draw(0, 0)
    finally:
        sys.setprofile(None)
    libraries = [str(Path(p)) for p in sys.path if p.endswith("site-packages")]
    own = (str(ROOT / "minidalle2"), *libraries)
    others = tuple(f"{lib}/{name}" for lib in libraries for name in ("torch/", "numpy/"))
    lines = {
        (code.co_filename, line)
        for code in codes
        if code.co_flags & CO_OPTIMIZED  # a function: bodies of modules and classes have it not
        and code.co_filename.startswith(own)
        and not code.co_filename.startswith(others)
        for line in range(code.co_firstlineno, max(_lines(code)) + 1)
    }
    return len(lines)


def _lines(code: CodeType) -> list[int]:
    return [line for _, _, line in code.co_lines() if line] or [code.co_firstlineno]


MEASURES = {
    "minidalle2": footprint("import minidalle2.dalle2", "minidalle2", whole.ours),
    "dalle2-pytorch": footprint("import dalle2_pytorch", "dalle2-pytorch", whole.dalle2_pytorch),
    "open_clip": footprint("import open_clip", "open-clip-torch"),
    "x-clip": footprint("import x_clip", "x-clip"),
    "diffusers": footprint(
        "from diffusers import PriorTransformer, UNet2DConditionModel", "diffusers"
    ),
}
