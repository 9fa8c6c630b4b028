"""What a prompt asks for, and the names of the emoji world that come nearest to it."""

import re
from collections import Counter
from collections.abc import Iterable
from difflib import SequenceMatcher, get_close_matches
from functools import cache

from minidalle2.worlds.emoji.called import called, trained
from minidalle2.worlds.emoji.names import Name, requestable
from minidalle2.worlds.emoji.nouns import spoken
from minidalle2.worlds.emoji.readings import readings
from minidalle2.worlds.emoji.words import NOT_INCLUDED

NEAREST = 3  # most names that a message suggests
SAID = 5  # most prompts that a message mentions
SIMILAR = 0.86  # similarity from which an unknown word counts as misspelled
ALIKE = 0.7  # similarity of a whole name from which the name is suggested
HALF = 0.5  # share of the words from which a name is suggested
IN_NAME, IN_KEYWORDS, WORD_IS_KEYWORD, THING_IS_KEYWORD = 1.0, 0.5, 0.5, 1.0  # what matches count
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
    """'draw a noto crab on a red background' → 'crab'; '' for a prompt without a thing.

    A prompt can be read in several ways. The longest name is taken, such as "flat shoe" although
    flat is a style. Without a name it is the longest noun, saying or keyword, and without these the
    shortest thing that is known, or the shortest thing.
    """
    things = sorted(readings(prompt), key=len)
    for known in (lambda thing: singular(thing) in by_name(), lambda thing: thing in all_words()):
        found = [thing for thing in things if known(thing)]
        if found:
            return found[-1]
    return next((thing for thing in things if not is_unknown(thing)), (things or [""])[0])


def is_unknown(thing: str) -> bool:
    """Whether a thing is neither a name nor made of words that one name is called."""
    if not thing or singular(thing) in by_name() or thing in all_words():
        return False
    wanted = words_of(thing) - FILLERS
    if not wanted or any(name.char.rstrip("\ufe0f") in thing for name in requestable()):
        return True
    return not any(
        wanted <= english or is_made_of(thing, chinese)
        for english, chinese in words_of_trained_names()
    )


def is_made_of(thing: str, words: set[str]) -> bool:
    """Whether a Chinese text consists of these words, with or without spaces or 、 between them.

    Long words are removed first, because a word may contain another one.
    """
    for word in sorted(words, key=len, reverse=True):
        thing = thing.replace(word, "")
    return not thing.strip("、 ")


@cache
def all_words() -> frozenset[str]:
    """All that names with training pictures are called."""
    return frozenset().union(*(keywords_of(name) for name in trained()))


@cache
def words_of_trained_names() -> list[tuple[set[str], set[str]]]:
    """For each name, its English words, and its name, words and keywords in Chinese."""
    found = []
    for name in trained():
        english, chinese = called(name)
        texts = (spoken(name.name), *english.everything())
        words = {word for text in texts for word in words_of(text)}
        found.append((words, {name.name_zh.lower(), *chinese.everything()}))
    return found


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
    """All that a name is called in both languages, besides the name itself."""
    return {text for language in called(name) for text in language.everything()}


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
