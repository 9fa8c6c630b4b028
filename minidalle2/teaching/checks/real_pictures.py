"""Checks of exercises 15: drawings on backgrounds, batches, class embeddings, and leaks."""

import re
from collections.abc import Callable

import torch
import torch.nn.functional as F

from minidalle2.teaching.checks.compare import call, compare
from minidalle2.worlds.emoji import backgrounds


def check_compose(compose: Callable, seed: int = 0) -> None:
    """compose(drawn (B, 4, S, S), rgb (3,)) → (B, 3, S, S) in [-1, 1].

    drawn is premultiplied RGBA. drawn and rgb are in [0, 1].
    """
    generator = torch.Generator().manual_seed(seed)
    alpha = torch.rand(2, 1, 4, 4, generator=generator)
    colour = alpha * torch.rand(2, 3, 4, 4, generator=generator)
    drawn, k = torch.cat((colour, alpha), 1), 3 + seed
    background = backgrounds.RGB[k][:, None, None]
    behind = (1 - alpha) * background
    twice = 2 * (colour * alpha + behind) - 1
    everywhere = 2 * (colour + background) - 1
    inverted = 2 * (colour + alpha * background) - 1
    mistakes = {
        "Colours are multiplied by alpha once more. They already are.": twice,
        "The background shines through everywhere. The drawing should cover it.": everywhere,
        "Alpha is inverted. Where should the background be visible?": inverted,
        "The pictures must be in [-1, 1]. These are in [0, 1].": colour + behind,
    }
    truth = backgrounds.compose(drawn * 255, torch.tensor([k, k]))
    compare("compose", call("compose", compose, drawn, backgrounds.RGB[k]), truth, mistakes)


def check_halve(halve: Callable, seed: int = 0) -> None:
    """halve(straight (4, 2S, 2S)) → (4, S, S). Only the result is premultiplied RGBA."""
    straight = torch.rand(4, 6, 6, generator=torch.Generator().manual_seed(seed))
    colour, alpha = straight[:3], straight[3:]
    premultiplied = torch.cat((colour * alpha, alpha))

    def mean(x: torch.Tensor) -> torch.Tensor:
        return F.avg_pool2d(x, 2)

    too_late = torch.cat((mean(colour) * mean(alpha), mean(alpha)))
    mistakes = {
        "Colours are averaged before premultiplication. Clear pixels darken the edges.": too_late,
        "The colours are not multiplied by alpha.": mean(straight),
        "Alpha is multiplied by itself.": mean(straight * alpha),
        "Every second pixel is dropped. Average four pixels.": premultiplied[:, ::2, ::2],
    }
    compare("halve", call("halve", halve, straight), mean(premultiplied), mistakes)


def check_blind_loss(blind_loss: Callable, seed: int = 0) -> None:
    """blind_loss(seen (B,)) → the lowest InfoNCE of a network that sees only these labels."""
    seen = torch.randint(5, (40,), generator=torch.Generator().manual_seed(seed))
    count = (seen[:, None] == seen).sum(1).float()
    others = (count - 1).log().mean()
    sees_nothing = torch.tensor(40.0).log()
    mistakes = {
        "This is the mean number of candidates. The loss is a logarithm.": count.mean(),
        "The mean is taken before the logarithm.": count.mean().log(),
        "A picture's own caption is missing. It is a candidate, too.": others,
        "The result is in bits. The loss uses the natural logarithm.": count.log2().mean(),
        "All captions are candidates. Only those with the same label should be.": sees_nothing,
    }
    answer = torch.as_tensor(call("blind_loss", blind_loss, seen))
    compare("blind_loss", answer, count.log().mean(), mistakes)


def check_ensemble(ensemble: Callable, seed: int = 0) -> None:
    """ensemble(z_t (names, styles, E)) → (names, E) of unit length."""
    z_t = torch.randn(7, 3, 5, generator=torch.Generator().manual_seed(seed))
    z_t = F.normalize(z_t, dim=-1)
    over_names = F.normalize(z_t.mean(0), dim=-1)
    wrong_lengths = F.normalize(z_t.mean(1), dim=0)
    mistakes = {
        "The mean of unit vectors is shorter than 1. Names whose texts agree would win.": z_t.mean(
            1
        ),
        "The mean is over the names. Take it over the styles.": over_names,
        "Only the texts of one style count.": z_t[:, 0],
        "The normalisation is over the names. Do it over the numbers of a row.": wrong_lengths,
    }
    truth = F.normalize(z_t.mean(1), dim=-1)
    compare("ensemble", call("ensemble", ensemble, z_t), truth, mistakes)


def check_leaks(leaks: Callable, seed: int = 0) -> None:
    """leaks(captions, secrets) → the captions that contain a secret as whole words, in order."""
    captions = [
        "a hot dog in noto style",
        "a hot dogfish",
        "hot dog",
        "a dog, hot and tired",
        "a red square, flat style",
        "redsquared",
        "a crab",
        "emoji: mustard, hot dog, bun",
    ]
    captions, secrets = captions[seed:] + captions[:seed], ["hot dog", "red square"]

    def holding(pattern: str) -> list[str]:
        return [c for c in captions if re.search(pattern, c)]

    any_secret = "|".join(secrets)
    truth = holding(rf"\b({any_secret})\b")
    at_the_start = holding(rf"^({any_secret})\b")
    mistakes = {
        "'a hot dogfish' does not contain a hot dog. Find whole words only.": holding(any_secret),
        "Only captions that begin with a secret are found. It may stand anywhere.": at_the_start,
        "Only the first secret is searched for.": holding(rf"\b({secrets[0]})\b"),
        "These are the captions without a secret.": [c for c in captions if c not in truth],
    }
    compare("leaks", call("leaks", leaks, captions, secrets), truth, mistakes)
