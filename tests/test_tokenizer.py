"""Byte-level BPE: equal to a reference library's, and no text is lost."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, decoders, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as Reference

from minidalle2.storage.checkpoints import load_tokenizer, save_tokenizer
from minidalle2.tokenizer import (
    BYTES,
    END,
    PAD,
    SPECIAL,
    START,
    PromptTooLong,
    Tokenizer,
    empty_captions_like,
    merge,
)
from minidalle2.worlds.shapes.world import Shapes

TEXTS = [
    "",
    " ",
    "a",
    "a red circle",
    "  two  spaces ",
    "tabs\tand\nlines\r\n",
    "12 circles, 3 stars!",
    "ein großes grünes Dreieck",
    "красный круг",
    "赤い円",
    "دائرة حمراء",
    "🟥🔵👩‍👩‍👧",
    "a\u00a0b",
    "\x00\x7f",
    "aaaaaaaaa",
    "a sign that says 'star'",
]


@pytest.fixture(scope="module")
def captions() -> list[str]:
    return Shapes().captioned(3000, torch.Generator().manual_seed(0), size=1)[1]


@pytest.fixture(scope="module")
def trained(captions) -> Tokenizer:
    return Tokenizer.train(captions)


@pytest.fixture(scope="module")
def reference(captions) -> Reference:
    return train_reference(captions, 512)


def train_reference(texts: list[str], vocab_size: int) -> Reference:
    """Hugging Face's BPE with our pieces, written for characters where ours is for bytes."""
    letters = r"a-zA-Z\x{80}-\x{10FFFF}"
    pieces = rf" ?[{letters}]+| ?[0-9]+| ?[^ \t\n\r\f\v{letters}0-9]+|[ \t\n\r\f\v]+"
    tokenizer = Reference(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pieces), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        show_progress=False,
        special_tokens=["<pad>", "<start>", "<end>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


# Against the reference


def test_merges_equal_the_reference(trained, reference):
    """The same ids stand for the same bytes, hence the same merges in the same order."""
    vocabulary = {i: token for token, i in reference.get_vocab().items()}
    unprintable = 256  # GPT-2 writes the bytes that cannot be printed as the characters from 256 on
    characters = [chr(b) for b in BYTES[:188]] + [chr(unprintable + i) for i in range(68)]
    byte_of = dict(zip(characters, BYTES, strict=True))
    theirs = {
        i: bytes(byte_of[c] for c in token) for i, token in vocabulary.items() if i >= SPECIAL
    }
    assert trained.vocab_size == reference.get_vocab_size() > 400
    assert {i: trained._bytes_of_id[i] for i in theirs} == theirs


@settings(max_examples=200, deadline=None)
@given(text=st.text())
def test_any_text_is_encoded_as_by_the_reference(trained, reference, text):
    assert trained.encode(text) == reference.encode(text).ids


@pytest.mark.parametrize("text", TEXTS)
def test_texts_are_encoded_as_by_the_reference(trained, reference, text):
    assert trained.encode(text) == reference.encode(text).ids


def test_captions_are_encoded_as_by_the_reference(trained, reference, captions):
    for caption in captions[:500]:
        assert trained.encode(caption) == reference.encode(caption).ids


def test_training_on_many_scripts_equals_the_reference():
    """Merges within and across the bytes of a character; ties go to the smaller ids."""
    texts = [text for text in TEXTS if "aaa" not in text] * 2
    ours, theirs = Tokenizer.train(texts, 400), train_reference(texts, 400)
    for text in texts:
        assert ours.encode(text) == theirs.encode(text).ids


# By itself


@settings(max_examples=300, deadline=None)
@given(text=st.text())
def test_round_trip(trained, text):
    """No unknown token: every Unicode text comes back."""
    assert trained.decode(trained.encode(text)) == text


@pytest.mark.parametrize("text", TEXTS)
def test_round_trip_without_merges(text):
    """Untrained, a text is its bytes."""
    tokenizer = Tokenizer([], [])
    ids = tokenizer.encode(text)
    assert len(ids) == len(text.encode()) and tokenizer.decode(ids) == text


def test_all_bytes_have_an_id():
    assert sorted(BYTES) == list(range(256))


def test_captions_become_short(trained, captions):
    """Merging pays: about a token a word, and no caption reaches the context's end."""
    tokens = trained(captions)
    words = sum(len(caption.split()) for caption in captions)
    assert (tokens >= SPECIAL).sum().item() / words < 1.3
    assert tokens.shape[1] <= trained.context_length


def test_batch(trained):
    """Texts → (B, T): start, ids, end, padding; 0 is only ever padding (e-23)."""
    tokens = trained(["a red circle", "a", "!"])
    assert tokens.shape[0] == 3 and tokens.dtype == torch.long
    for row, text in zip(tokens.tolist(), ("a red circle", "a", "!"), strict=True):
        ids = [START, *trained.encode(text), END]
        assert row == ids + [PAD] * (len(row) - len(ids))
        assert PAD not in ids


def test_empty_caption(trained):
    """What a dropped caption becomes is exactly the empty text."""
    tokens = trained(["a red circle", ""])
    copy = tokens.clone()
    assert torch.equal(empty_captions_like(tokens), tokens[1:].expand(2, -1))
    assert torch.equal(tokens, copy)


@pytest.mark.parametrize(
    "ids, merged", [([1, 2, 1, 2], [9, 9]), ([1, 1, 2], [1, 9]), ([2, 1], [2, 1])]
)
def test_merge(ids, merged):
    assert merge(ids, (1, 2), 9) == merged


def test_merge_of_overlaps_goes_left_to_right():
    assert merge([1, 1, 1], (1, 1), 9) == [9, 1]


def test_too_long(trained):
    """One sentence: which prompt, how long it is and how long it may be."""
    with pytest.raises(PromptTooLong, match="tokens, but the model reads at most 64; shorten it"):
        trained(["a red circle", "星" * 100])


def test_unseen_words(trained):
    """Named once each, in their order."""
    assert trained.unseen_words("a red Dodecahedron and a dodecahedron, a Zebra") == [
        "dodecahedron",
        "zebra",
    ]
    assert trained.unseen_words("A RED circle.") == []


def test_each_han_character_is_a_word():
    tokenizer = Tokenizer.train(["noto风格的红心，蓝色背景", "a red heart"])
    assert tokenizer.words == set("风格的红心蓝色背景") | {"noto", "a", "red", "heart"}
    assert tokenizer.unseen_words("红苹果，noto风格（蓝）") == ["苹", "果"]


@settings(max_examples=20, deadline=None)
@given(text=st.text())
def test_save_and_load(trained, tmp_path_factory, text):
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    save_tokenizer(trained, path)
    loaded = load_tokenizer(path)
    assert loaded.merges == trained.merges and loaded.words == trained.words
    assert loaded.context_length == trained.context_length
    assert loaded.encode(text) == trained.encode(text)


def test_cut_keeps_the_beginning_of_what_is_too_long(trained):
    short, long = "a red circle", "a red circle " * 40
    assert torch.equal(trained.cut([short]), trained([short]))
    (row,) = trained.cut([long]).tolist()
    assert len(row) == trained.context_length
    assert row[0] == START and row[-1] == END and PAD not in row
    assert long.startswith(trained.decode(row))
    rows = trained.cut([long, short])
    assert torch.equal(rows[1, : len(trained([short])[0])], trained([short])[0])
    assert (rows[1, len(trained([short])[0]) :] == PAD).all()
