"""Exercises 02: byte-pair encoding."""

from collections import Counter
from collections.abc import Callable

from minidalle2.teaching.checks.compare import compare
from minidalle2.tokenizer import Tokenizer, merge

TEXTS = ("low lower lowest low low", "aaa aaab aab aaa", "new newer news renew new")


def check_count_pairs(count_pairs: Callable, seed: int = 0) -> None:
    """count_pairs({piece: how often}) → Counter of neighbours."""
    pieces = {(1, 2, 3): 5 + seed, (2, 3): 2, (1, 2, 1, 2): 1, (7,): 9}
    truth, once, ends = Counter(), Counter(), Counter()
    for piece, n in pieces.items():
        for pair in zip(piece, piece[1:], strict=False):
            truth[pair] += n
            once[pair] += 1
        for pair in zip(piece[::2], piece[1::2], strict=False):
            ends[pair] += n
    compare(
        "count_pairs", Counter(count_pairs(dict(pieces))), truth,
        {
            "a piece that occurs five times counts once; how often it occurs is in the dictionary":
                once,
            "neighbours are counted in steps of two; every position begins a pair": ends,
        },
    )  # fmt: skip


def check_merge(merge_pair: Callable, seed: int = 0) -> None:
    """merge_pair(ids, pair, new_id) → ids."""
    for ids in ([1, 1, 1, 2], [2, 1, 1, 2, 1], [1], [], [5 + seed, 1, 1]):
        given = list(ids)
        answer = merge_pair(given, (1, 1), 9)
        twice = [9 if given[i : i + 2] == [1, 1] else x for i, x in enumerate(given)]
        first = list(ids)
        if [1, 1] in [ids[i : i + 2] for i in range(len(ids))]:
            i = next(i for i in range(len(ids)) if ids[i : i + 2] == [1, 1])
            first[i : i + 2] = [9]
        compare(
            f"merge_pair({ids})", answer, merge(ids, (1, 1), 9),
            {
                "an id is used twice; after a merge go on behind both of its parts": twice,
                "it stops after the first pair; there may be more": first,
                "nothing is merged; look at neighbours i and i + 1": list(ids),
                "the last id is lost; what has no right neighbour stays":
                    merge(ids, (1, 1), 9)[:-1],
            },
        )  # fmt: skip


def check_encode(encode: Callable, seed: int = 0) -> None:
    """encode(ids, rank) → ids: the earliest-learned merge first."""
    # b+c was learned before a+b, so "abc" is a|bc; from left to right it would be ab|c.
    rank = {(2, 3): 0, (1, 2): 1, (10, 4): 2}
    for ids in ([1, 2, 3], [1, 2, 3, 4], [1, 2, 1, 2, 3], [4] * (1 + seed), [2, 3, 2, 3]):
        truth, greedy, once = _by_rank(list(ids), rank), _left_to_right(list(ids), rank), list(ids)
        pairs = [p for p in zip(ids, ids[1:], strict=False) if p in rank]
        if pairs:
            best = min(pairs, key=rank.get)
            once = merge(list(ids), best, 10 + rank[best])
        compare(
            f"encode({ids})", encode(list(ids), dict(rank)), truth,
            {
                "merges go from left to right; the one learned first must go first": greedy,
                "it stops after one merge; go on until no pair has a rank": once,
            },
        )  # fmt: skip


def _by_rank(ids: list[int], rank: dict) -> list[int]:
    while pairs := [p for p in zip(ids, ids[1:], strict=False) if p in rank]:
        best = min(pairs, key=rank.get)
        ids = merge(ids, best, 10 + rank[best])
    return ids


def _left_to_right(ids: list[int], rank: dict) -> list[int]:
    while pairs := [p for p in zip(ids, ids[1:], strict=False) if p in rank]:
        ids = merge(ids, pairs[0], 10 + rank[pairs[0]])
    return ids


def check_decode(decode: Callable, seed: int = 0) -> None:
    """decode(ids, bytes_of) → text; bytes_of(id) are the bytes of a token."""
    tokenizer = Tokenizer.train(list(TEXTS), vocab_size=270)
    for text in ("low lowest", "né", "红色 🔵"[seed % 2 :]):
        ids = tokenizer.encode(text)
        parts = [tokenizer.bytes_of(i) for i in ids]
        compare(
            f"decode, {text!r}", decode(ids, tokenizer.bytes_of), text,
            {
                "each token is decoded alone; a letter may be spread over several tokens":
                    "".join(part.decode(errors="replace") for part in parts),
                "spaces are put between tokens; a token brings its own":
                    " ".join(part.decode(errors="replace") for part in parts),
                "each byte is taken for a letter; UTF-8 uses several for some":
                    b"".join(parts).decode("latin-1"),
            },
        )  # fmt: skip
