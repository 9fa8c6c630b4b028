"""Writes student copies of the exercises, without solutions, hidden tests and outputs.

`python -m minidalle2.teaching.students OUT` writes one copy of each exercise to the folder OUT. The
code cells are the same as those that nbgrader's `generate_assignment` releases.
"""

import argparse
import re
from pathlib import Path

import nbformat
from nbformat import NotebookNode

EXERCISES = Path(__file__).parents[2] / "notebooks" / "exercises"
STUB = "# YOUR CODE HERE\nraise NotImplementedError()"
SOLUTION = re.compile(
    r"^([ \t]*)### BEGIN SOLUTION\n.*?^[ \t]*### END SOLUTION\n?", re.DOTALL | re.MULTILINE
)
HIDDEN = re.compile(
    r"^[ \t]*### BEGIN HIDDEN TESTS\n.*?^[ \t]*### END HIDDEN TESTS\n?", re.DOTALL | re.MULTILINE
)


def student_copy(notebook: NotebookNode) -> NotebookNode:
    """Replaces solutions by stubs, and removes hidden tests and outputs.

    It changes the notebook in place and returns it.
    """
    for cell in notebook.cells:
        if cell.cell_type == "code":
            source = SOLUTION.sub(_stub, cell.source + "\n")
            cell.source = HIDDEN.sub("", source).rstrip("\n")
            cell.outputs, cell.execution_count = [], None
    notebook.metadata.pop("minidalle2", None)
    return notebook


def _stub(match: re.Match) -> str:
    """Returns the stub with the indentation of the solution."""
    return "".join(f"{match.group(1)}{line}\n" for line in STUB.splitlines())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder of the copies")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    for path in sorted(EXERCISES.glob("*.ipynb")):
        nbformat.write(student_copy(nbformat.read(path, as_version=4)), out / path.name)
        print(out / path.name)


if __name__ == "__main__":
    main()
