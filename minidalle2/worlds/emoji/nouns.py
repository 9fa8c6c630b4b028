"""Names as people say them: their spelling, articles, and the kind of thing that they mean."""

import re
from functools import cache

from minidalle2.worlds.emoji.words import BARE, CLASSES, KINDS

# "an hourglass" and "an x-ray", but "a unicorn".
AN_TOO = ("hour", "x-ray", "ng ", "sos ", "atm ")
A_ALTHOUGH = ("unicorn", "one-", "one ", "euro", "ewe", "ufo", "used")
SINGULAR = ("ss", "us", "rhinoceros", "-lis")  # endings in s that are not a plural
PLURALS = {"women", "men", "woman and man", "people", "police"}  # plurals that do not end in s
CLOCKS = ("o'clock", "oclock", "thirty")
HEAD_ENDS = re.compile(r" (?:with|of|in|on|without|behind|holding|lifting|showing) | \(")


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
    if name in BARE or plural or name.endswith(CLOCKS):
        return name
    an = name.startswith(("a", "e", "i", "o", "u", *AN_TOO)) and not name.startswith(A_ALTHOUGH)
    return f"{'an' if an else 'a'} {name}"


def kind_of(subgroup: str) -> tuple[str, str]:
    """'animal-bird' → ('bird', '鸟'); ('', '') for subgroups without a common kind."""
    found = (kinds for start, kinds in KINDS.items() if subgroup.startswith(start))
    return next(found, ("", ""))


def class_of(subgroup: str) -> str:
    """'food-fruit' → 'food': the rule of the grammars that says a noun of the subgroup."""
    return next((name for start, name in CLASSES.items() if subgroup.startswith(start)), "object")
