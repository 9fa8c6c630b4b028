"""Text → tokens: byte-level byte-pair encoding (BPE), training and encoding written out.

Every text is a sequence of bytes, and every byte is a token. Therefore no text is unknown. Training
merges the most frequent pair of neighbouring tokens, again and again (Sennrich et al. 2016; bytes
as in GPT-2). The paper encodes text with CLIP's BPE (section 2.1).
Letters: B batch, T tokens.
"""

import re
from collections import Counter
from collections.abc import Callable

import torch
from torch import Tensor

PAD, START, END = 0, 1, 2
SPECIAL = 3  # number of special ids; the ids of bytes follow them
CACHED_PIECES = 100_000  # the cache is emptied beyond this size, so that memory does not grow
LONGEST = 1 << 16  # most bytes of a token, because merges of merges grow exponentially
# GPT-2's order of the 256 bytes, printable bytes first. It decides between equally frequent pairs.
_PRINTABLE = [*range(33, 127), *range(161, 173), *range(174, 256)]
BYTES = _PRINTABLE + [b for b in range(256) if b not in set(_PRINTABLE)]
# A piece is a run of letters, of digits, or of other characters, with one space before it. Merges
# never cross pieces. Bytes from 0x80 on (all Unicode beyond ASCII) count as letters.
PIECES = re.compile(
    rb" ?[a-zA-Z\x80-\xff]+| ?[0-9]+| ?[^ \t\n\r\f\va-zA-Z0-9\x80-\xff]+|[ \t\n\r\f\v]+"
)
# A word is one Han character, because Chinese has no spaces, or a run of characters without Han
# characters, spaces, and ASCII or Chinese punctuation.
WORDS = re.compile(
    r"[\u3400-\u9fff]|[^\s!-/:-@\[-`{-~\u3400-\u9fff\u3000-\u303f\uff01-\uff0f\uff1a-\uff20]+"
)
Pair = tuple[int, int]


class PromptTooLong(ValueError):
    """A text has more tokens than the model can read."""


