"""Checks of exercises 13: principal components, typographic attacks, binding, misspelt words."""

from collections.abc import Callable

import torch
import torch.nn.functional as F

from minidalle2.evaluation.swaps import swap_scores
from minidalle2.teaching.checks.compare import CheckFailed, call, compare
from minidalle2.worlds.shapes.evaluation.written_words import edits


def check_first_components(first_components: Callable, seed: int = 0) -> None:
    """first_components(z (N, E), mean (E,), components (E, E), k) → (N, E) of unit length."""
    generator = torch.Generator().manual_seed(seed)
    z = F.normalize(torch.randn(5, 6, generator=generator), dim=-1)
    mean = torch.randn(6, generator=generator) / 3
    components = torch.linalg.qr(torch.randn(6, 6, generator=generator))[0].T
    k = 2 + seed % 2
    first, last = components[:k], components[-k:]
    kept = mean + (z - mean) @ first.T @ first
    without_mean = F.normalize(kept - mean, dim=-1)
    not_centred = F.normalize(mean + z @ first.T @ first, dim=-1)
    no_mean_at_all = F.normalize(z @ first.T @ first, dim=-1)
    last_components = F.normalize(mean + (z - mean) @ last.T @ last, dim=-1)
    mistakes = {
        "The embeddings are shorter than 1. The decoder needs unit length.": kept,
        "The mean is not added back. It holds what all pictures share.": without_mean,
        "The mean is not subtracted before the projection.": not_centred,
        "The mean is neither subtracted nor added back. Components need both.": no_mean_at_all,
        "The last k components are used. They contain the least.": last_components,
        "Coordinates are returned. The decoder needs embeddings (N, E).": (z - mean) @ first.T,
    }
    answer = call("first_components", first_components, z, mean, components, k)
    compare("first_components", answer, F.normalize(kept, dim=-1), mistakes)


def check_flipped(flipped: Callable, seed: int = 0) -> None:
    """flipped(before, after, truth, word) → a share. All inputs are shapes (n,).

    Of the pictures that CLIP named correctly before, it is the share named like the word after.
    """
    generator = torch.Generator().manual_seed(seed)
    n = 80
    truth = torch.randint(8, (n,), generator=generator)
    word = (truth + torch.randint(1, 8, (n,), generator=generator)) % 8
    chance, other = torch.rand(2, n, generator=generator)
    before = torch.where(chance < 0.8, truth, word)
    after = torch.where(other < 0.4, word, torch.where(other < 0.7, truth, (truth + 1) % 8))
    knew, reads = before == truth, after == word
    of_all = (knew & reads).float().mean()
    any_mistake = (knew & (after != truth)).sum() / knew.sum()
    any_change = (before != after).float().mean()
    mistakes = {
        "Pictures that CLIP misread before the sign was there count, too.": reads.float().mean(),
        "The share is that of all pictures. Only those named correctly before count.": of_all,
        "Any mistake counts. A flip must name the shape of the word.": any_mistake,
        "Any change counts. A flip must name the shape of the word.": any_change,
    }
    answer = torch.as_tensor(call("flipped", flipped, before, after, truth, word))
    compare("flipped", answer, (knew & reads).sum() / knew.sum(), mistakes)


def check_all_four(all_four: Callable, seed: int = 0) -> None:
    """all_four(similarity (n, 2, 2)) → the share of pairs in which all four comparisons are won.

    Both pictures must find their own caption, and both captions their own picture.
    """
    generator = torch.Generator().manual_seed(seed)
    similarity = torch.rand(200, 2, 2, generator=generator) + 0.2 * torch.eye(2)
    similarity[:5] = 0.5  # ties, which are not won
    own = similarity.diagonal(dim1=1, dim2=2)
    other_text = similarity.flip(2).diagonal(dim1=1, dim2=2)
    other_image = similarity.flip(1).diagonal(dim1=1, dim2=2)
    rows = (own > other_text).all(1)
    columns = (own > other_image).all(1)
    sums = own.sum(1) > other_text.sum(1)
    with_ties = (own >= other_text).all(1) & (own >= other_image).all(1)
    first_only = (own[:, 0] > similarity[:, 0, 1]) & (own[:, 0] > similarity[:, 1, 0])
    mistakes = {
        "Captions must find their pictures, too, down the columns.": rows.float().mean(),
        "Pictures must find their captions, too, along the rows.": columns.float().mean(),
        "Both own similarities are added up. Each comparison must be won.": sums.float().mean(),
        "A tie counts as won. A constant similarity would be perfect.": with_ties.float().mean(),
        "Only picture 0 and caption 0 are compared. There are two each.": first_only.float().mean(),
    }
    answer = torch.as_tensor(call("all_four", all_four, similarity))
    compare("all_four", answer, torch.tensor(swap_scores(similarity)[2]), mistakes)


def check_letter_error(letter_error: Callable, seed: int = 0) -> None:
    """letter_error(word, written) → the number of edits divided by the number of letters of word.

    An edit inserts, deletes or substitutes one letter.
    """
    cases = [
        [("ring", "king"), ("moon", "mon"), ("star", "stars"), ("red", ""), ("blue", "bule")],
        [("pink", "ink"), ("heart", "hear"), ("moon", "noon"), ("cross", "xcross"), ("ring", "")],
    ][seed % 2]
    for word, written in cases:
        answer = call("letter_error", letter_error, word, written)
        truth = edits(word, written) / len(word)
        if not isinstance(answer, int | float):
            compare("letter_error", answer, truth)  # raises CheckFailed
        if abs(answer - truth) > 1e-4:
            raise CheckFailed(
                f"letter_error: For {word!r}, written {written!r}, it returns {answer:.3g}, not "
                f"{truth:.3g}. {_letter_hint(word, written, answer)}"
            )
    print("letter_error: right")


def _letter_hint(word: str, written: str, answer: float) -> str:
    wrong = sum(a != b for a, b in zip(word, written, strict=False))
    missing = abs(len(word) - len(written))
    if answer == edits(word, written):
        return "This is the number of edits. Divide it by the number of letters of `word`."
    if answer == wrong / len(word):
        return "A letter that is missing or added does not count yet."
    if answer == (wrong + missing) / len(word):
        return "After a missing letter, all later letters count as wrong. They only moved."
    if written and answer == edits(word, written) / len(written):
        return "The edits are divided by the length of `written`, not by that of `word`."
    return "One edit inserts, deletes or substitutes one letter."
