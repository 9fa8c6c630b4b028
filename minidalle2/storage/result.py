"""The result of `generate`, with what a user does with pictures: look at them and save them."""

import io
import math
import sys
from dataclasses import dataclass, fields
from importlib import import_module
from pathlib import Path
from reprlib import Repr

from PIL import Image, ImageShow
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from minidalle2.storage.file_names import RESULT, file_of
from minidalle2.storage.ours import is_ours, marked
from minidalle2.storage.pictures import labelled_grid, to_pillow, to_uint8
from minidalle2.unclip import Generation

COLUMNS = 8  # most pictures side by side
SHORT = Repr()
SHORT.maxlist, SHORT.maxstring = 3, 60


@dataclass(eq=False, repr=False)
class Result(Generation):
    """A Generation that can be shown and saved.

    Notebooks show it as a picture. The pictures are those of the last stage that ran.
    """

    @property
    def pictures(self) -> Tensor | None:
        """(B, 3, S, S) in [-1, 1], of the last stage that ran; None if no stage drew pictures."""
        made = (self.image128, self.image64, self.image32)
        return next((pictures for pictures in made if pictures is not None), None)

    def show(self) -> None:
        """Shows the pictures with their prompts: in the notebook, or in the system's viewer.

        Raises ValueError if there are no pictures, or if there is no viewer.
        """
        grid = self.grid()
        shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
        if hasattr(shell, "kernel"):  # in a terminal, IPython has no kernel
            import_module("IPython.display").display(grid)  # no dependency, but here it is loaded
        elif not ImageShow.show(grid):
            raise ValueError("there is no program to show a picture; `save(folder)` would work")

    def save(self, folder: Path | str) -> list[Path]:
        """Writes each picture to 0000_its_prompt.png, and so on. Returns the paths.

        Replaces the pictures of an earlier `save`. Raises ValueError if there are no pictures, or
        if `folder` holds other PNGs or the manifest of a command, so that old and new results are
        never mixed.
        """
        pictures = to_uint8(self._drawn()).cpu()
        folder = Path(folder).expanduser()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            remove_own(folder)
            paths = []
            for i, (prompt, picture) in enumerate(zip(self.prompts, pictures, strict=True)):
                paths.append(folder / file_of(i, as_utf8(prompt)))
                to_pillow(picture).save(paths[-1], pnginfo=about(prompt))
        except OSError as error:
            raise ValueError(f"can't write to {folder} ({error.strerror or error})") from error
        return paths

    def grid(self) -> Image.Image:
        """The pictures, each with its prompt below. Raises ValueError if there are none."""
        pictures = to_uint8(self._drawn()).cpu()
        columns = min(COLUMNS, math.ceil(len(pictures) ** 0.5))
        cells = [
            (prompt, [picture]) for prompt, picture in zip(self.prompts, pictures, strict=True)
        ]
        return labelled_grid(cells, columns)

    def _drawn(self) -> Tensor:
        if self.pictures is None:
            raise ValueError(
                "there are no pictures, because no stage drew any; stop_after='image32' or a "
                "later stage would draw them"
            )
        return self.pictures

    def _repr_png_(self) -> bytes | None:
        """What a notebook shows. None if there are no pictures; then it shows the repr."""
        if self.pictures is None:
            return None
        png = io.BytesIO()
        self.grid().save(png, "PNG")
        return png.getvalue()

    def __repr__(self) -> str:
        made = [f"prompts={SHORT.repr(self.prompts)}"]
        for field in fields(self)[1:]:
            value = getattr(self, field.name)
            made += [] if value is None else [f"{field.name} {tuple(value.shape)}"]
        return f"{type(self).__name__}({', '.join(made)})"


def as_utf8(text: str) -> str:
    """Without halves of characters, which a shell can pass and a file cannot hold."""
    return text.encode("utf-8", "ignore").decode()


def about(prompt: str) -> PngInfo:
    """The texts in a PNG: the prompt, and that `save` wrote the file."""
    texts = marked()
    texts.add_itxt("Description", as_utf8(prompt))
    return texts


def remove_own(folder: Path) -> None:
    """Deletes the pictures of an earlier `save`.

    Raises ValueError if there are other PNGs or the results of a command, before anything is
    deleted.
    """
    if (folder / "manifest.jsonl").exists():
        raise ValueError(
            f"{folder} holds the results of a command (manifest.jsonl lists them); choose another "
            "folder, so that old and new pictures are not mixed"
        )
    pngs = sorted(path for path in folder.iterdir() if path.suffix.lower() == ".png")
    other = [path.name for path in pngs if not (RESULT.fullmatch(path.name) and is_ours(path))]
    if other:
        more = f" and {len(other) - 1} more" if len(other) > 1 else ""
        raise ValueError(
            f"{folder} holds pictures that `save` did not write ({other[0]}{more}); choose another "
            "folder, so that old and new pictures are not mixed"
        )
    for path in pngs:
        path.unlink()
