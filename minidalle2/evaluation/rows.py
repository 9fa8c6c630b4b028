"""What is measured, a row of one table each: a share of n with its 95 % interval."""

import math


def row(what: str, name: str, split: str, right: int, n: int) -> dict:
    """→ {what, name, split, n, accuracy, low, high}."""
    low, high = wilson_interval(right, n)
    return {
        "what": what, "name": name, "split": split, "n": n,
        "accuracy": right / n, "low": low, "high": high,
    }  # fmt: skip


def wilson_interval(right: int, n: int) -> tuple[float, float]:
    """The 95 % interval of a share, which stays inside [0, 1] also near its ends."""
    z, share = 1.96, right / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)
