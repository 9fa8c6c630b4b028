"""Checks of exercises 09: guidance and the two ways in which z_i enters the decoder."""

from collections.abc import Callable

import torch

from minidalle2.diffusion.guidance import guide
from minidalle2.teaching.checks.compare import CheckFailed, call, compare


def check_guide(guidance: Callable, seed: int = 0) -> None:
    """guidance(conditional, unconditional, scale) → the guided prediction."""
    generator = torch.Generator().manual_seed(seed)
    c, u = torch.randn(2, 2, 3, 4, generator=generator)
    for s in (3.0, 0.5):
        mistakes = {
            "Scale 1 should be the conditional prediction. Here scale 0 is.": c + s * (c - u),
            "The conditional and the unconditional prediction are exchanged.": c + s * (u - c),
            "It starts at zero. Start at the unconditional prediction.": s * (c - u),
        }
        answer = call("guide", guidance, c, u, s)
        compare(f"guide, scale {s:g}", answer, guide(c, u, s), mistakes)


def check_modulate(modulate: Callable, seed: int = 0) -> None:
    """modulate(h (B, C, H, W), scale (B, C), shift (B, C)) → (B, C, H, W)."""
    generator = torch.Generator().manual_seed(seed)
    h = torch.randn(2, 3, 4, 4, generator=generator)
    scale, shift = torch.randn(2, 2, 3, generator=generator)
    wide, moved = scale[:, :, None, None], shift[:, :, None, None]
    mistakes = {
        "A scale of 0 removes h. It should leave h as it is.": h * wide + moved,
        "The shift is missing.": h * (1 + wide),
        "The scale is missing.": h + moved,
        "Shift and scale are exchanged.": h * (1 + moved) + wide,
    }
    answer = call("modulate", modulate, h, scale, shift)
    compare("modulate", answer, h * (1 + wide) + moved, mistakes)


def check_context(context: Callable, seed: int = 0) -> None:
    """context(four (B, 4·D), text (B, T, D), mask (B, T)) → (B, 4 + T, D) and its mask."""
    generator = torch.Generator().manual_seed(seed)
    four = torch.randn(2, 4 * 6, generator=generator)  # as a linear layer returns them
    text = torch.randn(2, 3, 6, generator=generator)
    mask = torch.tensor([[True, True, False], [True, True, True]])
    seen, hidden = torch.ones(2, 4, dtype=torch.bool), torch.zeros(2, 4, dtype=torch.bool)
    joined = torch.cat((four.view(2, 4, 6), text), dim=1)
    seen_mask, hidden_mask = torch.cat((seen, mask), dim=1), torch.cat((hidden, mask), dim=1)
    interleaved = torch.cat((four.view(2, 6, 4).mT, text), dim=1), seen_mask
    mistakes = {
        "The mask lacks the four new tokens.": (joined, mask),
        "The mask hides the four new tokens.": (joined, hidden_mask),
        "The tokens are interleaved. The first D numbers are the first token.": interleaved,
    }
    answer = call("context", context, four, text, mask)
    compare("context", answer, (joined, seen_mask), mistakes)


def check_drops(drops: Callable, seed: int = 0) -> None:
    """drops(n, generator) → (n,) bool where z_i is dropped, and (n,) bool for the caption.

    The probabilities are 10 % and 50 %, and the draws are independent.
    """
    n = 40_000
    answer = drops(n, torch.Generator().manual_seed(seed))
    if not isinstance(answer, tuple) or len(answer) != 2:
        raise CheckFailed("drops: Return a tuple of two masks. The first is that of z_i.")
    image, caption = (torch.as_tensor(mask).float() for mask in answer)
    shares = image.mean().item(), caption.mean().item(), (image * caption).mean().item()
    for share, right, what in ((shares[0], 0.1, "z_i"), (shares[1], 0.5, "The caption")):
        if abs(share - right) > 0.02:
            raise CheckFailed(
                f"drops: {what} is dropped in {share:.0%} of the rows, not {right:.0%}."
            )
    if abs(shares[2] - 0.05) > 0.01:
        raise CheckFailed(
            f"drops: Both are dropped in {shares[2]:.1%} of the rows. Independent draws give 5 %."
        )
    print("drops: right")
