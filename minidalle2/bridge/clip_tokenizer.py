"""The tokenizer of the published CLIPs (Radford et al. 2021): byte-pair encoding in lower case.

Its 48,894 merges come with every package that contains a CLIP, as bpe_simple_vocab_16e6.txt or
merges.txt. It differs from tokenizer.py: each word ends with an end-of-word mark, the number of
spaces is lost, and the ids are those that the published weights were trained with.
Left out: the names of the start and end tokens inside a text, which some packages read as tokens.
"""

import gzip
import importlib.util
import re
import unicodedata
import zlib
from pathlib import Path

import torch
from torch import Tensor

from minidalle2.bridge.clean_text import clean, ftfy_fix_text
from minidalle2.storage.checkpoints import CheckpointError
from minidalle2.tokenizer import BYTES, PromptTooLong, as_texts, merge

# 0 is also the id of "!" inside a word. This does no harm, because tokens after the end of a text
# are never read.
PAD = 0
END_OF_WORD = "</w>"
MERGES = ("merges.txt", "bpe_simple_vocab_16e6.txt", "bpe_simple_vocab_16e6.txt.gz")
PACKAGES = ("open_clip", "dalle2_pytorch", "clip")  # packages that contain the merges
# Merges are written as in GPT-2: bytes that are not printable characters become letters from Ā on.
_LETTERS = [chr(b) if i < 188 else chr(256 + i - 188) for i, b in enumerate(BYTES)]
_LETTER_OF_BYTE = dict(zip(BYTES, _LETTERS, strict=True))
_CONTRACTION = re.compile("'(?:s|t|re|ve|m|ll|d)", re.IGNORECASE)
_SAME_KIND = re.compile("L+|N|o+| +")


