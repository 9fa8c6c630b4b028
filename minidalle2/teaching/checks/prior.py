"""Exercises 07: the prior's inputs and the choice among its draws."""

from collections.abc import Callable

import torch
import torch.nn.functional as F

from minidalle2.prior import DEVIATION, nearest
from minidalle2.teaching.checks.compare import call, compare
from minidalle2.tokenizer import empty_captions_like


def check_scale_embedding(scale_embedding: Callable, seed: int = 0) -> None:
    """scale_embedding(z) → unit rows stretched so that each entry's deviation is 0.5375."""
    generator = torch.Generator().manual_seed(seed)
    for dimensions in (64, 128, 1024):
        z = F.normalize(torch.randn(5, dimensions, generator=generator), dim=-1)
        compare(
            f"scale_embedding, {dimensions} dimensions",
            call("scale_embedding", scale_embedding, z),
            z * DEVIATION * dimensions**0.5,
            {
                "nothing is scaled; unit arrows drown in noise": z,
                "17.2 is right for 1,024 dimensions only; how does it depend on their number?":
                    z * 17.2,
                "the deviation becomes 1; the paper's is 0.5375": z * dimensions**0.5,
                "each entry is already small; multiplying by 0.5375 makes it smaller":
                    z * DEVIATION,
            },
        )  # fmt: skip


def check_sequence(sequence: Callable, seed: int = 0) -> None:
    """sequence(text, z_t, time, noised, query) → (B, T + 4, D) in the paper's order."""
    generator = torch.Generator().manual_seed(seed)
    text = torch.randn(2, 3, 4, generator=generator)
    z_t, time, noised = torch.randn(3, 2, 4, generator=generator)
    query = torch.randn(4, generator=generator)

    def joined(*four: torch.Tensor) -> torch.Tensor:
        return torch.stack([part.expand(2, 4) for part in four], dim=1)

    tail = joined(z_t, time, noised, query)
    compare(
        "sequence", call("sequence", sequence, text, z_t, time, noised, query),
        torch.cat((text, tail), dim=1),
        {
            "the query is not last; being causal, it would not see what follows it":
                torch.cat((joined(query, z_t, time, noised), text), dim=1),
            "the query stands before the noised z_i, which it has to see":
                torch.cat((text, joined(z_t, time, query, noised)), dim=1),
            "the caption comes first (section 2.2)": torch.cat((tail, text), dim=1),
            "time and text embedding are exchanged; z_t comes before the timestep":
                torch.cat((text, joined(time, z_t, noised, query)), dim=1),
        },
    )  # fmt: skip


def check_drop_text(drop_text: Callable, seed: int = 0) -> None:
    """drop_text(tokens, z_t, null, drop) → (tokens, z_t), each row by its own draw."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.tensor([[1, 9, 8, 2], [1, 7, 2, 0], [1, 5, 6, 2]])
    z_t, null = torch.randn(3, 4, generator=generator), torch.randn(4, generator=generator)
    drop = torch.tensor([False, True, False])
    empty = empty_captions_like(tokens)
    kept = torch.where(drop[:, None], empty, tokens)
    z_kept = torch.where(drop[:, None], null, z_t)
    compare(
        "drop_text", call("drop_text", drop_text, tokens, z_t, null, drop), (kept, z_kept),
        {
            "the caption is dropped, but z_t still tells what it said": (kept, z_t),
            "z_t is dropped, but the tokens still say it all": (tokens, z_kept),
            "z_t becomes zero; there is a learned null for it":
                (kept, z_t * ~drop[:, None]),
            "rows that should keep their text lose it": (empty, null.expand(3, 4)),
            "the kept rows are dropped and the dropped ones kept":
                (torch.where(drop[:, None], tokens, empty), torch.where(drop[:, None], z_t, null)),
        },
    )  # fmt: skip


def check_best_candidate(best_candidate: Callable, seed: int = 0) -> None:
    """best_candidate(candidates, z_t) → (B, E), the candidate nearest to each text."""
    generator = torch.Generator().manual_seed(seed)
    candidates = F.normalize(torch.randn(6, 8, 5, generator=generator), dim=-1)
    z_t = F.normalize(torch.randn(6, 5, generator=generator), dim=-1)
    best, rows = nearest(candidates, z_t)[:, 0], torch.arange(6)
    dots = (candidates * z_t[:, None]).sum(-1)
    compare(
        "best_candidate", call("best_candidate", best_candidate, candidates, z_t),
        candidates[rows, best],
        {
            "the farthest is taken": candidates[rows, dots.argmin(1)],
            "the same candidate is taken for every text": candidates[:, dots.sum(0).argmax()],
            "the first is taken, whatever the text says": candidates[:, 0],
            "the indices are returned; the embeddings are asked for": best,
            "the candidates are averaged; a choice is asked for": candidates.mean(1),
        },
    )  # fmt: skip
