"""What was left out of a user's pictures: how many, which, why, and what would help."""

from dataclasses import dataclass, field

SHOWN = 3  # names that a summary contains for each kind of problem
LONGEST = 60  # characters of a name


@dataclass
class LeftOut:
    """The items with one kind of problem."""

    remedy: str  # for the first of them
    names: list[str] = field(default_factory=list)


@dataclass
class Report:
    """Kind of problem → the items that have it."""

    problems: dict[str, LeftOut] = field(default_factory=dict)

    def note(self, problem: str, name: str, remedy: str) -> None:
        """`problem` follows a number: 'unreadable' or 'with an empty caption'."""
        self.problems.setdefault(problem, LeftOut(remedy)).names.append(name)

    def add(self, other: "Report") -> None:
        for problem, left_out in other.problems.items():
            mine = self.problems.setdefault(problem, LeftOut(left_out.remedy))
            mine.names += left_out.names

    def as_json(self) -> dict:
        return {problem: [found.remedy, found.names] for problem, found in self.problems.items()}

    def __str__(self) -> str:
        """'2 unreadable (a.png, b.png): save them as PNG; 1 with an empty caption (c.png): …'."""
        parts = []
        for problem, found in self.problems.items():
            more = ", …" if len(found.names) > SHOWN else ""
            first = ", ".join(map(shown, found.names[:SHOWN]))
            parts.append(f"{len(found.names)} {problem} ({first}{more}): {found.remedy}")
        return "; ".join(parts)


def from_json(problems: dict) -> Report:
    """The inverse of `Report.as_json`."""
    return Report({problem: LeftOut(*found) for problem, found in problems.items()})


def shown(name: str) -> str:
    """A name that can be printed: at most LONGEST characters and no control characters."""
    text = "".join(c if c.isprintable() else "?" for c in name[:LONGEST])
    return text + "…" * (len(name) > LONGEST)
