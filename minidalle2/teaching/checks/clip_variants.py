"""Exercises 05: what counts as a pair, what as a negative, and what gets a gradient."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from minidalle2.teaching.checks.compare import CheckFailed, call, compare


def check_shared_target(shared_target: Callable, seed: int = 0) -> None:
    """shared_target(tokens) → (B, B), each row shared out among the columns with its caption."""
    captions = torch.randint(3, 60, (3, 4), generator=torch.Generator().manual_seed(seed))
    tokens = captions[torch.tensor([0, 1, 0, 2, 1, 0])]
    same = (tokens[:, None] == tokens).all(-1)
    compare(
        "shared_target", call("shared_target", shared_target, tokens),
        same / same.sum(1, keepdim=True),
        {
            "each row must add up to 1; where a caption occurs thrice, each gets a third":
                same.float(),
            "each row must add up to 1; it says where captions are equal": same,
            "each picture has its own text alone; equal captions belong to it, too": torch.eye(6),
            "captions are equal where all of their tokens are; one is enough here":
                (any_ := (tokens[:, None] == tokens).any(-1)) / any_.sum(1, keepdim=True),
        },
    )  # fmt: skip


def check_decoupled(decoupled: Callable, seed: int = 0) -> None:
    """decoupled(logits) → a scalar: each row's positive against its negatives alone."""
    logits = torch.randn(6, 6, generator=torch.Generator().manual_seed(seed)) * 3
    own = torch.eye(6, dtype=torch.bool)
    negatives, positives = logits.masked_fill(own, -torch.inf), logits.diagonal()
    compare(
        "decoupled", call("decoupled", decoupled, logits),
        (negatives.logsumexp(1) - positives).mean(),
        {
            "that is InfoNCE: the positive is still among those that it is compared with":
                (logits.logsumexp(1) - positives).mean(),
            "a logit of 0 is no missing one, e to the 0 is 1; hide the positive with -infinity":
                (logits.masked_fill(own, 0).logsumexp(1) - positives).mean(),
            "the sign is turned round; a loss falls when the positive grows":
                (positives - negatives.logsumexp(1)).mean(),
            "each column is compared; each row must find its own":
                (negatives.logsumexp(0) - positives).mean(),
            "the rows are added up; their mean is asked for":
                (negatives.logsumexp(1) - positives).sum(),
        },
    )  # fmt: skip


def check_text_to_picture(text_to_picture: Callable, seed: int = 0) -> None:
    """text_to_picture(alike, is_word) → (T texts, P pictures): each word takes its best patch."""
    generator = torch.Generator().manual_seed(seed)
    alike = torch.rand(4, 7, 3, 5, generator=generator) * 2 - 1  # pictures, patches, texts, words
    is_word = torch.arange(5) < torch.tensor([[5], [3], [2]])
    best, share = alike.amax(1), is_word / is_word.sum(1, keepdim=True)
    patches = alike.masked_fill(~is_word, -torch.inf).amax(-1).mean(1)
    compare(
        "text_to_picture", call("text_to_picture", text_to_picture, alike, is_word),
        (best * share).sum(-1).T,
        {
            "padding is counted; the mean is over words alone": best.mean(-1).T,
            "padding counts as 0, but it still is in the number of words":
                (best * is_word).mean(-1).T,
            "the words are added up; long texts would always win": (best * is_word).sum(-1).T,
            "pictures are down and texts across; it should be the other way round":
                (best * share).sum(-1),
            "each patch takes its best word; that is the other direction": patches.T,
            "each patch takes its best word, pictures down: that is the other direction": patches,
            "one word and one patch speak for all; the mean over words is asked for":
                best.masked_fill(~is_word, -torch.inf).amax(-1).T,
        },
    )  # fmt: skip


def check_towards(towards: Callable, seed: int = 0) -> None:
    """towards(predicted, target) → minus the mean cosine; no gradient reaches the target."""
    generator = torch.Generator().manual_seed(seed)
    predicted, target = torch.randn(2, 5, 8, generator=generator) * 2
    cosine = F.cosine_similarity(predicted, target, dim=-1)
    compare(
        "towards", _value(call("towards", towards, predicted, target)), -cosine.mean(),
        {
            "lengths count, but only directions should": -(predicted * target).sum(-1).mean(),
            "the sign is turned round; a loss falls when they agree": cosine.mean(),
            "one number a row is left; their mean is asked for": -cosine,
        },
    )  # fmt: skip
    predicted, target = predicted.requires_grad_(), target.requires_grad_()
    loss = towards(predicted, target)
    if not loss.requires_grad:
        raise CheckFailed("towards: the prediction gets no gradient, so nothing would learn")
    to_predicted, to_target = torch.autograd.grad(loss, (predicted, target), allow_unused=True)
    if to_target is not None and to_target.any():
        raise CheckFailed(
            "towards: the target gets a gradient; with it both sides can agree on a constant"
        )
    if to_predicted is None or not to_predicted.any():
        raise CheckFailed("towards: it is the target that should get no gradient, not this side")
    print("towards, its gradient: right")


def check_uphill(uphill: Callable, seed: int = 0) -> None:
    """uphill(weights, gradients, rho) → all weights, moved by rho along the whole gradient."""
    generator = torch.Generator().manual_seed(seed)
    weights = [torch.randn(shape, generator=generator) for shape in ((3, 4), (5,))]
    gradients = [torch.randn(w.shape, generator=generator) * k for k, w in enumerate(weights, 2)]
    norm = torch.stack([g.norm() for g in gradients]).norm()

    def moved(steps: list[Tensor]) -> tuple[Tensor, ...]:
        return tuple(w + step for w, step in zip(weights, steps, strict=True))

    copies = [w.clone() for w in weights]
    answer = uphill(copies, [g.clone() for g in gradients], 0.1)
    if not all(torch.equal(w, c) for w, c in zip(weights, copies, strict=True)):
        raise CheckFailed("uphill moves the weights in place; the way back would be lost")
    compare(
        "uphill", tuple(answer) if isinstance(answer, list | tuple) else answer,
        moved([0.1 * g / norm for g in gradients]),
        {
            "it goes downhill": moved([-0.1 * g / norm for g in gradients]),
            "the step is as long as the gradient; its length should be rho":
                moved([0.1 * g for g in gradients]),
            "each weight has a step of its own length; all together make one step of rho":
                moved([0.1 * g / g.norm() for g in gradients]),
            "the norms are added up; together they are the root of their squares' sum":
                moved([0.1 * g / sum(x.norm() for x in gradients) for g in gradients]),
            "only the direction is handed over; it should be added to the weights":
                tuple(0.1 * g / norm for g in gradients),
        },
    )  # fmt: skip


def _value(answer: object) -> object:
    return answer.detach() if isinstance(answer, Tensor) else answer
