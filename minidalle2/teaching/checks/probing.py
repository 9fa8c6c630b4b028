"""Exercises 13: the first components, who is fooled, who wears which colour, and misspelt words."""

from collections.abc import Callable

import torch
import torch.nn.functional as F

from minidalle2.evaluation.shapes.written_words import edits
from minidalle2.evaluation.swaps import swap_scores
from minidalle2.teaching.checks.compare import CheckFailed, call, compare


def check_first_components(first_components: Callable, seed: int = 0) -> None:
    """first_components(z, mean, components, k) → (N, E) unit rows."""
    generator = torch.Generator().manual_seed(seed)
    z = F.normalize(torch.randn(5, 6, generator=generator), dim=-1)
    mean = torch.randn(6, generator=generator) / 3
    components = torch.linalg.qr(torch.randn(6, 6, generator=generator))[0].T
    k = 2 + seed % 2
    first, last = components[:k], components[-k:]
    kept = mean + (z - mean) @ first.T @ first
    compare(
        "first_components",
        call("first_components", first_components, z, mean, components, k),
        F.normalize(kept, dim=-1),
        {
            "the arrows are shorter than 1; the decoder has seen none such": kept,
            "the mean is not put back; what all pictures share is lost":
                F.normalize(kept - mean, dim=-1),
            "the mean is not taken off before the projection":
                F.normalize(mean + z @ first.T @ first, dim=-1),
            "the mean is left out on both ways; components are of centred rows":
                F.normalize(z @ first.T @ first, dim=-1),
            "these are the last k, along which the least is told":
                F.normalize(mean + (z - mean) @ last.T @ last, dim=-1),
            "these are coordinates; the decoder wants arrows of E numbers again":
                (z - mean) @ first.T,
        },
    )  # fmt: skip


def check_flipped(flipped: Callable, seed: int = 0) -> None:
    """flipped(before, after, truth, word) → the share of those named rightly before that bear the
    word's name after."""
    generator = torch.Generator().manual_seed(seed)
    n = 80
    truth = torch.randint(8, (n,), generator=generator)
    word = (truth + torch.randint(1, 8, (n,), generator=generator)) % 8
    chance, other = torch.rand(2, n, generator=generator)
    before = torch.where(chance < 0.8, truth, word)
    after = torch.where(other < 0.4, word, torch.where(other < 0.7, truth, (truth + 1) % 8))
    knew, reads = before == truth, after == word
    compare(
        "flipped", torch.as_tensor(call("flipped", flipped, before, after, truth, word)),
        (knew & reads).sum() / knew.sum(),
        {
            "what CLIP misread before the sign was there counts, too": reads.float().mean(),
            "the share is of all pictures; of those named rightly before is asked for":
                (knew & reads).float().mean(),
            "any mistake counts; a flip names the word's shape":
                (knew & (after != truth)).sum() / knew.sum(),
            "any change of mind counts; a flip names the word's shape":
                (before != after).float().mean(),
        },
    )  # fmt: skip


def check_all_four(all_four: Callable, seed: int = 0) -> None:
    """all_four(similarity) → the share of pairs whose two pictures and two captions all find
    their own."""
    generator = torch.Generator().manual_seed(seed)
    similarity = torch.rand(200, 2, 2, generator=generator) + 0.2 * torch.eye(2)
    similarity[:5] = 0.5  # ties: nobody has found anything
    own = similarity.diagonal(dim1=1, dim2=2)
    to_text = (own > similarity.flip(2).diagonal(dim1=1, dim2=2)).all(1)
    to_image = (own > similarity.flip(1).diagonal(dim1=1, dim2=2)).all(1)
    crossed = similarity.flip(2).diagonal(dim1=1, dim2=2).sum(1)
    compare(
        "all_four", torch.as_tensor(call("all_four", all_four, similarity)),
        torch.tensor(swap_scores(similarity)[2]),
        {
            "captions must find their pictures, too, down the columns": to_text.float().mean(),
            "pictures must find their captions, too, along the rows": to_image.float().mean(),
            "the two own similarities are added up; each question has to be won":
                (own.sum(1) > crossed).float().mean(),
            "a tie counts as won, so a model that says the same of everything would be perfect":
                ((own >= similarity.flip(2).diagonal(dim1=1, dim2=2)).all(1)
                 & (own >= similarity.flip(1).diagonal(dim1=1, dim2=2)).all(1)).float().mean(),
            "the first pair of each is asked alone; there are two pictures and two captions":
                ((own[:, 0] > similarity[:, 0, 1]) & (own[:, 0] > similarity[:, 1, 0]))
                .float().mean(),
        },
    )  # fmt: skip


def check_letter_error(letter_error: Callable, seed: int = 0) -> None:
    """letter_error(word, written) → edits a letter of the word."""
    cases = [
        [("ring", "king"), ("moon", "mon"), ("star", "stars"), ("red", ""), ("blue", "bule")],
        [("pink", "ink"), ("heart", "hear"), ("moon", "noon"), ("cross", "xcross"), ("ring", "")],
    ][seed % 2]
    for word, written in cases:
        answer = call("letter_error", letter_error, word, written)
        truth = edits(word, written) / len(word)
        if not isinstance(answer, int | float):
            compare("letter_error", answer, truth)  # says what is wrong with its kind
        if abs(answer - truth) > 1e-4:
            raise CheckFailed(
                f"letter_error: {answer:.3g} for {word!r} written {written!r}, which should be "
                f"{truth:.3g}; {_letter_hint(word, written, answer)}"
            )
    print("letter_error: right")


def _letter_hint(word: str, written: str, answer: float) -> str:
    wrong = sum(a != b for a, b in zip(word, written, strict=False))
    missing = abs(len(word) - len(written))
    if answer == edits(word, written):
        return "edits are counted; over the letters of the word is asked for"
    if answer == wrong / len(word):
        return "a letter too few or too many is no error so far"
    if answer == (wrong + missing) / len(word):
        return "after a missing letter all later ones count as wrong, though they only moved"
    if written and answer == edits(word, written) / len(written):
        return "the length is that of what was written"
    return "one edit inserts, deletes or substitutes one letter"
