"""File names from prompts in any script, valid on Windows, macOS and Linux."""

import re
from unicodedata import category, normalize

LETTERS = 60  # most characters that a name takes from a text
RESULT = re.compile(r"\d{4,}_[^/\\:]+\.png")  # what `file_of` returns
BYTES = 200  # most bytes of them in UTF-8; file systems allow 255 with number and ending


def slug(text: str) -> str:
    """'A small, red circle.' → 'a_small_red_circle', '红苹果！' → '红苹果'.

    Keeps letters, digits and combining marks of all scripts, in lower case and in Unicode's normal
    form C. Everything else becomes a single underscore. Returns 'picture' if nothing is left.
    """
    visible = "".join(c for c in text.lower() if category(c) != "Cf")
    parts: list[str] = []
    for c in normalize("NFC", visible):
        follows_letter = bool(parts) and parts[-1] != "_"
        kept = c.isalnum() or (category(c)[0] == "M" and follows_letter)
        if kept or follows_letter:
            parts.append(c if kept else "_")
    return shortened("".join(parts)).strip("_") or "picture"


def shortened(name: str) -> str:
    """The beginning of a name, with at most LETTERS characters and BYTES bytes.

    The bytes are counted in normal form D, which macOS may use and which is longer. No combining
    mark is separated from its letter.
    """
    n = min(len(name), LETTERS)
    while len(normalize("NFD", name[:n]).encode()) > BYTES:
        n -= 1
    while 0 < n < len(name) and category(name[n])[0] == "M":
        n -= 1
    return name[:n]


def file_of(i: int, *texts: str) -> str:
    """3, 'cat', 'to', 'dog' → '0003_cat_to_dog.png'."""
    return f"{i:04d}_{slug(' '.join(texts))}.png"
