"""Drawings → captions in English or Chinese, in the words that people use.

The rules are in english.txt and chinese.txt. A caption says the name of the drawing, or something
else that the name is called (wording.py), or nothing but the style. Many everyday words are said of
several names, so a caption without the name is open. Some captions contain the style. A coloured
background is always in the caption. A white background is rarely in the caption, so that a prompt
without a background means white. Captions are in lower case, like the prompts that the tokenizer
receives.
"""

import random
from collections.abc import Callable

from minidalle2.worlds.emoji.called import tells
from minidalle2.worlds.emoji.names import Drawing, Name
from minidalle2.worlds.emoji.nouns import with_article
from minidalle2.worlds.emoji.splits import held_out_names
from minidalle2.worlds.emoji.wording import GRAMMARS, as_noun, own_name, some_wording
from minidalle2.worlds.emoji.words import BACKGROUNDS, WHITE
from minidalle2.worlds.grammar import Slot
from minidalle2.worlds.typing_errors import mistyped

# Shares of the captions.
CHINESE = 1 / 3
STYLELESS = 0.4
STYLE_ALONE = 0.03  # the style and nothing else, so that CLIP learns styles independently of names
SAYS_WHITE = 0.15  # of the pictures on white
TYPING_ERRORS = 0.04


def describe(
    drawings: list[Drawing], backgrounds: list[int], rng: random.Random, says_all: bool = False
) -> list[str]:
    """Returns one caption for each picture. A few contain a typing error.

    With `says_all`, captions contain the name, the style and the background, even if it is white,
    and no typing errors.
    """
    captions = []
    for drawing, background in zip(drawings, backgrounds, strict=True):
        text = caption(drawing, background, rng, says_all)
        if not says_all and rng.random() < TYPING_ERRORS:
            text = _allowed(drawing.name, lambda text=text: mistyped(text, rng))
        captions.append(text)
    return captions


def caption(drawing: Drawing, background: int, rng: random.Random, says_all: bool = False) -> str:
    """A random caption of a drawing on a background, which is an index into BACKGROUNDS."""
    return _allowed(drawing.name, lambda: _caption(drawing, background, rng, says_all))


def _allowed(name: Name, make: Callable[[], str]) -> str:
    """The first text of `make` that contains no held-out name but the drawing's own."""
    while tells(text := make()) and name.key not in held_out_names():
        pass
    return text


def _caption(drawing: Drawing, background: int, rng: random.Random, says_all: bool) -> str:
    chinese = rng.random() < CHINESE
    styled = rng.random() >= STYLELESS or says_all
    if says_all:
        own = own_name(drawing.name, chinese)
        rule, slots = as_noun(drawing.name, own, chinese, rng)
    elif styled and rng.random() < STYLE_ALONE / (1 - STYLELESS):
        rule, slots = "style alone", {}
    else:
        rule, slots = some_wording(drawing.name, chinese, rng)
    if rule != "style alone":
        rule = f"{rule} {'styled' if styled else 'plain'}".strip()
    slots |= {"style": drawing.style, "style a": with_article(drawing.style)}

    def say(name: str, **more: Slot) -> str:
        return GRAMMARS[chinese].say(name, slots | more, rng)[0]

    phrase = say(rule)
    if not (background != WHITE or says_all or rng.random() < SAYS_WHITE):
        return say("caption", what=phrase, asked=phrase)
    colour = say(list(BACKGROUNDS)[background])
    return say(
        "caption",
        what=lambda: say("on", phrase=phrase, background=colour),
        asked=lambda: say("after", phrase=phrase, background=colour),
    )
