"""Who drew the emoji: what every picture of them has to say, in the words of their licences."""

import re

from IPython.display import Markdown

from minidalle2.worlds.emoji.names import data_folder
from minidalle2.worlds.emoji.words import STYLES

LICENCES = "../data/emoji/LICENSES/"  # seen from a notebook


def show_credits(*styles: str) -> Markdown:
    """A line for each of the styles, and the changes made: data/emoji/LICENSES/ATTRIBUTION.md.

    Raises ValueError for a style that is none.
    """
    unknown = [style for style in styles if style not in STYLES]
    if unknown or not styles:
        raise ValueError(
            f"no style {', '.join(unknown) or 'is named'}; there are {', '.join(STYLES)}"
        )
    text = (data_folder() / "LICENSES" / "ATTRIBUTION.md").read_text(encoding="utf-8")
    lines = [f"- **{style}**: {_credit(text, style)}" for style in styles]
    changes = next(line for line in text.splitlines() if line.startswith("**Changes"))
    lines.append(f"\n{changes} [More]({LICENCES}ATTRIBUTION.md).")
    return Markdown("\n".join(lines))


def _credit(text: str, style: str) -> str:
    """'Noto Emoji · Copyright … · Apache-2.0', with links that work from a notebook."""
    row = next(line for line in text.splitlines() if line.startswith(f"| `{style}.json.xz`"))
    work_credit_licence = [cell.strip() for cell in row.strip("| ").split(" | ")][1:]
    return re.sub(r"\]\((?!http)", f"]({LICENCES}", " · ".join(work_credit_licence))
