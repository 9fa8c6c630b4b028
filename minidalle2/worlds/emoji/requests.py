"""What a prompt asks for, and the names of the emoji world that come nearest to it."""

import re
from collections import Counter
from collections.abc import Iterable
from difflib import SequenceMatcher, get_close_matches
from functools import cache

from minidalle2.worlds.emoji.captions import keywords, spoken
from minidalle2.worlds.emoji.names import Name, requestable
from minidalle2.worlds.emoji.words import BACKGROUNDS, NOT_INCLUDED, STYLES

NEAREST = 3  # most names that a message suggests
SAID = 5  # most prompts that a message mentions
SIMILAR = 0.86  # similarity from which an unknown word counts as misspelled
ALIKE = 0.7  # similarity of a whole name from which the name is suggested
HALF = 0.5  # share of the words from which a name is suggested
IN_NAME, IN_KEYWORDS, WORD_IS_KEYWORD, THING_IS_KEYWORD = 1.0, 0.5, 0.5, 1.0  # what matches count

_STYLES, _COLOURS = "|".join(STYLES), "|".join(BACKGROUNDS)
_COLOURS_ZH = "|".join(zh for zh, _ in BACKGROUNDS.values())
ARTICLE = re.compile(r"^(an?|the|some|one) ")
# What a caption says besides the thing (captions.py), and other ways in which users say this.
BESIDES = tuple(
    re.compile(pattern)
    for pattern in (
        rf"(,| on an?| with an?| in front of an?)? ({_COLOURS}) background$",
        rf"[，,]? ?({_COLOURS_ZH})背景(上的)?",
        rf",? ?(in )?((a|the) )?\b({_STYLES}) style\b",
        rf"[，,]? ?(?<![a-z])({_STYLES})(?![a-z]) ?(风格)?的?",
        r"^(an? )?(emoji|drawing|picture|icon|photo) of ",
        r"的?(表情符号|表情)$|^(an? )?emoji$",
        ARTICLE.pattern,
        r"^[一两](只|个|张|朵|条|辆|颗|头|杯|棵)",
    )
)
BY_KEYWORDS = re.compile(r"^(emoji:|表情：) ?")  # then a caption names keywords only
FILLERS = {"a", "an", "the", "of", "and", "or", "with", "in", "on", "to", "s"}
WORD = re.compile(r"[\u3400-\u9fff]|[^\W_\u3400-\u9fff]+")


def advice(prompts: Iterable[str]) -> list[str]:
    """Lines for the prompts that ask for something that is not a name of the world.

    Each line suggests the nearest names. The last one says what the world does not contain.
    """
    things = dict.fromkeys(filter(is_unknown, map(thing_of, prompts)))
    lines = []
    for thing in list(things)[:SAID]:
        near = ", ".join(map(label, nearest(thing)))
        lines.append(
            f"{thing!r} is no name of the emoji world; "
            + (f"the nearest names: {near}" if near else "no name is similar")
        )
    if len(things) > SAID:
        lines.append(f"{len(things) - SAID} more prompts ask for something without a name")
    if lines:
        lines.append(f"not included: {NOT_INCLUDED}; `minidalle2 names` lists all names")
    return lines


def thing_of(prompt: str) -> str:
    """'a noto drawing of a crab on a red background' → 'crab'; '' for a prompt without a thing."""
    thing = " ".join(prompt.lower().split()).strip(".。!！ ")
    for pattern in BESIDES:
        if name := name_in(thing):  # "flat shoe" is a name, although flat is a style
            return name
        thing = pattern.sub(" ", thing).strip(" ,，")
    return " ".join(thing.split())


def name_in(thing: str) -> str:
    """The thing, perhaps without its article, if it is a name of the world; else ''."""
    texts = (thing, ARTICLE.sub("", thing))
    return next((text for text in texts if singular(text) in by_name()), "")


