"""What people call the drawings of a name, besides the name itself.

Nouns and sayings are from things.txt and sayings.txt. Other nouns are shortcodes of chat systems.
Keywords are from names.jsonl. Whatever contains a held-out name is left out, except for the
held-out name itself.
"""

import re
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from minidalle2.worlds.emoji.names import Name, names, requestable
from minidalle2.worlds.emoji.nouns import class_of, kind_of, spoken
from minidalle2.worlds.emoji.splits import held_out_names, held_out_words

HAN = re.compile(r"[\u3400-\u9fff]")
FEELINGS = ("face", "hand", "person")  # classes whose shortcodes are often no nouns: "joy", "clap"
SAYABLE = re.compile(r"[a-z][a-z_-]+[a-z]")  # a shortcode of words: "dog", not "dog2" or "+1"


@dataclass(frozen=True)
class Called:
    """What a name is called in one language."""

    nouns: tuple[str, ...]  # "coffee"
    words: tuple[str, ...]  # shortcodes that may be no nouns: "joy"
    sayings: tuple[str, ...]  # "happy birthday"
    codes: tuple[str, ...]  # ":coffee:"
    keywords: tuple[str, ...]
    alone: tuple[str, ...]  # the keywords that may stand alone, because no other name claims them

    def everything(self) -> tuple[str, ...]:
        return (*self.nouns, *self.words, *self.sayings, *self.codes, *self.keywords)


@cache
def called(name: Name) -> tuple[Called, Called]:
    """What a name is called in English and in Chinese.

    "heart" is a keyword of 38 names, but people mean the red heart. Such a word is claimed by the
    names that have it as their name, noun, word or saying. Others have it in lists of keywords
    only.
    """
    kinds = kind_of(name.subgroup)
    found = []
    for chinese, said in enumerate((name.keywords, name.keywords_zh)):
        nouns, words, sayings = _claims(name)[chinese]
        keywords = _allowed(name, (*said, kinds[chinese]))
        own = {*nouns, *words, *sayings}
        alone = tuple(word for word in keywords if word in own or word not in claimed())
        codes = () if chinese else tuple(f":{code}:" for code in _allowed(name, name.shortcodes))
        found.append(Called(nouns, words, sayings, codes, keywords, alone))
    return tuple(found)


@cache
def _claims(name: Name) -> tuple[tuple[tuple[str, ...], ...], ...]:
    """The nouns, words and sayings of a name, in English and in Chinese."""
    own = spoken(name.name)
    codes = _allowed(name, name.shortcodes)
    said = [code.replace("_", " ") for code in codes if SAYABLE.fullmatch(code)]
    said = [words for words in dict.fromkeys(said) if words != own]
    feeling = class_of(name.subgroup) in FEELINGS
    words = tuple(word for word in said if feeling and word.split()[-1] not in heads())
    nouns = [word for word in said if word not in words]
    things, sayings = (
        [_allowed(name, listed(file, own, chinese)) for chinese in (False, True)]
        for file in ("things.txt", "sayings.txt")
    )
    english = tuple(dict.fromkeys((*things[0], *nouns)))
    return (english, words, sayings[0]), (things[1], (), sayings[1])


@cache
def claimed() -> frozenset[str]:
    """The names that training has, and their nouns, words and sayings, in both languages."""
    own = {text for name in trained() for text in (spoken(name.name), name.name_zh)}
    parts = (part for name in trained() for language in _claims(name) for part in language)
    return frozenset(own.union(*parts))


def trained() -> list[Name]:
    """The names that have training pictures and can be asked for."""
    return [name for name in requestable() if name.key not in held_out_names()]


def _allowed(name: Name, texts: tuple[str, ...]) -> tuple[str, ...]:
    """The texts in lower case, each once, without those that contain a held-out name."""
    lower = dict.fromkeys(text.lower() for text in texts if text)
    return tuple(text for text in lower if name.key in held_out_names() or not tells(text))


def tells(text: str) -> bool:
    """Whether a text in lower case contains a held-out name, also with _ for its spaces."""
    return bool(_held_out_names().search(text.replace("_", " ")))


@cache
def _held_out_names() -> re.Pattern:
    english, chinese = ("|".join(map(re.escape, words)) for words in held_out_words())
    return re.compile(rf"(?<![\w-])(?:{english})(?![\w-])|{chinese}")


@cache
def heads() -> frozenset[str]:
    """The last words of all names, and all nouns of one word. They can have an article."""
    last = {spoken(name.name).split()[-1] for name in names()}
    listed = {noun for nouns in lists("things.txt").values() for noun in nouns}
    others = {
        code
        for name in names()
        for code in name.shortcodes
        if class_of(name.subgroup) not in FEELINGS and code.isalpha()
    }
    return frozenset(last | {noun for noun in listed if " " not in noun} | others)


def listed(file: str, own: str, chinese: bool) -> tuple[str, ...]:
    """The texts of a file for a spoken name, in one language."""
    texts = lists(file).get(own, ())
    return tuple(text for text in texts if bool(HAN.search(text)) == chinese and text != own)


@cache
def lists(file: str) -> dict[str, list[str]]:
    """things.txt or sayings.txt → the spoken names, and what each is called.

    A line is: text, text, …: name, name, …
    """
    found = defaultdict(list)
    for line in (Path(__file__).parent / file).read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            texts, own = line.rsplit(": ", 1)
            for name in own.split(", "):
                found[name] += texts.split(", ")
    return dict(found)
