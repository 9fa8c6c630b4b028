"""Which words a caption says of a name, and the slots of the grammars that they fill."""

import random
from pathlib import Path
from typing import NamedTuple

from minidalle2.worlds.emoji.called import FEELINGS, called, heads
from minidalle2.worlds.emoji.names import Name
from minidalle2.worlds.emoji.nouns import class_of, kind_of, spoken, with_article
from minidalle2.worlds.grammar import Grammar

# How often a caption says which words. If a name has none of a kind, the other kinds share.
SHARES = {
    "name": 38,
    "noun": 28,
    "words": 8,  # shortcodes that may be no nouns
    "saying": 14,
    "code": 4,
    "keyword": 10,
    "feeling": 4,  # a keyword and the kind of thing: "happy cat"
    "list": 4,  # two or three keywords
}
ORDERED = ("noun", "saying")  # the lists of these begin with the most common words
MOST_KEYWORDS = 3  # in a list
JOINED = (", ", " ", " and "), ("、", " ")  # what is between keywords
CHINESE_NOUNS = 0.5  # share of the Chinese keywords that are said like nouns

# What the grammars do not say themselves. captions.py fills the slots of the second line.
SLOTS = (
    *("noun", "a noun", "thing", "一", "kind", "mood"),
    *("what", "asked", "phrase", "background", "style", "style a"),
)
GRAMMARS = [
    Grammar((Path(__file__).parent / f"{language}.txt").read_text(encoding="utf-8"), SLOTS)
    for language in ("english", "chinese")
]


class Wording(NamedTuple):
    """What a caption says of a name."""

    rule: str  # the beginning of the rule of the grammar; '' for nouns
    slots: dict[str, str]


def some_wording(name: Name, chinese: bool, rng: random.Random) -> Wording:
    """The name itself, or something else that it is called."""
    known = called(name)[chinese]
    feels = class_of(name.subgroup) in (*FEELINGS, "animal")
    texts = {
        "name": (own_name(name, chinese),),
        "noun": known.nouns,
        "words": known.words,
        "saying": known.sayings,
        "code": known.codes,
        "keyword": known.alone,
        "feeling": known.keywords if feels else (),
        "list": known.keywords if len(known.keywords) > 1 else (),
    }
    kinds = [kind for kind in SHARES if texts[kind]]
    kind = rng.choices(kinds, [SHARES[kind] for kind in kinds])[0]
    if kind == "list":
        some = rng.sample(known.keywords, rng.randint(2, min(MOST_KEYWORDS, len(known.keywords))))
        return Wording("list", {"noun": rng.choice(JOINED[chinese]).join(some)})
    text = _early(texts[kind], rng) if kind in ORDERED else rng.choice(texts[kind])
    if kind == "keyword":
        is_noun = rng.random() < CHINESE_NOUNS if chinese else text in heads()
        kind = "noun" if is_noun else "words"
    if kind in ("name", "noun"):
        return as_noun(name, text, chinese, rng)
    slots = {"noun": text, "kind": kind_of(name.subgroup)[chinese], "mood": _mood(name, text)}
    return Wording(kind, slots if chinese else slots | {"a noun": with_article(text)})


def _early(texts: tuple[str, ...], rng: random.Random) -> str:
    """A random text, an early one more often."""
    n = len(texts)
    return texts[min(rng.randrange(n), rng.randrange(n))]


def own_name(name: Name, chinese: bool) -> str:
    return name.name_zh.lower() if chinese else spoken(name.name)


def as_noun(name: Name, noun: str, chinese: bool, rng: random.Random) -> Wording:
    """A noun with the words of its class. "Cup of tea" and "一束花" need no other measure word."""
    slots = {"noun": noun} if chinese else {"noun": noun, "a noun": with_article(noun)}
    if chinese and noun.startswith("一"):
        return Wording("", slots | {"一": noun})
    rule = "object" if " of " in noun else class_of(name.subgroup)
    return Wording(
        "", slots | {"一" if chinese else "thing": GRAMMARS[chinese].say(rule, slots, rng)[0]}
    )


def _mood(name: Name, text: str) -> str:
    """The text if it may say what a face or a person does or feels."""
    is_noun = text in heads() or text.endswith(("脸", "人"))
    return "" if is_noun or class_of(name.subgroup) not in ("face", "person") else text
