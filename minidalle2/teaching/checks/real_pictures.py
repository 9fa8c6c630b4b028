"""Exercises 15: drawings on backgrounds, batches that teach, names from words."""

import re
from collections.abc import Callable

import torch
import torch.nn.functional as F

from minidalle2.teaching.checks.compare import call, compare
from minidalle2.worlds.emoji import backgrounds


def check_compose(compose: Callable, seed: int = 0) -> None:
    """compose(drawn, rgb) → (B, 3, S, S) in [-1, 1], from premultiplied RGBA in [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    alpha = torch.rand(2, 1, 4, 4, generator=generator)
    colour = alpha * torch.rand(2, 3, 4, 4, generator=generator)
    drawn, k = torch.cat((colour, alpha), 1), 3 + seed
    on = backgrounds.RGB[k][:, None, None]
    compare(
        "compose", call("compose", compose, drawn, backgrounds.RGB[k]),
        backgrounds.compose(drawn * 255, torch.tensor([k, k])),
        {
            "colours are multiplied by alpha once more; they already are":
                2 * (colour * alpha + (1 - alpha) * on) - 1,
            "the background shines through everywhere; ink should cover it":
                2 * (colour + on) - 1,
            "alpha is turned round: where is the background to be seen?":
                2 * (colour + alpha * on) - 1,
            "pictures are in [-1, 1]; these are in [0, 1]": colour + (1 - alpha) * on,
        },
    )  # fmt: skip


def check_halve(halve: Callable, seed: int = 0) -> None:
    """halve(straight) → (4, S, S) premultiplied, from (4, 2S, 2S) that is not."""
    straight = torch.rand(4, 6, 6, generator=torch.Generator().manual_seed(seed))
    colour, alpha = straight[:3], straight[3:]
    ready = torch.cat((colour * alpha, alpha))

    def mean(x: torch.Tensor) -> torch.Tensor:
        return F.avg_pool2d(x, 2)

    compare(
        "halve", call("halve", halve, straight), mean(ready),
        {
            "colours are averaged before they are multiplied; clear pixels then darken the edges":
                torch.cat((mean(colour) * mean(alpha), mean(alpha))),
            "colours are not multiplied by alpha": mean(straight),
            "alpha is multiplied by itself": mean(straight * alpha),
            "every second pixel is dropped; four should become their mean": ready[:, ::2, ::2],
        },
    )  # fmt: skip


def check_blind_loss(blind_loss: Callable, seed: int = 0) -> None:
    """blind_loss(seen) → the least InfoNCE of an eye that sees only these labels (B,)."""
    seen = torch.randint(5, (40,), generator=torch.Generator().manual_seed(seed))
    count = (seen[:, None] == seen).sum(1).float()
    compare(
        "blind_loss", torch.as_tensor(call("blind_loss", blind_loss, seen)), count.log().mean(),
        {
            "these are numbers of candidates; the loss is the logarithm of such a number":
                count.mean(),
            "the mean is taken before the logarithm": count.mean().log(),
            "a picture's own caption is a candidate, too": (count - 1).log().mean(),
            "bits are counted; the loss is in natural logarithms": count.log2().mean(),
            "as if it saw nothing: only captions that look alike to it are candidates":
                torch.tensor(40.0).log(),
        },
    )  # fmt: skip


def check_ensemble(ensemble: Callable, seed: int = 0) -> None:
    """ensemble(z_t) → (names, E) of unit length, from (names, styles, E)."""
    z_t = torch.randn(7, 3, 5, generator=torch.Generator().manual_seed(seed))
    z_t = F.normalize(z_t, dim=-1)
    compare(
        "ensemble", call("ensemble", ensemble, z_t), F.normalize(z_t.mean(1), dim=-1),
        {
            "a mean of arrows is shorter than they are; names whose texts agree would win":
                z_t.mean(1),
            "the mean is over the names; over the styles is asked for":
                F.normalize(z_t.mean(0), dim=-1),
            "only one style's texts count": z_t[:, 0],
            "lengths are taken over the names, not over the numbers of an arrow":
                F.normalize(z_t.mean(1), dim=0),
        },
    )  # fmt: skip


def check_leaks(leaks: Callable, seed: int = 0) -> None:
    """leaks(captions, secrets) → those captions that hold a secret as whole words."""
    captions = [
        "a hot dog in noto style", "a hot dogfish", "hot dog", "a dog, hot and tired",
        "a red square, flat style", "redsquared", "a crab", "emoji: mustard, hot dog, bun",
    ]  # fmt: skip
    captions, secrets = captions[seed:] + captions[:seed], ["hot dog", "red square"]

    def holding(pattern: str) -> list[str]:
        return [c for c in captions if re.search(pattern, c)]

    told = "|".join(secrets)
    compare(
        "leaks", call("leaks", leaks, captions, secrets), holding(rf"\b({told})\b"),
        {
            "'a hot dogfish' is no hot dog; only whole words count": holding(told),
            "a secret may stand anywhere in a caption": [c for c in captions if c in secrets],
            "only captions that begin with it are found": holding(rf"^({told})\b"),
            "only the first secret is looked for": holding(rf"\b({secrets[0]})\b"),
            "these are the captions without a secret":
                [c for c in captions if not re.search(rf"\b({told})\b", c)],
        },
    )  # fmt: skip