def is_unknown(thing: str) -> bool:
    """Whether a thing is neither a name nor a list of keywords of one name.

    A single word is a list of keywords only after "emoji:".
    """
    bare = BY_KEYWORDS.sub("", thing)
    parts = {part for part in re.split(r"[,，、] ?", bare) if part}
    if not parts or singular(bare) in by_name():
        return False
    if len(parts) == 1 and not BY_KEYWORDS.match(thing):
        return True
    return not any(parts <= keywords_of(name) for name in requestable())


@cache
def by_name() -> dict[str, Name]:
    """English and Chinese names, as users say them, with their names."""
    english = {singular(spoken(name.name)): name for name in requestable()}
    return english | {name.name_zh.lower(): name for name in requestable()}


def singular(text: str) -> str:
    """The text without a plural ending of its last word: 'red apples' → 'red apple'."""
    return text[:-1] if text.endswith("s") and not text.endswith("ss") else text


def nearest(thing: str) -> list[Name]:
    """At most NEAREST names, the nearest first. For emoji characters, their own names."""
    pictured = [name for name in requestable() if name.char.rstrip("\ufe0f") in thing]
    if pictured:
        return pictured[:NEAREST]
    wanted = words_of(thing) - FILLERS or words_of(thing)
    meant = {word: spellings(word) for word in wanted}
    scores = {name: score(thing, meant, name) for name in requestable()}
    best = max(scores.values(), default=0.0)
    return [name for name, s in Counter(scores).most_common(NEAREST) if s > best / 2]


def spellings(word: str) -> set[str]:
    """The word, or similar known words if the word is unknown."""
    known = vocabulary()
    return {word} if word in known else {word, *get_close_matches(word, known, 3, SIMILAR)}


def score(thing: str, meant: dict[str, set[str]], name: Name) -> float:
    """How near a name comes to a thing; 0 for names that have too little in common with it.

    The sum of the similarity of the letters, the shares of the thing's words that the name and its
    English keywords contain, and whether one of the words or the whole thing is a keyword. `meant`
    has the spellings of each word.
    """
    own_keywords = keywords_of(name)
    english = filter(str.isascii, own_keywords)
    in_keywords = {word for keyword in english for word in words_of(keyword)}
    share = sum(bool(words & words_of_name(name)) for words in meant.values()) / max(1, len(meant))
    told = sum(bool(words & in_keywords) for words in meant.values()) / max(1, len(meant))
    own = (spoken(name.name), name.name_zh.lower())
    alike = max(SequenceMatcher(None, thing, text).ratio() for text in own)
    whole = thing in own_keywords
    if max(share, told, whole) < HALF and alike < ALIKE:
        return 0.0
    one = any(words & own_keywords for words in meant.values())
    return (
        alike
        + IN_NAME * share
        + IN_KEYWORDS * told
        + WORD_IS_KEYWORD * one
        + THING_IS_KEYWORD * whole
    )


@cache
def words_of_name(name: Name) -> set[str]:
    return words_of(f"{spoken(name.name)} {name.name_zh.lower()}")


@cache
def keywords_of(name: Name) -> set[str]:
    english, chinese = keywords(name)
    return {*english, *chinese}


@cache
def vocabulary() -> list[str]:
    """All words of names and keywords."""
    texts = (word for name in requestable() for word in keywords_of(name))
    words = {word for text in texts for word in words_of(text)}
    return sorted(words | {word for name in requestable() for word in words_of_name(name)})


def words_of(text: str) -> set[str]:
    """Words, or single characters of Chinese, which has no spaces."""
    return set(WORD.findall(text))


def matching(words: list[str]) -> list[Name]:
    """The names that contain all words, in the name or in a keyword, in English or Chinese."""
    lower = [word.lower() for word in words]
    found = []
    for name in requestable():
        text = "\n".join((spoken(name.name), name.name_zh.lower(), *keywords_of(name)))
        if all(word in text for word in lower):
            found.append(name)
    return found


def label(name: Name) -> str:
    """'hot beverage (热饮)'."""
    return f"{spoken(name.name)} ({name.name_zh})"
