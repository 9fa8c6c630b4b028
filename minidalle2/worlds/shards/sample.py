"""The files of one sample → its picture and its caption, or why there are none.

A picture is a .png, .jpg, .jpeg or .webp file. Its caption is the .txt file, or else the "text" or
"caption" in the .json file.
"""

from dataclasses import dataclass
from typing import BinaryIO

from minidalle2.worlds.captions import MOST, BadCaption, caption_of_row, checked, object_in
from minidalle2.worlds.folder.formats import PICTURES as ALL_PICTURES
from minidalle2.worlds.folder.world import MOST_BYTES, TOO_LARGE

MOST_READ = 16 * MOST  # bytes of a caption's file; JSON can have other keys and escapes
PICTURES = ("png", "jpg", "jpeg", "webp")
CAPTIONS = ("txt", "json")  # the first one that a sample has is used
NO_PICTURE, NO_CAPTION = "without a picture", "without a caption"
LINKS = "pack the files themselves: tar --dereference --hard-dereference"


@dataclass
class Piece:
    """A file inside a tar file: `size` bytes from byte `offset` on."""

    extension: str
    offset: int
    size: int
    link: bool = False


@dataclass
class Sample:
    """A picture and its caption."""

    key: str  # the path in the tar file, up to the first dot of the file name
    picture: Piece
    caption: Piece


class BadSample(ValueError):
    """A sample that can't be used. `end` is added to its key in the summary."""

    def __init__(self, problem: str, remedy: str, end: str = ""):
        super().__init__(problem)
        self.problem, self.remedy, self.end = problem, remedy, end


def dotted_files(pieces: list[Piece]) -> tuple[list[Piece], bool]:
    """→ the files of samples that were meant to have a dot in their name, and whether the sample
    is complete without them.

    In a complete sample, `10.seg.png` is a further picture of sample 10 unless there is a
    `10.seg.txt`, too.
    """
    plain = {piece.extension for piece in pieces}
    has_picture, has_caption = plain & {*PICTURES}, plain & {*CAPTIONS}
    parts = [(piece, *piece.extension.rpartition(".")) for piece in pieces]
    pictures = [(piece, stem) for piece, stem, dot, last in parts if dot and last in PICTURES]
    captions = [(piece, stem) for piece, stem, dot, last in parts if dot and last in CAPTIONS]
    if has_picture and has_caption:
        stems = {stem for _, stem in captions}
        return [piece for piece, stem in pictures if stem in stems], True
    missing = captions if has_picture else pictures if has_caption else pictures or captions
    return [piece for piece, _ in missing], False


def sample_of(file: BinaryIO, key: str, pieces: list[Piece]) -> Sample:
    """Raises BadSample if the files are no complete sample."""
    pictures = [piece for piece in pieces if piece.extension in PICTURES]
    captions = [piece for piece in pieces if piece.extension in CAPTIONS]
    _check_links(pictures, captions)
    _check_number(pictures, captions)
    others = list(dict.fromkeys(f".{piece.extension}" for piece in pieces if piece not in captions))
    unread = next((other for other in others if other in ALL_PICTURES), None)
    if not pictures and unread:
        remedy = f"{unread} is not read; convert the pictures to PNG, JPEG or WebP"
        raise BadSample("with a picture in a format that is not read from tar files", remedy)
    if not pictures and not captions:
        remedy = f"{', '.join(others)}: only .png, .jpg, .jpeg, .webp, .txt and .json are read"
        raise BadSample("with neither a picture nor a caption", remedy)
    found = (
        f"with the same path (found: {', '.join(f'.{piece.extension}' for piece in pieces[:9])})"
    )
    if not pictures:
        remedy = f"put a .png, .jpg, .jpeg or .webp file directly before the caption, {found}"
        raise BadSample(NO_PICTURE, remedy)
    if not captions:
        remedy = f"put a .txt or .json file directly after the picture, {found}"
        raise BadSample(NO_CAPTION, remedy)
    picture, caption = pictures[0], min(captions, key=lambda c: CAPTIONS.index(c.extension))
    if not picture.size:
        raise BadSample("with an empty file as its picture", "write or download it again")
    if picture.size > MOST_BYTES:
        raise BadSample(*TOO_LARGE)
    try:
        caption_of(read(file, caption), caption.extension)
    except BadCaption as error:
        raise BadSample(error.problem, error.remedy) from error
    return Sample(key, picture, caption)


def _check_links(pictures: list[Piece], captions: list[Piece]) -> None:
    for pieces, problem in ((pictures, NO_PICTURE), (captions, NO_CAPTION)):
        for piece in pieces:
            if piece.link:
                raise BadSample(f"{problem} because it is a link", LINKS, f".{piece.extension}")


def _check_number(pictures: list[Piece], captions: list[Piece]) -> None:
    """Raises BadSample if it is not clear which picture and which caption belong together."""
    names = [piece.extension for piece in (*pictures, *captions)]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        remedy = "it is not clear which one is meant; give each sample a name of its own"
        raise BadSample("with two files of the same name", remedy, f".{twice}")
    if len(pictures) > 1:
        found = " and ".join(f".{piece.extension}" for piece in pictures[:2])
        remedy = f"it has {found}; give each picture a name and a caption of its own"
        raise BadSample("with more than one picture", remedy)


def caption_of(data: bytes, extension: str) -> str:
    """The content of a caption file → its text. Raises BadCaption."""
    text = data.decode("utf-8-sig", "surrogateescape")
    if len(data) > MOST_READ or extension != "json":
        return checked(text)
    return caption_of_row(object_in(text))


def read(file: BinaryIO, piece: Piece) -> bytes:
    """The bytes of a piece. Of a caption, at most MOST_READ + 1 bytes are read.

    Raises ValueError if the file ends before.
    """
    most = MOST_READ + 1 if piece.extension in CAPTIONS else piece.size
    file.seek(piece.offset)
    data = file.read(min(piece.size, most))
    if len(data) < min(piece.size, most):
        raise ValueError(
            f"{file.name} is shorter than it was when its index was made; start the command again"
        )
    return data
