"""Text → tokens: byte-level byte-pair encoding, trained and applied here in full.

Every Unicode text is a sequence of bytes and every byte is a token, so nothing is ever unknown;
training then merges the most frequent neighbours, again and again (Sennrich et al. 2016; bytes as
in GPT-2). The paper encodes text with CLIP's BPE (section 2.1). Left out: case folding, which the
pipeline does before.
"""

import json
import re
from collections import Counter
from pathlib import Path

import torch
from torch import Tensor

from minidalle2.training.checkpoints import write_atomically

PAD, START, END = 0, 1, 2
SPECIAL = 3  # ids before the first byte
KEPT = 100_000  # encoded pieces, lest a process that reads ever new texts grows
LONGEST = 1 << 16  # bytes of a token; 60 merges of a token with itself would be beyond any memory
# GPT-2's order of the 256 bytes: printable ones first. It decides between equally frequent pairs.
_PRINTABLE = [*range(33, 127), *range(161, 173), *range(174, 256)]
BYTES = _PRINTABLE + [b for b in range(256) if b not in set(_PRINTABLE)]
# A piece is a run of letters, of digits, or of the rest, with the one space before it; a merge
# never crosses pieces. Bytes from 0x80 up (all of Unicode beyond ASCII) count as letters.
PIECES = re.compile(
    rb" ?[a-zA-Z\x80-\xff]+| ?[0-9]+| ?[^ \t\n\r\f\va-zA-Z0-9\x80-\xff]+|[ \t\n\r\f\v]+"
)
# A word is one Han character, for Chinese has no spaces, or a run of anything but Han characters,
# spaces and punctuation (ASCII's, Chinese).
WORDS = re.compile(
    r"[\u3400-\u9fff]|[^\s!-/:-@\[-`{-~\u3400-\u9fff\u3000-\u303f\uff01-\uff0f\uff1a-\uff20]+"
)
Pair = tuple[int, int]


class PromptTooLong(ValueError):
    """A text has more tokens than the model reads."""


