"""Exercises 11: the chain and its measure."""

from collections.abc import Callable

import torch
import torch.nn.functional as F

from minidalle2.evaluation.rows import wilson_interval
from minidalle2.teaching.checks.compare import CheckFailed, call, compare


class Recorder:
    """Stands in for the five stages, and writes down what each is given."""

    def __init__(self, seed: int):
        generator = torch.Generator().manual_seed(seed)
        self.made = {
            "tokens": torch.randint(3, 99, (1, 5), generator=generator),
            "z_t": torch.randn(1, 8, generator=generator),
            "z_i": torch.randn(1, 8, generator=generator),
            "image32": torch.randn(1, 3, 32, 32, generator=generator),
            "image64": torch.randn(1, 3, 64, 64, generator=generator),
            "image128": torch.randn(1, 3, 128, 128, generator=generator),
        }

    def stage(self, name: str, *wants: str) -> Callable:
        """A stage that wants those inputs and makes `name`."""

        def run(*given: torch.Tensor) -> torch.Tensor:
            if len(given) != len(wants):
                raise CheckFailed(f"what makes {name} takes {' and '.join(wants)}")
            for want, value in zip(wants, given, strict=True):
                self._expect(name, want, value)
            return self.made[name]

        return run

    def _expect(self, name: str, want: str, value: object) -> None:
        if want == "prompt" and isinstance(value, str):
            return
        for other, known in self.made.items():
            if value is known and other != want:
                raise CheckFailed(f"what makes {name} was given {other}; it takes {want}")
        if value is not self.made.get(want):
            raise CheckFailed(f"what makes {name} was not given {want}")


def check_chain(chain: Callable, seed: int = 0) -> None:
    """chain(prompt, tokenize, encode_text, prior, decode, to64, to128) → (1, 3, 128, 128)."""
    recorder = Recorder(seed)
    answer = chain(
        "a red circle",
        recorder.stage("tokens", "prompt"),
        recorder.stage("z_t", "tokens"),
        recorder.stage("z_i", "z_t", "tokens"),
        recorder.stage("image32", "z_i", "tokens"),
        recorder.stage("image64", "image32"),
        recorder.stage("image128", "image64"),
    )
    for name, value in recorder.made.items():
        if answer is value and name != "image128":
            raise CheckFailed(f"chain: it ends with {name}; go on to 128 px")
    compare("chain", answer, recorder.made["image128"])


def check_all_right(all_right: Callable, seed: int = 0) -> None:
    """all_right(answers, truth) → the share of pictures of which every attribute is right."""
    generator = torch.Generator().manual_seed(seed)
    truth = torch.randint(4, (50, 3), generator=generator)
    answers = torch.where(torch.rand(50, 3, generator=generator) < 0.8, truth, (truth + 1) % 4)
    same = answers == truth
    compare(
        "all_right", torch.as_tensor(call("all_right", all_right, answers, truth)),
        same.all(1).float().mean(),
        {
            "attributes are counted, not pictures: one wrong attribute makes a picture wrong":
                same.float().mean(),
            "one right attribute is taken for enough": same.any(1).float().mean(),
            "the number of pictures is returned; their share is asked for": same.all(1).sum(),
        },
    )  # fmt: skip


def check_interval(interval: Callable, seed: int = 0) -> None:
    """interval(right, n) → (low, high) of Wilson's 95 % interval."""
    for right, n in ((20, 20), (45 + seed, 50), (0, 10)):
        share, z = right / n, 1.96
        half = z * (share * (1 - share) / n) ** 0.5
        wide = (share * (1 - share) / n + z * z / (4 * n * n)) ** 0.5 * z / (1 + z * z / n)
        compare(
            f"interval({right}, {n})", tuple(interval(right, n)), wilson_interval(right, n),
            {
                "at 0 and 100 % the simple formula claims certainty; Wilson's does not":
                    (share - half, share + half),
                "the middle is not the share itself; Wilson moves it toward one half":
                    (share - wide, share + wide),
                "percent are returned; shares from 0 to 1 are asked for":
                    tuple(100 * edge for edge in wilson_interval(right, n)),
            },
        )  # fmt: skip


def check_faithful(most_faithful: Callable, seed: int = 0) -> None:
    """most_faithful(drawn, wanted) → (B,) which of n drawings is nearest to its own z_i."""
    generator = torch.Generator().manual_seed(seed)
    drawn, wanted = F.normalize(torch.randn(2, 20, 6, 5, generator=generator), dim=-1)
    own = (drawn * wanted).sum(-1)
    crossed = (drawn @ wanted.mT).amax(-1)
    compare(
        "most_faithful", call("most_faithful", most_faithful, drawn, wanted), own.argmax(1),
        {
            "a drawing is compared with all wanted z_i; it should be held to its own":
                crossed.argmax(1),
            "the least faithful drawing is chosen": own.argmin(1),
            "the closeness is returned; which drawing it was is asked for": own.amax(1),
        },
    )  # fmt: skip
