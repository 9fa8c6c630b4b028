"""Compares a learner's answer with the right one and with the results of typical mistakes."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor


class CheckFailed(AssertionError):
    """The learner's answer is wrong. The message says what is wrong and where to look."""


def compare(name: str, answer: Any, truth: Any, mistakes: Mapping[str, Any] | None = None) -> None:
    """Prints that the answer is right. Raises CheckFailed if it differs from `truth`.

    `mistakes` is {hint: the answer that this mistake gives}. If the learner's answer equals one of
    them, the message is its hint. Numbers are equal if they differ by rounding errors only.
    """
    if answer is None:
        raise CheckFailed(f"{name} returned None. Does it end with `return`?")
    if isinstance(truth, Tensor):
        _same_kind(name, answer, truth, mistakes or {})
    if not _equal(answer, truth):
        for hint, wrong in (mistakes or {}).items():
            if _equal(answer, wrong):
                raise CheckFailed(f"{name}: {hint}")
        raise CheckFailed(f"{name}: Not right yet. {_difference(answer, truth)}")
    print(f"{name}: right")


def call(name: str, function: Callable, *arguments: Any) -> Any:
    """Returns the learner's answer for copies of the arguments.

    Raises CheckFailed if the function changes a tensor among them in place.
    """
    copies = [a.clone() if isinstance(a, Tensor) else a for a in arguments]
    answer = function(*copies)
    for given, now in zip(arguments, copies, strict=True):
        if isinstance(given, Tensor) and not torch.equal(given, now):
            raise CheckFailed(f"{name} changes its input in place. The caller still needs it.")
    return answer


def _same_kind(name: str, answer: Any, truth: Tensor, mistakes: Mapping[str, Any]) -> None:
    """Raises CheckFailed unless the answer is a finite tensor with the shape and kind of `truth`.

    Floating-point types are all of one kind.
    """
    if not isinstance(answer, Tensor):
        raise CheckFailed(f"{name} returned a {type(answer).__name__}. Return a tensor.")
    if answer.shape != truth.shape:
        for hint, wrong in mistakes.items():
            if _equal(answer, wrong):
                raise CheckFailed(f"{name}: {hint}")
        raise CheckFailed(
            f"{name} has the shape {tuple(answer.shape)}. It should be {tuple(truth.shape)}. "
            "Look at the dimensions that are summed, joined or left out."
        )
    if answer.is_floating_point() and not answer.isfinite().all():
        raise CheckFailed(
            f"{name} contains NaN or infinity. Look for a division by zero or a root of zero."
        )
    if answer.dtype != truth.dtype and not (
        answer.is_floating_point() and truth.is_floating_point()
    ):
        raise CheckFailed(f"{name} has the type {answer.dtype}. It should be {truth.dtype}.")


def _equal(answer: Any, truth: Any) -> bool:
    """Whether both have the same shape and, up to rounding errors, the same values."""
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
    """Says in one sentence how far the answer is from the truth."""
    if isinstance(truth, Tensor):
        share = (answer.float() - truth.float()).abs().gt(1e-3).float().mean().item()
        return f"{share:.0%} of the numbers differ from the right ones."
    return f"For one of the inputs, the answer is {answer!r}."