class Tokenizer:
    """Merges in the order they were learned; id of merge i is SPECIAL + 256 + i."""

    def __init__(self, merges: list[Pair], words: list[str], context_length: int = 64):
        self.merges = [tuple(pair) for pair in merges]
        self.words = set(words)  # all words of the training captions, to name the unseen ones
        self.context_length = context_length  # most tokens of a text, start and end included
        self._rank = {pair: i for i, pair in enumerate(self.merges)}
        self._cache: dict[bytes, list[int]] = {}
        self._id_of_byte = {byte: SPECIAL + i for i, byte in enumerate(BYTES)}
        self._bytes_of_id = {i: bytes([byte]) for byte, i in self._id_of_byte.items()}
        for i, (left, right) in enumerate(self.merges):
            merged = self._bytes_of_id[left] + self._bytes_of_id[right]
            if len(merged) > LONGEST:
                raise ValueError(f"merge {i} makes a token of more than {LONGEST:,} bytes")
            self._bytes_of_id[SPECIAL + 256 + i] = merged
        self._longest = max(map(len, self._bytes_of_id.values()))  # bytes of a token

    @property
    def vocab_size(self) -> int:
        return SPECIAL + 256 + len(self.merges)

    @classmethod
    def train(cls, texts: list[str], vocab_size: int = 512, context_length: int = 64):
        """Learn merges until `vocab_size` ids exist or no pair occurs twice."""
        words = sorted({word for text in texts for word in _words(text)})
        tokenizer = cls([], words, context_length)
        counts = Counter(piece for text in texts for piece in PIECES.findall(text.encode()))
        pieces = [([tokenizer._id_of_byte[b] for b in piece], n) for piece, n in counts.items()]
        merges: list[Pair] = []
        while SPECIAL + 256 + len(merges) < vocab_size:
            pair_counts: Counter[Pair] = Counter()
            for ids, n in pieces:
                for pair in zip(ids, ids[1:], strict=False):
                    pair_counts[pair] += n
            if not pair_counts or max(pair_counts.values()) < 2:
                break
            best = min(pair_counts, key=lambda pair: (-pair_counts[pair], pair))
            new_id = SPECIAL + 256 + len(merges)
            pieces = [(merge(ids, best, new_id), n) for ids, n in pieces]
            merges.append(best)
        return cls(merges, words, context_length)

    def encode(self, text: str) -> list[int]:
        """Text → ids without start and end. `decode(encode(text)) == text` for every text."""
        return [i for piece in PIECES.findall(text.encode()) for i in self._encode_piece(piece)]

    def decode(self, ids: list[int]) -> str:
        """Ids → text; special ids vanish, invalid UTF-8 becomes U+FFFD."""
        return b"".join(self.bytes_of(i) for i in ids).decode(errors="replace")

    def bytes_of(self, token: int) -> bytes:
        """What a token stands for; nothing, where it is a special one."""
        return self._bytes_of_id.get(token, b"")

    def __call__(self, texts: list[str]) -> Tensor:
        """Texts → (B, T) ids, start … end, padded to the longest text of the batch.

        Raises PromptTooLong where a text has more than `context_length` tokens.
        """
        return _padded([self._whole(text) for text in texts])

    def cut(self, texts: list[str]) -> Tensor:
        """As a call, but a text that is too long loses its end: found captions, in training."""
        most = self.context_length - 2
        beyond = 4 * most * self._longest  # letters that can't reach the first tokens
        return _padded([[START, *self.encode(text[:beyond])[:most], END] for text in texts])

    def unseen_words(self, text: str) -> list[str]:
        """The words of a text that no training caption had, in their order."""
        return [word for word in dict.fromkeys(_words(text)) if word not in self.words]

    def save(self, path: Path) -> None:
        state = {"merges": self.merges, "words": sorted(self.words)}
        state["context_length"] = self.context_length
        text = json.dumps(state, ensure_ascii=False) + "\n"
        write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))

    @classmethod
    def load(cls, path: Path) -> "Tokenizer":
        try:
            tokenizer = cls(**json.loads(path.read_text(encoding="utf-8")))
            if not 3 <= tokenizer.context_length <= LONGEST:
                raise ValueError(f"a context of {tokenizer.context_length} tokens")
            return tokenizer
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise ValueError(
                f"{path} is not a minidalle2 tokenizer ({error}); restore it or train it again"
            ) from error

    def _whole(self, text: str) -> list[int]:
        """Text → ids, start … end. What is too long by its bytes alone is not even encoded: that
        takes minutes for a megabyte. Raises PromptTooLong."""
        least = 2 + -(-len(text.encode()) // self._longest)
        row = [] if least > self.context_length else [START, *self.encode(text), END]
        if not row or len(row) > self.context_length:
            raise PromptTooLong(
                f"the prompt {text[:40]!r}… has {len(row) or f'at least {least:,}'} tokens, but "
                f"the model reads at most {self.context_length}; shorten it"
            )
        return row

    def _encode_piece(self, piece: bytes) -> list[int]:
        """The earliest-learned merge, again and again; pieces repeat, so results are kept."""
        if len(self._cache) > KEPT:
            self._cache.clear()
        if piece not in self._cache:
            ids = [self._id_of_byte[byte] for byte in piece]
            while len(ids) > 1:
                pair = min(
                    zip(ids, ids[1:], strict=False), key=lambda p: self._rank.get(p, 1 << 30)
                )
                if pair not in self._rank:
                    break
                ids = merge(ids, pair, SPECIAL + 256 + self._rank[pair])
            self._cache[piece] = ids
        return self._cache[piece]


def _padded(rows: list[list[int]]) -> Tensor:
    """Ids of texts → (B, T), T as long as the longest."""
    tokens = torch.full((len(rows), max(map(len, rows))), PAD)
    for i, row in enumerate(rows):
        tokens[i, : len(row)] = torch.tensor(row)
    return tokens


def empty_captions_like(tokens: Tensor) -> Tensor:
    """(B, T): start, end, padding; what a network reads when its caption is dropped."""
    empty = torch.full_like(tokens, PAD)
    empty[:, 0], empty[:, 1] = START, END
    return empty


def merge(ids: list[int], pair: Pair, new_id: int) -> list[int]:
    """Replace every occurrence of `pair`, left to right, by `new_id`."""
    merged, i = [], 0
    while i < len(ids):
        if tuple(ids[i : i + 2]) == pair:
            merged.append(new_id)
            i += 2
        else:
            merged.append(ids[i])
            i += 1
    return merged


def _words(text: str) -> list[str]:
    return WORDS.findall(text.lower())
