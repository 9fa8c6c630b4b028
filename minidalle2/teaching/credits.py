"""The credits of the emoji. Their licences require a credit beside every picture of an emoji."""

import re

from IPython.display import Markdown

from minidalle2.worlds.emoji.names import data_folder
from minidalle2.worlds.emoji.words import STYLES

LICENCES = "../data/emoji/LICENSES/"  # relative to a notebook


def show_credits(*styles: str) -> Markdown:
    """Returns one line of credit for each style, and the changes made to the drawings.

    The texts come from data/emoji/LICENSES/ATTRIBUTION.md. Raises ValueError if no style is named
    or if a style is unknown.
    """
    known = f"the styles are {', '.join(STYLES)}"
    unknown = [style for style in styles if style not in STYLES]
    if not styles:
        raise ValueError(f"no style is named; {known}")
    if unknown:
        raise ValueError(f"unknown style {', '.join(unknown)}; {known}")
    text = (data_folder() / "LICENSES" / "ATTRIBUTION.md").read_text(encoding="utf-8")
    lines = [f"- **{style}**: {_credit(text, style)}" for style in styles]
    changes = next(line for line in text.split("\n") if line.startswith("**Changes"))
    lines.append(f"\n{changes} [More]({LICENCES}ATTRIBUTION.md).")
    return Markdown("\n".join(lines))


def _credit(text: str, style: str) -> str:
    """Returns work, credit and licence of a style, with links that are relative to a notebook.

    Example: 'Noto Emoji · Copyright … · Apache-2.0'.
    """
    row = next(line for line in text.split("\n") if line.startswith(f"| `{style}.json.xz`"))
    work_credit_licence = [cell.strip() for cell in row.strip("| ").split(" | ")][1:]
    return re.sub(r"\]\((?!http)", f"]({LICENCES}", " · ".join(work_credit_licence))
