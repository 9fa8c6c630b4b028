"""Exercises 09: guidance and the two routes of the condition."""

from collections.abc import Callable

import torch

from minidalle2.diffusion.guidance import guide
from minidalle2.teaching.checks.compare import CheckFailed, call, compare


def check_guide(guidance: Callable, seed: int = 0) -> None:
    """guidance(conditional, unconditional, scale) → the guided prediction."""
    generator = torch.Generator().manual_seed(seed)
    c, u = torch.randn(2, 2, 3, 4, generator=generator)
    for s in (3.0, 0.5):
        compare(
            f"guide, scale {s:g}", call("guide", guidance, c, u, s), guide(c, u, s),
            {
                "scale 1 should be the condition itself; here 0 is": c + s * (c - u),
                "condition and no condition are exchanged": c + s * (u - c),
                "it begins at zero; begin at the unconditional answer": s * (c - u),
                "the scale mixes in the wrong direction": s * u + (1 - s) * c,
            },
        )  # fmt: skip


def check_modulate(modulate: Callable, seed: int = 0) -> None:
    """modulate(h, scale, shift) → (B, C, H, W), for scale and shift (B, C)."""
    generator = torch.Generator().manual_seed(seed)
    h = torch.randn(2, 3, 4, 4, generator=generator)
    scale, shift = torch.randn(2, 2, 3, generator=generator)
    wide, moved = scale[:, :, None, None], shift[:, :, None, None]
    compare(
        "modulate", call("modulate", modulate, h, scale, shift), h * (1 + wide) + moved,
        {
            "a scale of 0 should leave h as it is; here it wipes it out": h * wide + moved,
            "the shift is missing": h * (1 + wide),
            "the scale is missing": h + moved,
            "shift and scale are exchanged": h * (1 + moved) + wide,
        },
    )  # fmt: skip


def check_context(context: Callable, seed: int = 0) -> None:
    """context(four, text, mask) → (tokens (B, 4+T, D), mask (B, 4+T))."""
    generator = torch.Generator().manual_seed(seed)
    four = torch.randn(2, 4 * 6, generator=generator)  # as a linear layer gives them
    text = torch.randn(2, 3, 6, generator=generator)
    mask = torch.tensor([[True, True, False], [True, True, True]])
    tokens = four.view(2, 4, 6)
    seen, hidden = torch.ones(2, 4, dtype=torch.bool), torch.zeros(2, 4, dtype=torch.bool)
    joined = torch.cat((tokens, text), dim=1)
    compare(
        "context", call("context", context, four, text, mask),
        (joined, torch.cat((seen, mask), dim=1)),
        {
            "the mask does not know of the four new tokens": (joined, mask),
            "the four new tokens are hidden by the mask":
                (joined, torch.cat((hidden, mask), dim=1)),
            "the numbers of the four tokens are interleaved; the first D belong to the first token":
                (torch.cat((four.view(2, 6, 4).mT, text), dim=1), torch.cat((seen, mask), dim=1)),
        },
    )  # fmt: skip


def check_drops(drops: Callable, seed: int = 0) -> None:
    """drops(n, generator) → (drop z_i (n,), drop caption (n,)): 10 % and 50 %, independently."""
    n = 40_000
    answer = drops(n, torch.Generator().manual_seed(seed))
    if not isinstance(answer, tuple) or len(answer) != 2:
        raise CheckFailed("drops: two masks are asked for, that of z_i first")
    image, caption = (torch.as_tensor(mask).float() for mask in answer)
    shares = image.mean().item(), caption.mean().item(), (image * caption).mean().item()
    for share, right, what in ((shares[0], 0.1, "z_i"), (shares[1], 0.5, "the caption")):
        if abs(share - right) > 0.02:
            raise CheckFailed(
                f"drops: {what} is dropped in {share:.0%} of the rows, not {right:.0%}"
            )
    if abs(shares[2] - 0.05) > 0.01:
        raise CheckFailed(
            f"drops: both are dropped in {shares[2]:.1%} of the rows; independent draws give 5 %"
        )
    print("drops: right")
