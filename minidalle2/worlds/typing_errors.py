"""Typing errors in words of Latin letters."""

import random
import re

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def mistyped(text: str, rng: random.Random) -> str:
    """One word of four or more letters with a letter left out, doubled, replaced or exchanged."""
    words = [m for m in re.finditer(r"[a-z]{4,}", text)]
    if not words:
        return text
    word = rng.choice(words)
    i = rng.randrange(word.start(), word.end() - 1)
    typed = rng.choice(("", text[i] * 2 + text[i + 1], text[i + 1] + text[i], rng.choice(LETTERS)))
    kept = i + 1 if len(typed) < 2 else i + 2
    return text[:i] + typed + text[kept:]
