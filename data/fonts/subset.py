"""Makes the two fonts of the grid labels: parts of Noto Sans and of Noto Sans CJK SC.

The sources are NotoSans-Regular.ttf and NotoSansCJK-Regular.ttc, both version 2.004. Debian and
Ubuntu have them in the packages fonts-noto-core and fonts-noto-cjk. fontTools, which is installed
with matplotlib, cuts the fonts.

python data/fonts/subset.py NotoSans-Regular.ttf NotoSansCJK-Regular.ttc
"""

import sys
from itertools import chain
from pathlib import Path

from fontTools.subset import Options, Subsetter
from fontTools.ttLib import TTCollection, TTFont

from minidalle2.storage.labels import CHINESE, LATIN
from minidalle2.worlds.emoji.names import names
from minidalle2.worlds.emoji.words import BACKGROUNDS, KINDS

FAMILY = "Noto Sans CJK SC"
# Unicode blocks. First: Latin with accents, Greek, Cyrillic, combining marks, punctuation and
# currencies. Second: arrows, mathematics, circled digits, geometric shapes, Chinese punctuation,
# kana and full-width forms.
ASCII = range(0x20, 0x7F)
LETTERS = (
    *(ASCII, range(0xA0, 0x250), range(0x300, 0x530), range(0x1E00, 0x2070)),
    *(range(0x20A0, 0x20D0), range(0x2100, 0x2150)),
)
OTHERS = (
    *(range(0x2070, 0x20A0), range(0x2150, 0x2300), range(0x2460, 0x24F0)),
    *(range(0x25A0, 0x2670), range(0x3000, 0x3100), range(0xFF00, 0xFFF0)),
)
# Tables that only vertical writing and complex layout need.
UNUSED = ["BASE", "DSIG", "GDEF", "GPOS", "GSUB", "VORG", "vhea", "vmtx"]


def chinese() -> set[int]:
    """The codes of all characters of GB 2312, of OTHERS, and of the emoji world's captions."""
    rows = (bytes([row, column]) for row in range(0xA1, 0xF8) for column in range(0xA1, 0xFF))
    gb2312 = (two.decode("gb2312", "ignore") for two in rows)
    captions = chain(*((name.name_zh, *name.keywords_zh) for name in names()))
    words = (*(zh for zh, _ in BACKGROUNDS.values()), *(zh for _, zh in KINDS.values()))
    return {ord(c) for c in chain(*gb2312, *captions, *words)} | set(chain(*OTHERS))


def subset(font: TTFont, codes: set[int], target: Path) -> int:
    """Writes the characters that the font has to `target`. Returns their number."""
    options = Options(hinting=False, layout_features=[], notdef_outline=True, name_IDs=["*"])
    options.drop_tables += UNUSED
    subsetter = Subsetter(options)
    kept = codes & font.getBestCmap().keys()
    subsetter.populate(unicodes=kept)
    subsetter.subset(font)
    font.save(target)
    return len(kept)


def main(latin: Path, cjk: Path) -> None:
    font = TTFont(latin, recalcTimestamp=False)
    letters = set(chain(*LETTERS))
    print(f"{subset(font, letters, LATIN)} characters in {LATIN}")
    families = [font["name"].getDebugName(1) for font in TTCollection(cjk).fonts]
    font = TTFont(cjk, fontNumber=families.index(FAMILY), recalcTimestamp=False)
    codes = (chinese() - TTFont(LATIN).getBestCmap().keys()) | set(ASCII)  # "emoji风格" is a word
    print(f"{subset(font, codes, CHINESE)} characters in {CHINESE}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
