"""Shows the tokens of a text as coloured boxes."""

import html
from collections.abc import Sequence

from IPython.display import HTML

from minidalle2.tokenizer import END, PAD, START, Tokenizer

SPECIAL_NAMES = {PAD: "pad", START: "start", END: "end"}
SHADES = ("#dbe9f6", "#fdebd0")  # they alternate; dark text is readable on both


def show_tokens(tokenizer: Tokenizer, texts: str | Sequence[str]) -> HTML:
    """Returns each text as a row of boxes. A box holds one token and its id; a dot is a space."""
    texts = [texts] if isinstance(texts, str) else texts
    rows = "".join(f"<div>{_row(tokenizer, text)}</div>" for text in texts)
    return HTML(f'<div style="font-family: monospace; line-height: 2.4">{rows}</div>')


def _row(tokenizer: Tokenizer, text: str) -> str:
    ids = tokenizer([text])[0].tolist()
    return " ".join(_box(tokenizer, token, SHADES[i % 2]) for i, token in enumerate(ids))


def _box(tokenizer: Tokenizer, token: int, shade: str) -> str:
    label = SPECIAL_NAMES.get(token) or token_text(tokenizer, token)
    style = f"background: {shade}; color: #222; padding: 2px 4px; border-radius: 3px"
    return f'<span style="{style}">{html.escape(label)}<sub>{token}</sub></span>'


def token_text(tokenizer: Tokenizer, token: int) -> str:
    """Returns the text of a token, with dots for spaces.

    If the token ends or begins inside a character, it returns its bytes, such as ⟨e2⟩.
    """
    data = tokenizer.bytes_of(token)
    try:
        return data.decode().replace(" ", "·")
    except UnicodeDecodeError:
        return "".join(f"⟨{byte:02x}⟩" for byte in data)
