"""Progress bars that a test can look at."""

import io

from tqdm import tqdm


class Terminal(io.StringIO):
    """A stream that looks like a terminal."""

    def isatty(self) -> bool:
        return True


def recorder() -> type[tqdm]:
    """A class of bars as on a terminal. `ended` has (activity, done, total) of each ended bar.

    Activities of unknown length, which have no share, are left out.
    """

    class Recorder(tqdm):
        ended: list[tuple[str, int, int]] = []
        moves: dict[str, int] = {}  # activity → how often its bar moved

        def __init__(self, *args, **options):
            options |= {"disable": False, "file": io.StringIO()}
            super().__init__(*args, **options)
            self.activity = options["desc"]
            self.has_share = "percentage" in options["bar_format"]

        def update(self, n=1):
            self.moves[self.activity] = self.moves.get(self.activity, 0) + 1
            return super().update(n)

        def close(self):
            if not self.disable and self.has_share:
                self.ended.append((self.activity, self.n, self.total))
            super().close()

        @classmethod
        def full(cls) -> list[str]:
            """The activities in their order. Each bar must be exactly full."""
            for activity, done, total in cls.ended:
                assert done == total > 0, (activity, done, total)
            return [activity for activity, *_ in cls.ended]

    return Recorder
