"""What the commands need of a world beyond training: its evaluation, export and licences."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from minidalle2.training.world import JudgeKind, World


@dataclass(frozen=True)
class Report:
    """The measurements of a world's weights, as rows of one table."""

    what: tuple[str, ...]  # what `evaluate` measures by default
    evaluate: Callable[..., Iterator[dict]]  # (folder, device, what, n, seed, pictures) → rows
    # (dalle2, judge, kind of prompts, n, seed, sampling) → how many pictures follow their prompt
    prompt_row: Callable[..., dict] | None = None
    probes: tuple[str, ...] = ()  # experiments that are measured on request only
    by_name: tuple[str, ...] = ()  # measured only if they are named, not by `all` or `probes`
    sheets: tuple[str, ...] = ()  # names of all sheets of pictures that `evaluate` can write


@dataclass(frozen=True)
class Exporter:
    """How pictures of a world are written as a dataset."""

    check_split: Callable[[str], None]  # raises ValueError for an unknown split
    export: Callable[..., Iterator[int]]  # (split, n, size, seed, folder) → counts written so far


@dataclass(frozen=True)
class Definition:
    """A world with a name, and its judge, evaluation and export."""

    open: Callable[[], World]
    judge: JudgeKind
    report: Report
    exporter: Exporter
    licences: Callable[[], Path] | None = None  # → a folder that must stay with the weights
    # prompts → lines about the things in them that the world does not have
    advice: Callable[[list[str]], list[str]] | None = None
