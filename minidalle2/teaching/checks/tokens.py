"""Checks of exercises 02: byte-pair encoding."""

from collections import Counter
from collections.abc import Callable

from minidalle2.teaching.checks.compare import compare
from minidalle2.tokenizer import Tokenizer, merge

TEXTS = ("low lower lowest low low", "aaa aaab aab aaa", "new newer news renew new")


def check_count_pairs(count_pairs: Callable, seed: int = 0) -> None:
    """count_pairs({piece: how often it occurs}) → Counter of pairs of neighbours."""
    pieces = {(1, 2, 3): 5 + seed, (2, 3): 2, (1, 2, 1, 2): 1, (7,): 9}
    truth, once, every_second = Counter(), Counter(), Counter()
    for piece, n in pieces.items():
        for pair in zip(piece, piece[1:], strict=False):
            truth[pair] += n
            once[pair] += 1
        for pair in zip(piece[::2], piece[1::2], strict=False):
            every_second[pair] += n
    mistakes = {
        "Each piece counts once. The dictionary says how often it occurs.": once,
        "Only every second pair is counted. Each position begins a pair.": every_second,
    }
    compare("count_pairs", Counter(count_pairs(dict(pieces))), truth, mistakes)


def check_merge(merge_pair: Callable, seed: int = 0) -> None:
    """merge_pair(ids, pair, new_id) → ids."""
    for ids in ([1, 1, 1, 2], [2, 1, 1, 2, 1], [1], [], [5 + seed, 1, 1]):
        given = list(ids)
        answer = merge_pair(given, (1, 1), 9)
        truth = merge(ids, (1, 1), 9)
        twice = [9 if given[i : i + 2] == [1, 1] else x for i, x in enumerate(given)]
        only_first = list(ids)
        if [1, 1] in [ids[i : i + 2] for i in range(len(ids))]:
            i = next(i for i in range(len(ids)) if ids[i : i + 2] == [1, 1])
            only_first[i : i + 2] = [9]
        mistakes = {
            "An id is used twice. After a merge, continue behind both of its ids.": twice,
            "Only the first pair is merged. Merge all pairs.": only_first,
            "Nothing is merged. Compare the ids i and i + 1 with the pair.": list(ids),
            "The last id is lost. An id without a right neighbour must stay.": truth[:-1],
        }
        compare(f"merge_pair({ids})", answer, truth, mistakes)


def check_encode(encode: Callable, seed: int = 0) -> None:
    """encode(ids, rank) → ids after all merges. The merge that was learned first comes first."""
    # b+c was learned before a+b, so "abc" becomes a|bc. From left to right it would be ab|c.
    rank = {(2, 3): 0, (1, 2): 1, (10, 4): 2}
    for ids in ([1, 2, 3], [1, 2, 3, 4], [1, 2, 1, 2, 3], [4] * (1 + seed), [2, 3, 2, 3]):
        truth, greedy, once = _by_rank(list(ids), rank), _left_to_right(list(ids), rank), list(ids)
        pairs = [p for p in zip(ids, ids[1:], strict=False) if p in rank]
        if pairs:
            best = min(pairs, key=rank.get)
            once = merge(list(ids), best, 10 + rank[best])
        mistakes = {
            "Pairs are merged from left to right. Begin with the one learned first.": greedy,
            "It stops after one merge. Continue until no pair has a rank.": once,
        }
        compare(f"encode({ids})", encode(list(ids), dict(rank)), truth, mistakes)


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
    """decode(ids, bytes_of) → text. bytes_of(id) returns the bytes of a token."""
    tokenizer = Tokenizer.train(list(TEXTS), vocab_size=270)
    for text in ("low lowest", "né", "红色 🔵"[seed % 2 :]):
        ids = tokenizer.encode(text)
        parts = [tokenizer.bytes_of(i) for i in ids]
        alone = [part.decode(errors="replace") for part in parts]
        latin = b"".join(parts).decode("latin-1")
        mistakes = {
            "Each token is decoded alone. A letter can be spread over tokens.": "".join(alone),
            "Spaces are put between tokens. Tokens contain their own spaces.": " ".join(alone),
            "Each byte becomes one letter. UTF-8 has letters of several bytes.": latin,
        }
        compare(f"decode, {text!r}", decode(ids, tokenizer.bytes_of), text, mistakes)
