"""Checks of exercises 16: distance to training pictures, near-copies, legibility, and style."""

from collections.abc import Callable

import torch
import torch.nn.functional as F

from minidalle2.teaching.checks.compare import call, compare


def check_distances(distances: Callable, seed: int = 0) -> None:
    """distances(image (3, S, S), training (N, 3, S, S)) → (N,) root mean square differences.

    The distance between black and white is 1.
    """
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(3, 4, 4, generator=generator) * 2 - 1
    training = torch.rand(6, 3, 4, 4, generator=generator) * 2 - 1
    difference = (training - image).flatten(1) / 2
    squares = difference.square().mean(1)
    one_number = squares.mean().sqrt()
    mistakes = {
        "The result is twice as large. Black and white differ by 2, not by 1.": 2 * squares.sqrt(),
        "The square root is missing.": squares,
        "The squares are added up. Large pictures would be far apart.": difference.norm(dim=1),
        "The differences are not squared.": difference.abs().mean(1),
        "One number is returned. Return one for each training picture.": one_number,
    }
    answer = call("distances", distances, image, training)
    compare("distances", answer, squares.sqrt(), mistakes)


def check_excess(excess: Callable, seed: int = 0) -> None:
    """excess(drawn (n,), real (m,), near) → the difference of two shares of near-copies.

    drawn and real are distances to the nearest training picture. A near-copy is nearer than near.
    """
    generator = torch.Generator().manual_seed(seed)
    drawn, real = torch.rand(50, generator=generator), torch.rand(40, generator=generator)
    near = 0.3 + 0.1 * seed
    copies, normal = (drawn < near).float(), (real < near).float()
    truth = copies.mean() - normal.mean()
    counts = copies.sum() - normal.sum()
    distances = drawn.mean() - real.mean()
    mistakes = {
        "Real drawings have near neighbours, too. How much is normal?": copies.mean(),
        "The sign is reversed. More copies than normal should be positive.": -truth,
        "Pictures are counted, but the sets differ in size. Use shares.": counts,
        "Mean distances are compared. Compare the shares below `near`.": distances,
    }
    answer = torch.as_tensor(call("excess", excess, drawn, real, near))
    compare("excess", answer, truth, mistakes)


def check_readable(readable: Callable, seed: int = 0) -> None:
    """readable(drawn (n,), real (n,)) → the share of drawn pictures that are read correctly.

    Only pictures whose real drawing is read correctly count.
    """
    generator = torch.Generator().manual_seed(seed)
    drawn, real = torch.rand(2, 60, generator=generator) < torch.tensor([[0.5], [0.7]])
    both = (drawn & real).float()
    quotient = drawn.float().mean() / real.float().mean()
    exchanged = both.sum() / drawn.sum()
    mistakes = {
        "Things that the judge cannot read at all count as wrong drawings.": drawn.float().mean(),
        "The shares of all are divided. Leave misread real drawings out first.": quotient,
        "The share is that of all pictures. Only the readable ones count.": both.mean(),
        "This is the share of readable ones among the right drawings.": exchanged,
    }
    answer = torch.as_tensor(call("readable", readable, drawn, real))
    compare("readable", answer, both.sum() / real.sum(), mistakes)


def check_restyle(restyle: Callable, seed: int = 0) -> None:
    """restyle(z (B, E), ours (E,), theirs (E,)) → (B, E) of unit length.

    z moves from the mean of one style to the mean of the other.
    """
    generator = torch.Generator().manual_seed(seed)
    z = F.normalize(torch.randn(5, 8, generator=generator), dim=-1)
    ours, theirs = torch.randn(2, 8, generator=generator) / 4
    moved = z + theirs - ours
    reversed_ = F.normalize(z + ours - theirs, dim=-1)
    both_styles = F.normalize(z + theirs, dim=-1)
    style_only = F.normalize(theirs, dim=-1).expand_as(z)
    mistakes = {
        "The embeddings are not of unit length, which the decoder needs.": moved,
        "z moves away from the other style.": reversed_,
        "The other style is added, but the old one is still in z.": both_styles,
        "Only the other style is left. The thing itself is lost.": style_only,
    }
    answer = call("restyle", restyle, z, ours, theirs)
    compare("restyle", answer, F.normalize(moved, dim=-1), mistakes)
