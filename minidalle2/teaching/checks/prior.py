"""Checks of exercises 07: the inputs of the prior and the choice among its candidates."""

from collections.abc import Callable

import torch
import torch.nn.functional as F

from minidalle2.prior import DEVIATION
from minidalle2.teaching.checks.compare import call, compare
from minidalle2.tokenizer import empty_captions_like
from minidalle2.unclip import nearest


def check_scale_embedding(scale_embedding: Callable, seed: int = 0) -> None:
    """scale_embedding(z (B, E)) → (B, E), scaled to a standard deviation of 0.5375 per entry."""
    generator = torch.Generator().manual_seed(seed)
    for dimensions in (64, 128, 1024):
        z = F.normalize(torch.randn(5, dimensions, generator=generator), dim=-1)
        mistakes = {
            "Nothing is scaled. Noise would drown embeddings of length 1.": z,
            "17.2 is right for 1,024 dimensions only. How does it depend on E?": z * 17.2,
            "The standard deviation becomes 1. It should be 0.5375.": z * dimensions**0.5,
            "The entries are multiplied by 0.5375. They must get larger.": z * DEVIATION,
        }
        answer = call("scale_embedding", scale_embedding, z)
        truth = z * DEVIATION * dimensions**0.5
        compare(f"scale_embedding, {dimensions} dimensions", answer, truth, mistakes)


def check_sequence(sequence: Callable, seed: int = 0) -> None:
    """sequence(text, z_t, time, noised, query) → (B, T + 4, D) in the paper's order."""
    generator = torch.Generator().manual_seed(seed)
    text = torch.randn(2, 3, 4, generator=generator)
    z_t, time, noised = torch.randn(3, 2, 4, generator=generator)
    query = torch.randn(4, generator=generator)

    def joined(*four: torch.Tensor) -> torch.Tensor:
        return torch.stack([part.expand(2, 4) for part in four], dim=1)

    four = joined(z_t, time, noised, query)
    query_first = torch.cat((joined(query, z_t, time, noised), text), dim=1)
    query_third = torch.cat((text, joined(z_t, time, query, noised)), dim=1)
    time_first = torch.cat((text, joined(time, z_t, noised, query)), dim=1)
    mistakes = {
        "The query is not last. Attention is causal, so it cannot read what follows.": query_first,
        "The query stands before the noised z_i, which it must read.": query_third,
        "The caption comes first (section 2.2).": torch.cat((four, text), dim=1),
        "z_t and the timestep are exchanged. z_t comes first.": time_first,
    }
    answer = call("sequence", sequence, text, z_t, time, noised, query)
    compare("sequence", answer, torch.cat((text, four), dim=1), mistakes)


def check_drop_text(drop_text: Callable, seed: int = 0) -> None:
    """drop_text(tokens (B, T), z_t (B, E), null (E,), drop (B,)) → (tokens, z_t)."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.tensor([[1, 9, 8, 2], [1, 7, 2, 0], [1, 5, 6, 2]])
    z_t, null = torch.randn(3, 4, generator=generator), torch.randn(4, generator=generator)
    drop = torch.tensor([False, True, False])
    empty, column = empty_captions_like(tokens), drop[:, None]
    new_tokens, new_z_t = torch.where(column, empty, tokens), torch.where(column, null, z_t)
    other_rows = torch.where(column, tokens, empty), torch.where(column, z_t, null)
    mistakes = {
        "The caption is dropped, but z_t still contains its meaning.": (new_tokens, z_t),
        "z_t is dropped, but the tokens still contain the caption.": (tokens, new_z_t),
        "A dropped z_t becomes zero. Use the learned null.": (new_tokens, z_t * ~column),
        "All rows are dropped. Other rows should stay.": (empty, null.expand(3, 4)),
        "The rows are dropped where `drop` is False.": other_rows,
    }
    answer = call("drop_text", drop_text, tokens, z_t, null, drop)
    compare("drop_text", answer, (new_tokens, new_z_t), mistakes)


def check_best_candidate(best_candidate: Callable, seed: int = 0) -> None:
    """best_candidate(candidates (B, n, E), z_t (B, E)) → (B, E), the nearest to each text."""
    generator = torch.Generator().manual_seed(seed)
    candidates = F.normalize(torch.randn(6, 8, 5, generator=generator), dim=-1)
    z_t = F.normalize(torch.randn(6, 5, generator=generator), dim=-1)
    rows = torch.arange(6)
    similarity = (candidates * z_t[:, None]).sum(-1)
    farthest = candidates[rows, similarity.argmin(1)]
    same_for_all = candidates[:, similarity.sum(0).argmax()]
    mistakes = {
        "The farthest candidate is returned.": farthest,
        "The same candidate is selected for every text.": same_for_all,
        "The first candidate is returned for every text.": candidates[:, 0],
        "Indices are returned. The task asks for embeddings.": similarity.argmax(1),
        "The candidates are averaged. Select one of them.": candidates.mean(1),
    }
    answer = call("best_candidate", best_candidate, candidates, z_t)
    compare("best_candidate", answer, nearest(candidates, z_t)[:, 0], mistakes)
