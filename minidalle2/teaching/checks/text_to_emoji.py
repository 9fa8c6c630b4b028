"""Exercises 16: how new a picture is, how well it is read, and what an arrow's style is."""

from collections.abc import Callable

import torch
import torch.nn.functional as F

from minidalle2.teaching.checks.compare import call, compare


def check_distances(distances: Callable, seed: int = 0) -> None:
    """distances(image, training) → (N,) root mean square differences, of a range of 1."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(3, 4, 4, generator=generator) * 2 - 1
    training = torch.rand(6, 3, 4, 4, generator=generator) * 2 - 1
    difference = (training - image).flatten(1) / 2
    compare(
        "distances", call("distances", distances, image, training),
        difference.square().mean(1).sqrt(),
        {
            "pictures are in [-1, 1]; over a range of 1 they differ by half of that":
                (2 * difference).square().mean(1).sqrt(),
            "the root is missing": difference.square().mean(1),
            "differences are added up; a larger picture would be farther":
                difference.norm(dim=1),
            "differences are not squared": difference.abs().mean(1),
            "one number is returned; one for each training picture is asked for":
                difference.square().mean().sqrt(),
        },
    )  # fmt: skip


def check_excess(excess: Callable, seed: int = 0) -> None:
    """excess(drawn, real, near) → by how much the share of near-copies exceeds the real one's."""
    generator = torch.Generator().manual_seed(seed)
    drawn, real = torch.rand(50, generator=generator), torch.rand(40, generator=generator)
    near = 0.3 + 0.1 * seed
    copies, normal = (drawn < near).float(), (real < near).float()
    compare(
        "excess", torch.as_tensor(call("excess", excess, drawn, real, near)),
        copies.mean() - normal.mean(),
        {
            "real drawings have near neighbours, too; what is normal?": copies.mean(),
            "it is turned round: positive should mean more copies than normal":
                normal.mean() - copies.mean(),
            "pictures are counted, but there are more of the one than of the other":
                copies.sum() - normal.sum(),
            "distances are compared; shares below `near` are asked for":
                drawn.mean() - real.mean(),
        },
    )  # fmt: skip


def check_readable(readable: Callable, seed: int = 0) -> None:
    """readable(drawn, real) → share read rightly among those whose real drawing is."""
    generator = torch.Generator().manual_seed(seed)
    drawn, real = torch.rand(2, 60, generator=generator) < torch.tensor([[0.5], [0.7]])
    both = (drawn & real).float()
    compare(
        "readable", torch.as_tensor(call("readable", readable, drawn, real)),
        both.sum() / real.sum(),
        {
            "what the judge can't read at all counts as a fault of the drawing":
                drawn.float().mean(),
            "the shares of all are divided; a drawing can be right where the real one is misread":
                drawn.float().mean() / real.float().mean(),
            "the share is of all pictures; of the readable ones is asked for": both.mean(),
            "it is the other way about: of those drawn rightly, the share that is readable":
                both.sum() / drawn.sum(),
        },
    )  # fmt: skip


def check_restyle(restyle: Callable, seed: int = 0) -> None:
    """restyle(z, ours, theirs) → z moved from the mean of a style to that of another; unit."""
    generator = torch.Generator().manual_seed(seed)
    z = F.normalize(torch.randn(5, 8, generator=generator), dim=-1)
    ours, theirs = torch.randn(2, 8, generator=generator) / 4
    moved = z + theirs - ours
    compare(
        "restyle", call("restyle", restyle, z, ours, theirs), F.normalize(moved, dim=-1),
        {
            "the arrows have other lengths than 1; the decoder has seen none such": moved,
            "it moves away from the other style": F.normalize(z + ours - theirs, dim=-1),
            "the other style is added, but the own one is still in it":
                F.normalize(z + theirs, dim=-1),
            "the thing is lost: nothing but the other style is left":
                F.normalize(theirs, dim=-1).expand_as(z),
        },
    )  # fmt: skip
