"""Shows the source of the package in a notebook, so that readers see the code that runs."""

import inspect
import textwrap
from collections.abc import Callable

from IPython.display import Markdown


def show_source(*objects: Callable | type) -> Markdown:
    """Returns the source of functions, methods or classes, each below the name of its module."""
    parts = []
    for thing in objects:
        code = textwrap.dedent(inspect.getsource(thing)).rstrip()
        parts.append(f"`{inspect.getmodule(thing).__name__}`\n```python\n{code}\n```")
    return Markdown("\n\n".join(parts))