class Tokenizer:
    """A list of merges in the order in which they were learned. Merge i has id SPECIAL + 256 + i.

    `words` are all words of the training captions. They serve to name the unknown words of a
    prompt. `context_length` is the largest number of tokens of a text, with start and end.
    """

    def __init__(self, merges: list[Pair], words: list[str], context_length: int = 64):
        if not 3 <= context_length <= LONGEST:
            raise ValueError(f"context_length is {context_length}; 3 to {LONGEST:,} would work")
        self.merges = [tuple(pair) for pair in merges]
        self.words = set(words)
        self.context_length = context_length
        self._rank = {pair: i for i, pair in enumerate(self.merges)}
        self._cache: dict[bytes, list[int]] = {}
        self._id_of_byte = {byte: SPECIAL + i for i, byte in enumerate(BYTES)}
        self._bytes_of_id = {i: bytes([byte]) for byte, i in self._id_of_byte.items()}
        for i, (left, right) in enumerate(self.merges):
            merged = self._bytes_of_id[left] + self._bytes_of_id[right]
            if len(merged) > LONGEST:
                raise ValueError(f"merge {i} creates a token of more than {LONGEST:,} bytes")
            self._bytes_of_id[SPECIAL + 256 + i] = merged
        self._longest = max(map(len, self._bytes_of_id.values()))  # most bytes of a token

    @property
    def vocab_size(self) -> int:
        return SPECIAL + 256 + len(self.merges)

    @classmethod
    def train(
        cls, texts: list[str], vocab_size: int = 512, context_length: int = 64, bar: Callable = iter
    ) -> "Tokenizer":
        """Learns merges until there are `vocab_size` ids or no pair occurs twice."""
        texts = as_texts(texts)
        words = sorted({word for text in texts for word in _words(text)})
        tokenizer = cls([], words, context_length)
        counts = Counter(piece for text in texts for piece in PIECES.findall(text.encode()))
        pieces = [([tokenizer._id_of_byte[b] for b in piece], n) for piece, n in counts.items()]
        merges: list[Pair] = []
        for new_id in bar(range(SPECIAL + 256, vocab_size)):  # `bar` may show the progress
            pair_counts: Counter[Pair] = Counter()
            for ids, n in pieces:
                for pair in zip(ids, ids[1:], strict=False):
                    pair_counts[pair] += n
            if not pair_counts or max(pair_counts.values()) < 2:
                break
            best = min(pair_counts, key=lambda pair: (-pair_counts[pair], pair))
            pieces = [(merge(ids, best, new_id), n) for ids, n in pieces]
            merges.append(best)
        return cls(merges, words, context_length)

    def encode(self, text: str) -> list[int]:
        """Text → ids, without start and end. `decode(encode(text)) == text` for every text."""
        return [i for piece in PIECES.findall(text.encode()) for i in self._encode_piece(piece)]

    def decode(self, ids: list[int]) -> str:
        """Ids → text. Special ids are left out. Invalid UTF-8 becomes U+FFFD."""
        return b"".join(self.bytes_of(i) for i in ids).decode(errors="replace")

    def bytes_of(self, token: int) -> bytes:
        """The bytes of a token. A special token has none."""
        return self._bytes_of_id.get(token, b"")

    def __call__(self, texts: str | list[str]) -> Tensor:
        """Texts → (B, T) ids, start … end, padded to the longest text of the batch.

        Raises PromptTooLong if a text has more than `context_length` tokens.
        """
        return _padded([self._whole(text) for text in as_texts(texts)])

    def cut(self, texts: str | list[str]) -> Tensor:
        """Like a call, but shortens a text that is too long. Used for training captions."""
        most = self.context_length - 2
        beyond = 4 * most * self._longest  # later characters cannot change the first tokens
        rows = [self.encode(text[:beyond])[:most] for text in as_texts(texts)]
        return _padded([[START, *row, END] for row in rows])

    def unseen_words(self, text: str) -> list[str]:
        """The words of a text that occur in no training caption, in their order."""
        return [word for word in dict.fromkeys(_words(text)) if word not in self.words]

    def _whole(self, text: str) -> list[int]:
        """Text → ids, start … end. Raises PromptTooLong.

        A text whose number of bytes alone makes it too long is not encoded, because encoding a
        megabyte takes minutes.
        """
        least = 2 + -(-len(text.encode()) // self._longest)
        row = [] if least > self.context_length else [START, *self.encode(text), END]
        if not row or len(row) > self.context_length:
            raise PromptTooLong(
                f"the prompt {text[:40]!r}… has {len(row) or f'at least {least:,}'} tokens, but "
                f"the model reads at most {self.context_length}; shorten it"
            )
        return row

    def _encode_piece(self, piece: bytes) -> list[int]:
        """Applies the earliest learned merge until none applies. Results are cached."""
        if len(self._cache) > CACHED_PIECES:
            self._cache.clear()
        if piece not in self._cache:
            ids = [self._id_of_byte[byte] for byte in piece]
            while len(ids) > 1:
                pairs = zip(ids, ids[1:], strict=False)
                pair = min(pairs, key=lambda p: self._rank.get(p, 1 << 30))
                if pair not in self._rank:
                    break
                ids = merge(ids, pair, SPECIAL + 256 + self._rank[pair])
            self._cache[piece] = ids
        return self._cache[piece]


def _padded(rows: list[list[int]]) -> Tensor:
    """Ids of texts → (B, T), padded to the longest text."""
    tokens = torch.full((len(rows), max(map(len, rows))), PAD)
    for i, row in enumerate(rows):
        tokens[i, : len(row)] = torch.tensor(row)
    return tokens


def as_texts(texts: str | list[str]) -> list[str]:
    """One text → a list of it, not of its letters. Raises ValueError for what is not a text."""
    texts = texts.tolist() if hasattr(texts, "tolist") else texts  # a NumPy array or NumPy's str
    one = isinstance(texts, str | bytes) or not hasattr(texts, "__iter__")
    texts = [texts] if one else list(texts)
    for text in texts:
        if not isinstance(text, str):
            raise ValueError(f"{str(text)[:60]} is {type(text).__name__}, not a text")
    return [str(text) for text in texts]


def clean(prompt: str) -> str:
    """Lower case, single spaces, no final full stop, like the captions of training.

    Raises ValueError for an empty prompt.
    """
    text = prompt.encode("utf-8", "replace").decode()  # a shell can pass half of a character
    cleaned = " ".join(text.lower().split()).rstrip(". ")
    if not cleaned:
        raise ValueError("the prompt is empty; describe a picture, for example 'a red circle'")
    return cleaned


def empty_captions_like(tokens: Tensor) -> Tensor:
    """(B, T): start, end and padding. A network reads this when its caption is dropped."""
    empty = torch.full_like(tokens, PAD)
    empty[:, 0], empty[:, 1] = START, END
    return empty


def merge(ids: list[int], pair: Pair, new_id: int) -> list[int]:
    """Replaces every occurrence of `pair` by `new_id`, from left to right."""
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
