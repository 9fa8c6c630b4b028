"""Every public function of the package says the types of its arguments and of its result.

py.typed tells type checkers that it is so.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "minidalle2"
Function = ast.FunctionDef | ast.AsyncFunctionDef


def public(body: list[ast.stmt]) -> Iterator[Function]:
    """The functions and methods that others may call, without those inside of functions.

    `__init__` and `__call__` are public. The other special methods have fixed types.
    """
    for node in body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from public(node.body)
        elif isinstance(node, Function) and (
            not node.name.startswith("_") or node.name in ("__init__", "__call__")
        ):
            yield node


def missing(function: Function) -> list[str]:
    """The names of its arguments without a type, and `return`."""
    given = function.args
    arguments = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
    names = [argument.arg for argument in arguments if argument and not argument.annotation]
    typed = function.returns or function.name == "__init__"
    return [name for name in names if name not in ("self", "cls")] + ([] if typed else ["return"])


def test_every_public_function_is_typed():
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        for function in public(ast.parse(path.read_text(encoding="utf-8")).body):
            if names := missing(function):
                where = f"{path.relative_to(PACKAGE)}:{function.lineno} {function.name}"
                found[where] = ", ".join(names)
    assert not found


def test_a_missing_type_is_found():
    (function,) = public(ast.parse("def f(a, b: int, *c): ...\ndef _g(a): ...").body)
    assert missing(function) == ["a", "c", "return"]


def test_the_marker_is_there():
    assert (PACKAGE / "py.typed").is_file()
