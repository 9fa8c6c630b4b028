"""Captions a second of two byte-level BPEs with 512 ids, each trained on the same captions."""

import time
from collections.abc import Callable

import torch

from minidalle2.tokenizer import Tokenizer
from minidalle2.worlds.shapes.world import Shapes

CAPTIONS, VOCABULARY = 5_000, 512


def ours(seconds: float, seed: int) -> dict:
    learned, captions = _captions()
    return _measure(Tokenizer.train(learned, VOCABULARY).encode, captions, seconds)


def tokenizers(seconds: float, seed: int) -> dict:
    from tokenizers import ByteLevelBPETokenizer

    learned, captions = _captions()
    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(learned, vocab_size=VOCABULARY, show_progress=False)
    return _measure(tokenizer.encode, captions, seconds)


MEASURES = {"minidalle2": ours, "tokenizers": tokenizers}


def _captions() -> tuple[list[str], list[str]]:
    parts = [
        Shapes().captioned(CAPTIONS, torch.Generator().manual_seed(k), size=1)[1] for k in (0, 1)
    ]
    return parts[0], parts[1]


def _measure(encode: Callable, captions: list[str], seconds: float) -> dict:
    """One caption at a time, as training has them drawn."""
    done, started = 0, time.perf_counter()
    while done == 0 or time.perf_counter() - started < seconds:
        for caption in captions:
            encode(caption)
        done += len(captions)
    return {"captions/s": done / (time.perf_counter() - started)}
