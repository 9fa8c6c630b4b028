"""Drawings → captions in English or Chinese, in several phrasings.

Most captions contain the name of the drawing, some contain keywords in its place. Most captions
contain the style, and a few contain nothing else. A coloured background is always in the caption. A
white background is rarely in the caption, so that a prompt without a background means white.
Captions are in lower case, like the prompts that the tokenizer receives.
"""

import random
import re
from functools import cache

from minidalle2.worlds.emoji.names import Drawing, Name
from minidalle2.worlds.emoji.splits import held_out_words
from minidalle2.worlds.emoji.words import BACKGROUNDS, BARE, KINDS, WHITE

# Shares of the captions.
CHINESE = 1 / 3
STYLELESS = 0.25
KEYWORDS = 0.2
NAMELESS = 0.05  # the style alone, so that CLIP learns styles independently of names
SAYS_WHITE = 0.15  # of the pictures on white
MOST_KEYWORDS = 3

# {name}: the name. {a}: the name with its article. {style_a}: the style with its article.
# {words}: some keywords.
STYLED = (
    "{a} in {style} style",
    "{a}, {style} style",
    "{style} {name}",
    "{style_a} emoji of {a}",
    "{style_a} drawing of {a}",
)
PLAIN = ("{a}", "{name}", "an emoji of {a}")
STYLED_WORDS, PLAIN_WORDS = ("{style} emoji: {words}",), ("emoji: {words}",)
STYLE_ALONE = ("{style} style", "an emoji in {style} style")
ENDINGS = ("{caption} on a {background} background", "{caption}, {background} background")

STYLED_ZH = ("{style}风格的{name}", "{name}，{style}风格", "{style}表情：{name}", "{style} {name}")
PLAIN_ZH = ("{name}", "{name}的表情", "{name}表情符号")
STYLED_WORDS_ZH, PLAIN_WORDS_ZH = ("{style}表情：{words}",), ("表情：{words}",)
STYLE_ALONE_ZH = ("{style}风格", "{style}风格的表情")
ENDINGS_ZH = ("{caption}，{background}背景", "{background}背景上的{caption}")

# "an hourglass" and "an x-ray", but "a unicorn".
AN_TOO = ("hour", "x-ray", "ng ", "sos ", "atm ")
A_ALTHOUGH = ("unicorn", "one-", "euro", "ewe")
SINGULAR = ("ss", "us", "rhinoceros", "-lis")  # endings in s that are not a plural
PLURALS = {"women", "men", "woman and man", "people"}  # plurals that do not end in s
HEAD_ENDS = re.compile(r" (?:with|of|in|on|without|behind|holding|lifting|showing) | \(")


def describe(
    drawings: list[Drawing], backgrounds: list[int], rng: random.Random, says_all: bool = False
) -> list[str]:
    """Returns one caption for each picture.

    With `says_all`, captions contain the name, the style and the background, even if it is white.
    """
    return [
        caption(drawing, background, rng, says_all)
        for drawing, background in zip(drawings, backgrounds, strict=True)
    ]


def caption(drawing: Drawing, background: int, rng: random.Random, says_all: bool = False) -> str:
    """A random caption of a drawing on a background, which is an index into BACKGROUNDS."""
    chinese = rng.random() < CHINESE
    styled = rng.random() >= STYLELESS or says_all
    words = some_keywords(drawing.name, chinese, rng)
    by_words = rng.random() < KEYWORDS and bool(words) and not says_all
    nameless = rng.random() < NAMELESS and styled and not says_all
    says_background = rng.random() < SAYS_WHITE or background != WHITE or says_all
    if chinese:
        by_name = STYLED_ZH if styled else PLAIN_ZH
        by_keywords = STYLED_WORDS_ZH if styled else PLAIN_WORDS_ZH
        by_style = STYLE_ALONE_ZH
        name = drawing.name.name_zh.lower()
        slots = {"name": name, "words": "、".join(words)}
    else:
        by_name = STYLED if styled else PLAIN
        by_keywords = STYLED_WORDS if styled else PLAIN_WORDS
        by_style = STYLE_ALONE
        name = spoken(drawing.name.name)
        slots = {"name": name, "a": with_article(name), "words": ", ".join(words)}
    slots |= {"style": drawing.style, "style_a": with_article(drawing.style)}
    phrases = by_style if nameless else by_keywords if by_words else by_name
    said = rng.choice(phrases).format(**slots)
    return on_background(said, background, chinese, rng) if says_background else said


def on_background(said: str, background: int, chinese: bool, rng: random.Random) -> str:
    """Adds the background to a caption."""
    english, (zh, _) = list(BACKGROUNDS.items())[background]
    ending = rng.choice(ENDINGS_ZH if chinese else ENDINGS)
    return ending.format(caption=said, background=zh if chinese else english)


def some_keywords(name: Name, chinese: bool, rng: random.Random) -> list[str]:
    """One to MOST_KEYWORDS random keywords, or fewer if the name has fewer."""
    known = keywords(name)[chinese]
    return rng.sample(known, min(len(known), rng.randint(1, MOST_KEYWORDS)))


@cache
def keywords(name: Name) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The keywords of a name and its kind, in English and in Chinese.

    Keywords that contain a held-out name are removed. A held-out name itself keeps all keywords.
    """
    kind, kind_zh = kind_of(name.subgroup)
    english = dict.fromkeys(word.lower() for word in (*name.keywords, kind) if word)
    chinese = dict.fromkeys(word.lower() for word in (*name.keywords_zh, kind_zh) if word)
    secret, secret_zh = held_out_words()
    if name.name.lower() not in secret:
        told = re.compile(rf"(?<![\w-])({'|'.join(map(re.escape, secret))})(?![\w-])")
        english = [word for word in english if not told.search(word)]
        chinese = [word for word in chinese if not any(s in word for s in secret_zh)]
    return tuple(english), tuple(chinese)


def kind_of(subgroup: str) -> tuple[str, str]:
    """'animal-bird' → ('bird', '鸟'); ('', '') for subgroups without a common kind."""
    found = (kinds for start, kinds in KINDS.items() if subgroup.startswith(start))
    return next(found, ("", ""))


@cache
def spoken(name: str) -> str:
    """CLDR's name as people say it: 'Person: beard' → 'person with beard'."""
    name = name.lower().replace("’", "'").replace("“", "").replace("”", "")
    return name.replace("person: ", "person with ").replace("keycap: ", "keycap ")


@cache
def with_article(name: str) -> str:
    """'an apple', 'a crab', 'grapes', 'bread'."""
    head = HEAD_ENDS.split(name)[0]
    plural = head.endswith("s") and not head.endswith(SINGULAR)
    plural = plural or head in PLURALS
    if name in BARE or plural or name.endswith("o'clock") or name.endswith("-thirty"):
        return name
    an = name.startswith(("a", "e", "i", "o", "u", *AN_TOO)) and not name.startswith(A_ALTHOUGH)
    return f"{'an' if an else 'a'} {name}"
