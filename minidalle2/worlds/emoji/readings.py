"""Prompts → the things that they may ask for: the grammars of the captions, read backwards.

A caption is a noun within frames. The inner frame says the class of the noun ("a cup of …"), the
next ones a style or an emoji ("a noto drawing of …"), the background, and the request ("draw …").
"""

import re
from collections.abc import Iterator
from functools import cache

from minidalle2.worlds.emoji.wording import GRAMMARS
from minidalle2.worlds.emoji.words import BACKGROUNDS, CLASSES, KINDS, STYLES
from minidalle2.worlds.grammar import Grammar

STYLE = "|".join(STYLES)
KIND = "|".join(filter(None, (kind for kinds in KINDS.values() for kind in kinds)))
SLOTS = {"style": f"(?:{STYLE})", "style a": f"(?:an? (?:{STYLE}))", "kind": f"(?:{KIND})"}
MARKS = ".。!！?？ "
ARTICLE = "(?:(?:an?|the|some|one|my) )?"
CLASS_RULES = ("object", *dict.fromkeys(CLASSES.values()))
PHRASES = [
    f"{words}{style}"
    for words in ("", "saying ", "code ", "words ", "feeling ", "list ")
    for style in ("styled", "plain")
]
# The frames of captions, the outer ones first: the rules, and what stands within them.
LAYERS = (
    (("caption",), ("what", "asked")),
    (("caption",), ("what", "asked")),  # again, for "please draw a dog please"
    (("after", "before"), ("phrase",)),
    (PHRASES, ("thing", "noun", "a noun", "一", "feeling", "mood")),
    (("feeling",), ("noun", "a noun")),
    (CLASS_RULES, ("noun", "a noun")),
)
# Other ways to ask for a thing, and the style between a number and a noun.
OTHERS = tuple(
    re.compile(pattern)
    for pattern in (
        rf"(?:an? )?(?:{STYLE} )?(?:emoji|drawing|picture|icon|photo) of (?P<x>.+)",
        rf"[一两](?:只|个|张|朵|条|辆|颗|头|杯|棵|本)(?:(?:{STYLE})风格的)?(?P<x>.+)",
        rf"{ARTICLE}(?P<x>.+)",
    )
)


def readings(prompt: str) -> set[str]:
    """All things that a prompt may ask for. None if it asks for a style alone."""
    text = " ".join(prompt.lower().split())
    found = {text, text.strip(MARKS)}
    for layer in layers():
        found |= {match["x"].strip() for text in found for match in _matches(layer, text)}
    if any(alone.fullmatch(text) for alone in styles_alone() for text in found):
        return set()
    found |= {match["x"] for text in found for match in _matches(OTHERS, text)}
    return {" ".join(text.strip(" ,，").split()) for text in found} - {""}


def _matches(frames: tuple[re.Pattern, ...], text: str) -> Iterator[re.Match]:
    return filter(None, (frame.fullmatch(text) for frame in frames))


@cache
def layers() -> list[tuple[re.Pattern, ...]]:
    """For each of LAYERS, the frames in both languages. What stands within is the group x."""
    return [
        tuple(
            re.compile(_frame(grammar, one.parts, i))
            for grammar in GRAMMARS
            for rule in rules
            for one in grammar.rules.get(rule, ())
            for i, part in enumerate(one.parts)
            if i % 2 and part in inner
        )
        for rules, inner in LAYERS
    ]


@cache
def styles_alone() -> list[re.Pattern]:
    return [re.compile(_pattern(grammar, "style alone")) for grammar in GRAMMARS]


def _frame(grammar: Grammar, parts: tuple[str, ...], inner: int) -> str:
    """An alternative as a regular expression, in which part `inner` is the group x."""
    texts = [_pattern(grammar, part) if i % 2 else re.escape(part) for i, part in enumerate(parts)]
    texts[inner] = f"{ARTICLE if parts[inner] == 'a noun' else ''}(?P<x>.+)"
    return "".join(texts)


def _pattern(grammar: Grammar, rule: str) -> str:
    """All texts of a rule as a regular expression."""
    if rule == "background":
        return "(?:" + "|".join(_pattern(grammar, colour) for colour in BACKGROUNDS) + ")"
    if rule not in grammar.rules:
        return SLOTS.get(rule, ".+")
    alternatives = (
        "".join(
            _pattern(grammar, part) if i % 2 else re.escape(part)
            for i, part in enumerate(one.parts)
        )
        for one in grammar.rules[rule]
    )
    return "(?:" + "|".join(sorted(alternatives, key=len, reverse=True)) + ")"  # longest first