class CLIPTokenizer:
    """CLIP's tokenizer with the interface that `generate` needs.

    The start and end tokens have the two largest ids. Raises PeerMissing if ftfy is not installed.
    """

    def __init__(self, merges: list[tuple[str, str]], context_length: int = 77):
        words = (
            _LETTERS + [letter + END_OF_WORD for letter in _LETTERS] + list(map("".join, merges))
        )
        self.context_length = context_length  # most tokens of a text, including start and end
        self.vocab_size = len(words) + 2
        self.start, self.end = len(words), len(words) + 1
        self._words = words
        self._id = {word: i for i, word in enumerate(words)}
        self._rank = {pair: i for i, pair in enumerate(merges)}
        self._fix_text = ftfy_fix_text()

    @classmethod
    def load(cls, path: Path, vocab_size: int, context_length: int) -> "CLIPTokenizer":
        """Reads merges from a file with one merge per line, and perhaps a heading.

        Takes as many merges as `vocab_size` needs. Raises CheckpointError if the file can't be read
        or has too few merges, or if its merges are not those of a CLIP.
        """
        opened = gzip.open if path.suffix == ".gz" else open
        try:
            with opened(path, "rt", encoding="utf-8") as file:
                lines = file.read().split("\n")
        except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
            raise CheckpointError(
                f"{path} can't be read as the merges of a tokenizer ({error}); download it again"
            ) from error
        lines = lines[1:] if "version" in lines[0] else lines
        needed = vocab_size - 2 * len(BYTES) - 2
        merges = [tuple(line.split()) for line in lines[: max(needed, 0)] if line]
        if len(merges) != needed or any(len(pair) != 2 for pair in merges):
            raise CheckpointError(
                f"{path} has {len(merges)} merges, but CLIP's vocabulary of {vocab_size} needs "
                f"{needed}; use the file that belongs to this CLIP"
            )
        if not any(pair[1].endswith(END_OF_WORD) for pair in merges):
            raise CheckpointError(
                f"{path} has no merge with CLIP's end of word {END_OF_WORD!r}, so it belongs to "
                "another tokenizer, such as that of GPT-2; use bpe_simple_vocab_16e6.txt.gz of "
                "OpenAI's CLIP"
            )
        words = {*_LETTERS, *(letter + END_OF_WORD for letter in _LETTERS)}
        for pair in merges:
            if not words.issuperset(pair):
                raise CheckpointError(
                    f"{path} merges {' '.join(pair)!r} before it makes both parts, so lines are "
                    "missing or in another order; use the file that belongs to this CLIP"
                )
            words.add("".join(pair))
        return cls(merges, context_length)

    def encode(self, text: str) -> list[int]:
        """Text → ids, without start and end."""
        text = clean(text, self._fix_text)
        return [i for piece in pieces(text) for i in self._encode(piece)]

    def decode(self, ids: list[int]) -> str:
        """Ids → text, with one space between words."""
        byte_of = {letter: byte for byte, letter in _LETTER_OF_BYTE.items()}
        letters = "".join(self._words[i] for i in ids if i < self.start)
        words = letters.split(END_OF_WORD)
        return " ".join(
            bytes(byte_of[c] for c in word).decode(errors="replace") for word in words
        ).strip()

    def __call__(self, texts: str | list[str]) -> Tensor:
        """Texts → (B, context_length) ids. Raises PromptTooLong if a text has too many tokens."""
        texts = as_texts(texts)
        rows = [self.encode(text) for text in texts]
        for text, row in zip(texts, rows, strict=True):
            if len(row) > self.context_length - 2:
                raise PromptTooLong(
                    f"the prompt {text[:40]!r}… has {len(row) + 2} tokens, but CLIP reads at most "
                    f"{self.context_length}; shorten it"
                )
        return self._padded(rows)

    def cut(self, texts: str | list[str]) -> Tensor:
        """Texts → (B, context_length) ids. The end of a text with too many tokens is cut off."""
        return self._padded(
            [self.encode(text)[: self.context_length - 2] for text in as_texts(texts)]
        )

    def unseen_words(self, text: str) -> list[str]:
        """Returns no words, because the training captions of published weights are not known."""
        return []

    def _padded(self, rows: list[list[int]]) -> Tensor:
        tokens = torch.full((len(rows), self.context_length), PAD)
        for i, row in enumerate(rows):
            tokens[i, : len(row) + 2] = torch.tensor([self.start, *row, self.end])
        return tokens

    def _encode(self, piece: str) -> list[int]:
        """Bytes of a piece → ids, by repeatedly applying the merge that was learned first."""
        word = [_LETTER_OF_BYTE[byte] for byte in piece.encode()]
        word[-1] += END_OF_WORD
        while len(word) > 1:
            pair = min(zip(word, word[1:], strict=False), key=lambda p: self._rank.get(p, 1 << 30))
            if pair not in self._rank:
                break
            word = merge(word, pair, "".join(pair))
        return [self._id[part] for part in word]


def pieces(text: str) -> list[str]:
    """Splits a text into contractions ('s), runs of letters, single digits and runs of other signs.

    Spaces are dropped.
    """
    kinds = "".join(map(_kind, text))
    found, i = [], 0
    while i < len(text):
        match = _CONTRACTION.match(text, i) or _SAME_KIND.match(kinds, i)
        if kinds[i] != " ":
            found.append(text[i : match.end()])
        i = match.end()
    return found


def _kind(character: str) -> str:
    category = unicodedata.category(character)[0]
    return category if category in "LN" else " " if character.isspace() else "o"


def find_merges(folder: Path) -> Path:
    """The file of merges in `folder`, or else the file of an installed package.

    Raises CheckpointError if there is neither.
    """
    folders = [folder]
    for package in PACKAGES:
        spec = importlib.util.find_spec(package)  # does not import the package
        if spec is not None and spec.origin:
            folders += [Path(spec.origin).parent, Path(spec.origin).parent / "data"]
    for path in (folder / name for folder in folders for name in MERGES):
        if path.is_file():
            return path
    raise CheckpointError(
        f"there are no merges of CLIP's tokenizer in {folder}; copy bpe_simple_vocab_16e6.txt.gz "
        "from OpenAI's CLIP to this folder, or install open_clip_torch, which contains them"
    )
