"""Executes the notebooks at the reader's size and cleans their outputs, ready to be committed.

`python dev.py notebooks [FILE …]` calls it. The result depends only on the sources and on the
machine. A second run therefore changes nothing.
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

from minidalle2.storage.devices import pick_device
from minidalle2.teaching.kernel import PatientClient

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "notebooks"
CELL_SECONDS = 900
NOTICED = 8  # of 255; the eye may see a larger difference of two shades
WIDGET = "application/vnd.jupyter.widget-view+json"


def run(path: Path, until: str = "") -> NotebookNode:
    """Returns the notebook, executed in its own folder.

    If `until` is given, cells after the last code cell that contains `until` are removed.
    Raises CellExecutionError if a cell fails.
    """
    notebook = nbformat.read(path, as_version=4)
    if until:
        cells = enumerate(notebook.cells)
        holding = [i for i, c in cells if c.cell_type == "code" and until in c.source]
        notebook.cells = notebook.cells[: holding[-1] + 1]
    client = PatientClient(
        notebook,
        timeout=CELL_SECONDS,
        kernel_name="python3",
        coalesce_streams=True,
        resources={"metadata": {"path": str(path.parent)}},
    )
    return client.execute()


def clean(notebook: NotebookNode) -> NotebookNode:
    """Removes everything that differs between runs: times, ids of widgets, the Python version.

    It changes the notebook in place and returns it. The metadata receive the hash of the code
    cells, the device and the version of torch.
    """
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
    """Recompresses a figure of matplotlib, a PNG in base64. It typically saves a third or more.

    The figure gets a palette if 256 colours are enough. Otherwise each channel is rounded to a
    multiple of 4. matplotlib writes RGBA. A PNG in another mode is a film or was already
    recompressed, so it is returned unchanged.
    """
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
    """Returns the largest difference of two pixels at the same place in one channel, of 255."""
    return max(high for _, high in ImageChops.difference(picture, other).getextrema())


def source_sha(notebook: NotebookNode) -> str:
    """Returns a hash of the code cells. If it has changed, the outputs are out of date."""
    sources = "\x00".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    return hashlib.sha256(sources.encode()).hexdigest()[:16]


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python dev.py notebooks", description=__doc__.splitlines()[0]
    )
    parser.add_argument("notebooks", nargs="*", type=Path, help="all notebooks if none is named")
    named = parser.parse_args().notebooks
    paths = named or sorted([*FOLDER.glob("*.ipynb"), *(FOLDER / "exercises").glob("*.ipynb")])
    missing = [path for path in paths if not path.is_file()]
    if missing:
        sys.exit(f"there is no notebook at {missing[0]}; the notebooks are in {FOLDER.name}/")
    os.environ["MINIDALLE2_FAST"] = "0"
    for path in paths:
        started = time.monotonic()
        notebook = clean(run(path))
        nbformat.write(notebook, path)
        print(f"{path.name:32}{time.monotonic() - started:5.0f} s", flush=True)


if __name__ == "__main__":
    main()
