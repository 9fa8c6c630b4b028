"""The package's own source in a notebook: what is read is what runs."""

import inspect
import textwrap
from collections.abc import Callable

from IPython.display import Markdown


def show_source(*objects: Callable | type) -> Markdown:
    """Functions, methods or classes as they stand in the package, with the name of their file."""
    parts = []
    for thing in objects:
        code = textwrap.dedent(inspect.getsource(thing)).rstrip()
        parts.append(f"`{inspect.getmodule(thing).__name__}`\n```python\n{code}\n```")
    return Markdown("\n\n".join(parts))
