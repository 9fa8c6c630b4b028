"""What a caption is. This holds for JSON Lines and CSV files and for the files of a tar file.

The caption is the value of "text", or of "caption" if there is no "text". It is Unicode text in
UTF-8 with at least one letter or sign and at most MOST bytes. A number, a list and other values are
no captions.
"""

import json

from minidalle2.worlds.report import shown

KEYS = ("text", "caption")  # the first one that is there is used
EXPECTED = '"text" or "caption"'
MOST = 1 << 20  # bytes
EXAMPLE = '{"file_name": "a.png", "text": "a cat"}'
SHOWN = 9  # keys in a message


class _Pairs(list):
    """The (key, value) pairs of a JSON object. A dict would hide a key that comes twice."""


KINDS = {bool: "true or false", int: "a number", float: "a number", list: "a list"}
KINDS |= {_Pairs: "an object", type(None): "null"}


class BadCaption(ValueError):
    """A caption that can't be used.

    `problem` is the entry in the summary: 'with an empty caption'. `remedy` says what would work.
    """

    def __init__(self, problem: str, remedy: str):
        super().__init__(f"{problem}; {remedy}")
        self.problem, self.remedy = problem, remedy


def caption_of_row(row: dict[str, object]) -> str:
    """The caption in the keys and values of a row. Raises BadCaption."""
    key = next((key for key in KEYS if key in row), None)
    if key is None:
        raise BadCaption("without a caption", f"expected the key {EXPECTED}, found {keys_of(row)}")
    return checked(as_text(row[key], key))


def as_text(value: object, key: str) -> str:
    """Returns a value that is text. Raises BadCaption for others."""
    if not isinstance(value, str):
        kind = KINDS[type(value)]
        remedy = f'write one text in double quotes: "{key}": "a cat"'
        raise BadCaption(f'with {kind} as its "{key}" instead of text', remedy)
    return value


def checked(text: str) -> str:
    """Returns a text that can be a caption. Raises BadCaption for others."""
    if len(text.encode("utf-8", "surrogatepass")) > MOST:
        remedy = f"at most {MOST:,} bytes are read; check that it is a caption, and shorten it"
        raise BadCaption("with a caption that is far too long", remedy)
    if not is_unicode(text):
        remedy = "some of its bytes or escapes are not UTF-8 text; save it as UTF-8"
        raise BadCaption("with a caption that is not Unicode text", remedy)
    if not " ".join(text.split()).rstrip(". "):
        raise BadCaption("with an empty caption", "write what the picture shows")
    return text


def is_unicode(text: str) -> bool:
    """Whether a text has no halves of surrogate pairs and no bytes that are not UTF-8."""
    return text.encode("utf-8", "replace").decode() == text


def object_in(written: str) -> dict[str, object]:
    """JSON → the keys and values of its object. Raises BadCaption if there is no object."""
    try:
        pairs = json.loads(written, object_pairs_hook=_Pairs)
    except (ValueError, RecursionError) as error:
        if not is_unicode(written):
            raise BadCaption("with bytes that are not UTF-8 text", "save it as UTF-8") from error
        raise BadCaption("with broken JSON", f"a JSON object such as {EXAMPLE} works") from error
    if not isinstance(pairs, _Pairs):
        remedy = f"write one object for each picture, in a line of its own: {EXAMPLE}"
        raise BadCaption("with JSON that is not an object", remedy)
    row = dict(pairs)
    if len(row) < len(pairs):
        remedy = "two values can't both be right; remove one of the keys"
        raise BadCaption("with a key that comes twice", remedy)
    return row


def keys_of(row: dict[str, object]) -> str:
    """'file_name, title': the keys of a row, for a message."""
    more = ", …" if len(row) > SHOWN else ""
    names = (f'"{key}"' if key != key.strip() else key for key in list(row)[:SHOWN])
    return ", ".join(map(shown, names)) + more or "no key"
