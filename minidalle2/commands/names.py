"""`minidalle2 names`: the things that can be requested from the emoji world, one per line."""

import os
import sys
from argparse import Namespace

from minidalle2.worlds.emoji.names import names, requestable
from minidalle2.worlds.emoji.nouns import spoken
from minidalle2.worlds.emoji.requests import label, matching, nearest
from minidalle2.worlds.emoji.words import NOT_INCLUDED


def run(args: Namespace) -> None:
    """Prints names in English and Chinese on stdout, and a summary on stderr.

    Raises ValueError if no name matches.
    """
    found = matching(args.words)
    if not found:
        thing = " ".join(args.words).lower()
        near = ", ".join(map(label, nearest(thing)))
        raise ValueError(
            f"no name or keyword contains {thing!r}; "
            + (f"the nearest names: {near}" if near else "`minidalle2 names` lists all names")
        )
    width = max(len(spoken(name.name)) for name in found)
    try:
        for name in found:
            print(f"{spoken(name.name):{width}}  {name.name_zh}")
        sys.stdout.flush()
    except BrokenPipeError:  # `minidalle2 names | head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at the end
    total = len(requestable()) if args.words else len(names())
    print(f"{len(found):,} of {total:,} names; not included: {NOT_INCLUDED}", file=sys.stderr)
