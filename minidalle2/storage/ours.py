"""Which files minidalle2 wrote, so that a command removes or overwrites no other file.

Every PNG file of minidalle2 begins with its name, as the keyword `Software` of the PNG standard.
The tar files of `export` begin with such a PNG file.
"""

from collections.abc import Iterable
from pathlib import Path

from PIL.PngImagePlugin import PngInfo

KEYWORD, NAME = "Software", "minidalle2"
MARK = f"tEXt{KEYWORD}\0{NAME}".encode("latin-1")
HEAD = 1024  # bytes; a tar file has 512 bytes before its first file


def marked() -> PngInfo:
    """The text chunk that marks a PNG file, for `Image.save(…, pnginfo=marked())`."""
    info = PngInfo()
    info.add_text(KEYWORD, NAME)
    return info


def is_ours(path: Path) -> bool:
    """Whether this is a PNG file of minidalle2 or a tar file that begins with one.

    False for links and for files that cannot be read. Programs that change a PNG file remove the
    mark or move it to another place.
    """
    if path.is_symlink() or not path.is_file():
        return False
    try:
        with open(path, "rb") as file:
            return MARK in file.read(HEAD)
    except OSError:
        return False


def check_ours(files: Iterable[Path]) -> None:
    """Raises ValueError if one of the files exists and is not a file of minidalle2."""
    for path in files:
        if (path.is_symlink() or path.exists()) and not is_ours(path):
            raise ValueError(
                f"{path} has the name of a result, but minidalle2 did not write this file (or an "
                "older version wrote it), or it was changed later; move it, or choose another "
                "folder with --out"
            )
