"""Checks of exercises 11: the chain of stages and how its pictures are measured."""

from collections.abc import Callable

import torch
import torch.nn.functional as F

from minidalle2.evaluation.rows import wilson_interval
from minidalle2.teaching.checks.compare import CheckFailed, call, compare


class Recorder:
    """Stands in for the stages, and checks what each of them is given."""

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
        """Returns a stage that takes the inputs `wants` and returns `name`.

        The stage raises CheckFailed if it is given anything else.
        """

        def run(*given: torch.Tensor) -> torch.Tensor:
            if len(given) != len(wants):
                raise CheckFailed(f"The stage that returns {name} takes {' and '.join(wants)}.")
            for want, value in zip(wants, given, strict=True):
                self._expect(name, want, value)
            return self.made[name]

        return run

    def _expect(self, name: str, want: str, value: object) -> None:
        if want == "prompt" and isinstance(value, str):
            return
        for other, known in self.made.items():
            if value is known and other != want:
                raise CheckFailed(f"The stage that returns {name} was given {other}, not {want}.")
        if value is not self.made.get(want):
            raise CheckFailed(f"The stage that returns {name} was not given {want}.")


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
            raise CheckFailed(f"chain: It returns {name}. Continue to 128 px.")
    compare("chain", answer, recorder.made["image128"])


def check_all_right(all_right: Callable, seed: int = 0) -> None:
    """all_right(answers (B, K), truth (B, K)) → the share of pictures with K right attributes."""
    generator = torch.Generator().manual_seed(seed)
    truth = torch.randint(4, (50, 3), generator=generator)
    answers = torch.where(torch.rand(50, 3, generator=generator) < 0.8, truth, (truth + 1) % 4)
    same = answers == truth
    mistakes = {
        "Attributes are counted, not pictures. All K must be right.": same.float().mean(),
        "One right attribute is enough here. All K must be right.": same.any(1).float().mean(),
        "The number of right pictures is returned. Return their share.": same.all(1).sum(),
    }
    answer = torch.as_tensor(call("all_right", all_right, answers, truth))
    compare("all_right", answer, same.all(1).float().mean(), mistakes)


def check_interval(interval: Callable, seed: int = 0) -> None:
    """interval(right, n) → (low, high), Wilson's 95 % interval."""
    for right, n in ((20, 20), (45 + seed, 50), (0, 10)):
        share, z = right / n, 1.96
        normal = z * (share * (1 - share) / n) ** 0.5
        half = (share * (1 - share) / n + z * z / (4 * n * n)) ** 0.5 * z / (1 + z * z / n)
        truth = wilson_interval(right, n)
        simple = share - normal, share + normal
        around_share = share - half, share + half
        percent = tuple(100 * edge for edge in truth)
        mistakes = {
            "At 0 and 100 % the simple formula claims certainty. Wilson's does not.": simple,
            "The share itself is the middle. Wilson moves it toward one half.": around_share,
            "Percentages are returned. Return shares from 0 to 1.": percent,
        }
        compare(f"interval({right}, {n})", tuple(interval(right, n)), truth, mistakes)


def check_faithful(most_faithful: Callable, seed: int = 0) -> None:
    """most_faithful(drawn (B, n, E), wanted (B, n, E)) → (B,), the drawing nearest to its z_i."""
    generator = torch.Generator().manual_seed(seed)
    drawn, wanted = F.normalize(torch.randn(2, 20, 6, 5, generator=generator), dim=-1)
    own = (drawn * wanted).sum(-1)
    nearest_to_any = (drawn @ wanted.mT).amax(-1).argmax(1)
    mistakes = {
        "A drawing is compared with every z_i. Compare it with its own only.": nearest_to_any,
        "The drawing with the lowest similarity is selected.": own.argmin(1),
        "The similarity is returned. Return the index of the drawing.": own.amax(1),
    }
    answer = call("most_faithful", most_faithful, drawn, wanted)
    compare("most_faithful", answer, own.argmax(1), mistakes)
