"""What all checks share: a learner's answer against the truth and against typical mistakes."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor


class CheckFailed(AssertionError):
    """The answer is not right yet; the message says where to look."""


def compare(name: str, answer: Any, truth: Any, mistakes: Mapping[str, Any] | None = None) -> None:
    """Raise CheckFailed where the answer differs; a hint of `mistakes` {hint: what one gets}
    is given where the answer is exactly that mistake."""
    if answer is None:
        raise CheckFailed(f"{name} returned nothing; does it end with `return`?")
    if isinstance(truth, Tensor):
        _same_kind(name, answer, truth, mistakes or {})
    if not _equal(answer, truth):
        for hint, wrong in (mistakes or {}).items():
            if _equal(answer, wrong):
                raise CheckFailed(f"{name}: {hint}")
        raise CheckFailed(f"{name}: not right yet; {_difference(answer, truth)}")
    print(f"{name}: right")


def call(name: str, function: Callable, *arguments: Any) -> Any:
    """The learner's answer; inputs are copied, and changing them is a mistake of its own."""
    copies = [a.clone() if isinstance(a, Tensor) else a for a in arguments]
    answer = function(*copies)
    for given, now in zip(arguments, copies, strict=True):
        if isinstance(given, Tensor) and not torch.equal(given, now):
            raise CheckFailed(
                f"{name} changes its input in place; the caller still needs it as it was"
            )
    return answer


def _same_kind(name: str, answer: Any, truth: Tensor, mistakes: Mapping[str, Any]) -> None:
    if not isinstance(answer, Tensor):
        raise CheckFailed(f"{name} returned a {type(answer).__name__}; a tensor is asked for")
    if answer.shape != truth.shape:
        for hint, wrong in mistakes.items():
            if _equal(answer, wrong):
                raise CheckFailed(f"{name}: {hint}")
        raise CheckFailed(
            f"{name} has the shape {tuple(answer.shape)}, which should be {tuple(truth.shape)}; "
            "look at what is summed, joined or left out"
        )
    if answer.is_floating_point() and not answer.isfinite().all():
        raise CheckFailed(f"{name} holds NaN or infinity; look for a division or a root of zero")
    if answer.dtype != truth.dtype and not (
        answer.is_floating_point() and truth.is_floating_point()
    ):
        raise CheckFailed(f"{name} is of {answer.dtype}; {truth.dtype} is asked for")


def _equal(answer: Any, truth: Any) -> bool:
    if isinstance(truth, Tensor):
        return (
            isinstance(answer, Tensor)
            and answer.shape == truth.shape
            and torch.allclose(answer.float(), truth.float(), atol=1e-4, rtol=1e-3)
        )
    if isinstance(truth, float):
        return isinstance(answer, int | float) and abs(answer - truth) <= 1e-4 + 1e-3 * abs(truth)
    if isinstance(truth, tuple):
        same = isinstance(answer, tuple | list) and len(answer) == len(truth)
        return same and all(_equal(a, t) for a, t in zip(answer, truth, strict=True))
    return type(answer) is type(truth) and answer == truth


def _difference(answer: Any, truth: Any) -> str:
    if isinstance(truth, Tensor):
        share = (answer.float() - truth.float()).abs().gt(1e-3).float().mean().item()
        return f"{share:.0%} of its numbers differ from the right ones"
    return f"for one input it gives {answer!r}"
