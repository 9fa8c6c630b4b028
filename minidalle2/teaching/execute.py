"""Execute the notebooks at the reader's size and clean them, so that they can be committed.

`python dev.py notebooks [FILE …]`. What is kept depends on the sources and the machine alone: a
second run changes nothing.
"""

import argparse
import base64
import hashlib
import io
import os
import sys
import time
from pathlib import Path

import nbformat
import torch
from nbformat import NotebookNode
from PIL import Image, ImageChops

from minidalle2.commands.options import pick_device
from minidalle2.teaching.kernel import PatientClient

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "notebooks"
CELL_SECONDS = 900
NOTICED = 8  # of 255: a shade off that the eye may see
WIDGET = "application/vnd.jupyter.widget-view+json"


def run(path: Path, until: str = "") -> NotebookNode:
    """The notebook, executed in its own folder; where `until` is given, only as far as the last
    code cell that holds it. Raises CellExecutionError where a cell fails."""
    notebook = nbformat.read(path, as_version=4)
    if until:
        cells = enumerate(notebook.cells)
        holding = [i for i, c in cells if c.cell_type == "code" and until in c.source]
        notebook.cells = notebook.cells[: holding[-1] + 1]
    client = PatientClient(
        notebook, timeout=CELL_SECONDS, kernel_name="python3", coalesce_streams=True,
        resources={"metadata": {"path": str(path.parent)}},
    )  # fmt: skip
    return client.execute()


def clean(notebook: NotebookNode) -> NotebookNode:
    """Take away what differs from run to run: times, random ids of widgets, versions of Python."""
    notebook.metadata = NotebookNode(
        kernelspec={"display_name": "Python 3", "language": "python", "name": "python3"},
        language_info={"name": "python"},
        minidalle2={
            "source_sha": source_sha(notebook),
            "device": pick_device("auto").type,
            "torch": torch.__version__.split("+")[0],
        },
    )
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            data.pop(WIDGET, None)
            if "image/png" in data:
                data["image/png"] = smaller(data["image/png"])
            output.get("metadata", {}).pop("image/png", None)
            output.pop("transient", None)
    return notebook


def smaller(png: str) -> str:
    """A figure, as notebooks hold it, smaller by a third or more: with a palette where 256 colours
    are enough, else with channels in steps of 4. matplotlib makes RGBA; all else is a film or has
    been made smaller, and stays as it is."""
    picture = Image.open(io.BytesIO(base64.b64decode(png)))
    if picture.mode != "RGBA":
        return png
    picture = picture.convert("RGB")
    few = picture.quantize(256, dither=Image.Dither.NONE)
    if _farthest(picture, few.convert("RGB")) > NOTICED:
        few = picture.point([min(255, (level + 2) // 4 * 4) for level in range(256)] * 3)
    buffer = io.BytesIO()
    few.save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


def _farthest(picture: Image.Image, other: Image.Image) -> int:
    """The largest difference of two pixels, in one channel."""
    return max(high for _, high in ImageChops.difference(picture, other).getextrema())


def source_sha(notebook: NotebookNode) -> str:
    """Of the code cells: outputs of an older source are known by it."""
    sources = "\x00".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    return hashlib.sha256(sources.encode()).hexdigest()[:16]


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python dev.py notebooks", description=__doc__.splitlines()[0]
    )
    parser.add_argument("notebooks", nargs="*", type=Path, help="all of them if none is named")
    named = parser.parse_args().notebooks
    paths = named or sorted([*FOLDER.glob("*.ipynb"), *(FOLDER / "exercises").glob("*.ipynb")])
    missing = [path for path in paths if not path.is_file()]
    if missing:
        sys.exit(f"there is no notebook at {missing[0]}; they are in {FOLDER.name}/")
    os.environ["MINIDALLE2_FAST"] = "0"
    for path in paths:
        started = time.monotonic()
        notebook = clean(run(path))
        nbformat.write(notebook, path)
        print(f"{path.name:32}{time.monotonic() - started:5.0f} s", flush=True)


if __name__ == "__main__":
    main()
