"""Cleans captions in the same way as the training of the published CLIPs (Radford et al. 2021).

Caption → caption in lower case with straight quotes, composed accents (NFC), letters of normal
width, separate letters instead of ligatures, and single spaces. Control characters are removed,
HTML entities are replaced, and text that was decoded with a wrong encoding is repaired. The package
ftfy does most of this. A CLIP assigns other tokens to a caption that was not cleaned, so the bridge
does not work without ftfy.
"""

import html
import importlib
from collections.abc import Callable


class PeerMissing(ImportError):
    """A package that the bridge needs is not installed or cannot be imported."""


def ftfy_fix_text() -> Callable[[str], str]:
    """The function fix_text of the package ftfy. Raises PeerMissing if ftfy is not installed."""
    try:
        return importlib.import_module("ftfy").fix_text
    except ImportError as error:
        raise PeerMissing(
            "the tokenizer of published CLIPs needs the package ftfy, which cleans captions as in "
            f"the training of these CLIPs ({error}); install it with `pip install ftfy`, or "
            'everything that the bridge needs with `pip install -e ".[bridge]"`'
        ) from error


def clean(text: str, fix_text: Callable[[str], str]) -> str:
    """A cleaned caption, in lower case. `fix_text` is the function of ftfy."""
    text = html.unescape(html.unescape(fix_text(text)))
    return " ".join(text.split()).lower()
