"""Rows of a table of measurements: a share of n, or another number, with its 95 % interval."""

import math

from torch import Tensor


def row(what: str, name: str, split: str, right: float, n: int) -> dict:
    """A share of n with Wilson's interval → {what, name, split, n, accuracy, low, high}."""
    low, high = wilson_interval(right, n)
    return {
        "what": what,
        "name": name,
        "split": split,
        "n": n,
        "accuracy": right / n,
        "low": low,
        "high": high,
    }


def value_row(
    what: str,
    name: str,
    split: str,
    value: float,
    n: int,
    low: float | None = None,
    high: float | None = None,
) -> dict:
    """A number that is not a share → {what, name, split, n, value, low, high}.

    `low` and `high` are None if there is no interval.
    """
    return {
        "what": what,
        "name": name,
        "split": split,
        "n": n,
        "value": value,
        "low": low,
        "high": high,
    }


def mean_row(what: str, name: str, split: str, values: Tensor) -> dict:
    """The mean of values (n,) with its normal interval. A single value has no interval."""
    n, mean = len(values), values.double().mean().item()
    if n < 2:
        return value_row(what, name, split, mean, n)
    half = 1.96 * values.double().std().item() / math.sqrt(n)
    return value_row(what, name, split, mean, n, mean - half, mean + half)


def gap_row(what: str, name: str, first: dict, second: dict) -> dict:
    """The share of `first` minus the share of `second`, with the interval of the difference.

    The interval is Newcombe's for two independent shares (1998, method 10). If both shares are of
    the same prompts, they are correlated, and the interval is slightly too wide.
    """
    a, b = first["accuracy"], second["accuracy"]
    low = a - b - math.hypot(a - first["low"], second["high"] - b)
    high = a - b + math.hypot(first["high"] - a, b - second["low"])
    return value_row(what, name, first["split"], a - b, first["n"], low, high)


def wilson_interval(right: float, n: int) -> tuple[float, float]:
    """The 95 % interval of a share. It stays within [0, 1], also for shares near 0 or 1."""
    z, share = 1.96, right / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)
