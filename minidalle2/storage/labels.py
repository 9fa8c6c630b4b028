"""Text below the pictures of a grid, in any script.

Each word is drawn with the first font that has it: Pillow's own font (English), then the fonts that
come with minidalle2 (other Latin, Greek, Cyrillic, Chinese, see fonts/README.md), then the fonts of
the system. A character that no font has is drawn as a box.
"""

import re
import textwrap
import unicodedata
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from itertools import groupby
from pathlib import Path

from PIL import ImageDraw, ImageFont

SIZE, LINE_HEIGHT = 14, 20  # px
LINES = 8  # most lines of a label; longer labels end with …
INK = (30, 30, 30)
LATIN = Path(__file__).parent / "fonts" / "NotoSans-subset.ttf"
CHINESE = Path(__file__).parent / "fonts" / "NotoSansSC-subset.otf"
SYSTEM_FONTS = (  # font files of Windows, macOS and Linux; Pillow looks for them in their folders
    *("msyh.ttc", "msjh.ttc", "malgun.ttf", "YuGothR.ttc", "Nirmala.ttc", "Nirmala.ttf"),
    *("LeelawUI.ttf", "segoeui.ttf", "ebrima.ttf", "seguisym.ttf"),
    *("Arial Unicode.ttf", "Hiragino Sans GB.ttc", "STHeiti Medium.ttc", "AppleSDGothicNeo.ttc"),
    *("Kohinoor.ttc", "Thonburi.ttc", "Apple Symbols.ttf"),
    *("NotoSansCJK-Regular.ttc", "wqy-microhei.ttc", "DroidSansFallbackFull.ttf", "DejaVuSans.ttf"),
    *("FreeSans.ttf", "NotoSansArabic-Regular.ttf", "NotoSansHebrew-Regular.ttf"),
    *("NotoSansDevanagari-Regular.ttf", "NotoSansBengali-Regular.ttf", "NotoSansTamil-Regular.ttf"),
    *("NotoSansThai-Regular.ttf", "Lohit-Devanagari.ttf", "Garuda.ttf"),
)
Font = ImageFont.FreeTypeFont


def draw_label(image: ImageDraw.ImageDraw, left: int, top: int, lines: list[str]) -> None:
    """Draws lines of text, the first one with its upper edge at `top`."""
    baseline = top + fonts()[0].getmetrics()[0]
    for i, line in enumerate(lines):
        x = float(left)
        for font, part in runs(line):
            image.text((x, baseline + i * LINE_HEIGHT), part, INK, font, anchor="ls")
            x += font.getlength(part)


def wrap(text: str, width: int) -> list[str]:
    """Splits a text into at most LINES lines of at most `width` pixels. Splits long words, too."""
    text = " ".join(shown(text).split()) or " "
    most = max(8, int(1.5 * width * len(text) / max(1, length(text))))
    for letters in range(most, 0, -1):
        lines = textwrap.wrap(text, letters, max_lines=LINES, placeholder="…") or [""]
        if letters == 1 or max(map(length, lines)) <= width:
            return lines


def length(line: str) -> float:
    """The width of a line in pixels."""
    return sum(font.getlength(part) for font, part in runs(line))


def without_font(texts: Iterable[str]) -> str:
    """The characters that no font has, each once. The grid shows a box for each of them."""
    characters = dict.fromkeys("".join(map(shown, texts)))
    seen = (c for c in characters if not c.isspace() and unicodedata.category(c)[0] != "M")
    return "".join(c for c in seen if font_of(c) is None)


def shown(text: str) -> str:
    """The text in Unicode's normal form C, without control characters and variation selectors.

    Fonts have no glyph for them. Half of a surrogate pair, which stands for a byte of a file name
    that is no Unicode text, becomes U+FFFD.
    """
    kinds = [(c, unicodedata.category(c)) for c in unicodedata.normalize("NFC", text)]
    kept = ((c, kind) for c, kind in kinds if kind != "Cf" and not "\ufe00" <= c <= "\ufe0f")
    return "".join({"Cs": "\ufffd", "Cc": " "}.get(kind, c) for c, kind in kept)


def runs(line: str) -> list[tuple[Font, str]]:
    """Splits a line into parts, each with its font.

    A word gets the first font that has all of its characters. If no font has all of them, each
    character gets a font of its own, and combining marks of a missing letter are left out.
    """
    words = re.findall(r"\S+\s*|\s+", line)
    chosen = (pair for word in words for pair in fonts_of_word(word))
    parts = groupby(chosen, key=lambda pair: pair[0])
    return [(font, "".join(part for _, part in pairs)) for font, pairs in parts]


def fonts_of_word(word: str) -> list[tuple[Font, str]]:
    """A word as a whole with its font, or its characters with theirs."""
    for font in (*fonts(), *system_fonts()):
        if all(c.isspace() or has(font, c) for c in word):
            return [(font, word)]
    chosen: list[tuple[Font, str]] = []
    missing = False  # whether no font has the last letter
    for c in word:
        is_mark = unicodedata.category(c)[0] == "M"
        if not is_mark:
            missing = font_of(c) is None
        if not (is_mark and missing):
            chosen.append((font_of(c) or fonts()[0], c))
    return chosen


@cache
def font_of(character: str) -> Font | None:
    """The first font that has the character, None if no font has it."""
    return next((font for font in (*fonts(), *system_fonts()) if has(font, character)), None)


@cache
def has(font: Font, character: str) -> bool:
    """Whether the font has a glyph of its own for the character."""
    return bytes(font.getmask(character)) != bytes(font.getmask("\uffff"))


@cache
def fonts() -> tuple[Font, ...]:
    """Pillow's own font and the fonts that come with minidalle2."""
    included = (ImageFont.truetype(path, SIZE) for path in (LATIN, CHINESE))
    return ImageFont.load_default(SIZE), *included


@cache
def system_fonts() -> tuple[Font, ...]:
    """Those of SYSTEM_FONTS that this system has."""
    found = []
    for name in SYSTEM_FONTS:
        with suppress(OSError):
            found.append(ImageFont.truetype(name, SIZE))
    return tuple(found)
