"""A grammar: rules as text, and how a text is made from them by chance.

    name: alternative | alternative *3 | alternative @family
        | further alternatives

An alternative is taken as often as its number says, 1 without a number. [x] stands for rule x, or
for the slot x that the caller fills. [x!] does the same, but the alternative is left out if the
slot x is empty or missing. Alternatives with @family are held out: training never uses them.
@family? leads to such an alternative, but does not count as one. A # begins a comment.
"""

import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import accumulate

REFERENCE = re.compile(r"\[([^\]]+)\]")
Slot = str | Callable[[], str]  # a function is called only if its text is needed
MARKS = re.compile(r"^(.*?)\s*(?:\*(\d+))?\s*(?:@(\w+\??))?$")


@dataclass(frozen=True)
class Alternative:
    parts: tuple[str, ...]  # text, reference, text, reference, …, text
    needs: tuple[str, ...]  # slots that must not be empty
    weight: int
    family: str  # '' if it is not held out
    leads: bool  # to an alternative of the family, but does not count as one


class Grammar:
    """Rules by their names. Raises ValueError for a rule that refers to an unknown name."""

    def __init__(self, text: str, slots: tuple[str, ...]):
        """`slots` are the names that the caller fills."""
        self.rules: dict[str, list[Alternative]] = {}
        lines = [line.split("#")[0].rstrip() for line in text.splitlines()]
        joined = "\n".join(line for line in lines if line)
        for rule in re.sub(r"\n\s+", " ", joined).splitlines():
            name, alternatives = rule.split(":", 1)
            self.rules[name.strip()] = [_alternative(part) for part in alternatives.split("|")]
        known = self.rules.keys() | set(slots)
        for name, alternatives in self.rules.items():
            unknown = {ref for one in alternatives for ref in one.parts[1::2]} - known
            if unknown:
                raise ValueError(f"the rule {name!r} refers to {sorted(unknown)}, which is no rule")
        self.families = sorted({one.family for rule in self.rules.values() for one in rule} - {""})
        self._trained = {name: _weighed(rule, "") for name, rule in self.rules.items()}

    def say(
        self, name: str, slots: Mapping[str, Slot], rng: random.Random, family: str = ""
    ) -> tuple[str, bool]:
        """A text of rule `name`, and whether it has text that training never uses.

        Where a rule has alternatives of `family`, one of these is taken. Alternatives of other
        families are never taken. An empty slot leaves nothing in the text.
        """
        if name in slots:
            value = slots[name]
            return (value() if callable(value) else value), False
        usable, weights = _weighed(self.rules[name], family) if family else self._trained[name]
        chosen = rng.choices(usable, cum_weights=weights)[0]
        if not self._is_complete(chosen, slots):
            complete = [one for one in self.rules[name] if self._is_complete(one, slots)]
            usable, weights = _weighed(complete, family)
            chosen = rng.choices(usable, cum_weights=weights)[0]
        parts, used = list(chosen.parts), bool(chosen.family) and not chosen.leads
        for i in range(1, len(parts), 2):
            parts[i], below = self.say(parts[i], slots, rng, family)
            used |= below
        return "".join(parts), used

    def _is_complete(self, one: Alternative, slots: Mapping[str, Slot]) -> bool:
        """Whether no slot that the alternative needs is empty."""
        return all(slots.get(need, need in self.rules) for need in one.needs)


def _weighed(rule: list[Alternative], family: str) -> tuple[list[Alternative], list[int]]:
    """The alternatives that may be taken, and their weights, added up."""
    usable = [one for one in rule if one.family in ("", family)]
    special = [one for one in usable if one.family] if family else []
    usable = special or usable
    return usable, list(accumulate(one.weight for one in usable))


def _alternative(text: str) -> Alternative:
    words, weight, family = MARKS.match(text.strip()).groups()
    parts = REFERENCE.split(words)
    needs = tuple(part[:-1] for part in parts[1::2] if part.endswith("!"))
    return Alternative(
        tuple(part.removesuffix("!") if i % 2 else part for i, part in enumerate(parts)),
        needs,
        int(weight or 1),
        (family or "").removesuffix("?"),
        (family or "").endswith("?"),
    )
