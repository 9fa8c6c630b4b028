"""Checks of exercises 05: what counts as a pair, what as a negative, and what gets a gradient."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from minidalle2.teaching.checks.compare import CheckFailed, call, compare


def check_shared_target(shared_target: Callable, seed: int = 0) -> None:
    """shared_target(tokens (B, T)) → (B, B). Each row is shared out among equal captions."""
    captions = torch.randint(3, 60, (3, 4), generator=torch.Generator().manual_seed(seed))
    tokens = captions[torch.tensor([0, 1, 0, 2, 1, 0])]
    same = (tokens[:, None] == tokens).all(-1)
    share_a_token = (tokens[:, None] == tokens).any(-1)
    any_token = share_a_token / share_a_token.sum(1, keepdim=True)
    mistakes = {
        "Each row must add up to 1. Three equal captions get a third each.": same.float(),
        "Each row selects its own column only. Equal captions belong to it, too.": torch.eye(6),
        "Captions count as equal if one token is equal. All tokens must be.": any_token,
    }
    answer = call("shared_target", shared_target, tokens)
    compare("shared_target", answer, same / same.sum(1, keepdim=True), mistakes)


def check_decoupled(decoupled: Callable, seed: int = 0) -> None:
    """decoupled(logits (B, B)) → a scalar: each row's positive against its negatives only."""
    logits = torch.randn(6, 6, generator=torch.Generator().manual_seed(seed)) * 3
    own = torch.eye(6, dtype=torch.bool)
    negatives, positives = logits.masked_fill(own, -torch.inf), logits.diagonal()
    rows = negatives.logsumexp(1) - positives
    with_positive = (logits.logsumexp(1) - positives).mean()
    with_zero = (logits.masked_fill(own, 0).logsumexp(1) - positives).mean()
    columns = (negatives.logsumexp(0) - positives).mean()
    mistakes = {
        "The positive is still part of the sum. That is InfoNCE.": with_positive,
        "A logit of 0 still adds e⁰ = 1 to the sum. Replace the positive by -infinity.": with_zero,
        "The sign is reversed. The loss must fall when the positive grows.": -rows.mean(),
        "The negatives of each column are summed. Sum those of each row.": columns,
        "The losses of the rows are added. Return their mean.": rows.sum(),
    }
    compare("decoupled", call("decoupled", decoupled, logits), rows.mean(), mistakes)


def check_text_to_picture(text_to_picture: Callable, seed: int = 0) -> None:
    """text_to_picture(alike (P, N, T, L), is_word (T, L)) → (T, P) for T texts and P pictures.

    Each of the L words takes the best of the N patches. The result is the mean over words.
    """
    generator = torch.Generator().manual_seed(seed)
    alike = torch.rand(4, 7, 3, 5, generator=generator) * 2 - 1
    is_word = torch.arange(5) < torch.tensor([[5], [3], [2]])
    best, share = alike.amax(1), is_word / is_word.sum(1, keepdim=True)
    truth = (best * share).sum(-1).T
    divided_by_all = (best * is_word).mean(-1).T
    added = (best * is_word).sum(-1).T
    best_words = alike.masked_fill(~is_word, -torch.inf).amax(-1).mean(1)
    best_word_only = best.masked_fill(~is_word, -torch.inf).amax(-1).T
    mistakes = {
        "Padding counts as a word. Take the mean over words only.": best.mean(-1).T,
        "Padding adds 0 to the sum, but it still counts in the divisor.": divided_by_all,
        "The words are added, so long texts would always win. Take their mean.": added,
        "Rows are pictures and columns are texts. Exchange them.": truth.T,
        "Each patch takes its best word. That is the other direction.": best_words.T,
        "Each patch takes its best word (the other direction), and rows are pictures.": best_words,
        "Only the best word of each text counts. Take the mean over words.": best_word_only,
    }
    answer = call("text_to_picture", text_to_picture, alike, is_word)
    compare("text_to_picture", answer, truth, mistakes)


def check_towards(towards: Callable, seed: int = 0) -> None:
    """towards(predicted (B, P), target (B, P)) → a scalar, minus the mean cosine.

    The target must get no gradient.
    """
    generator = torch.Generator().manual_seed(seed)
    predicted, target = torch.randn(2, 5, 8, generator=generator) * 2
    cosine = F.cosine_similarity(predicted, target, dim=-1)
    dot_products = (predicted * target).sum(-1)
    mistakes = {
        "Lengths count here. Only directions should.": -dot_products.mean(),
        "The sign is reversed. The loss must fall when the two agree.": cosine.mean(),
        "One number for each row is returned. Return their mean.": -cosine,
    }
    answer = call("towards", towards, predicted, target)
    answer = answer.detach() if isinstance(answer, Tensor) else answer
    compare("towards", answer, -cosine.mean(), mistakes)

    predicted, target = predicted.requires_grad_(), target.requires_grad_()
    loss = towards(predicted, target)
    if not loss.requires_grad:
        raise CheckFailed("towards: The prediction gets no gradient, so nothing is learned.")
    to_predicted, to_target = torch.autograd.grad(loss, (predicted, target), allow_unused=True)
    if to_target is not None and to_target.any():
        raise CheckFailed(
            "towards: The target gets a gradient. Then both sides can agree on a constant."
        )
    if to_predicted is None or not to_predicted.any():
        raise CheckFailed("towards: The prediction gets no gradient. Only the target must not.")
    print("towards, its gradient: right")


def check_uphill(uphill: Callable, seed: int = 0) -> None:
    """uphill(weights, gradients, rho) → the list of weights, moved by rho along the gradient.

    The gradient is that of all weights together. The given weights must not change.
    """
    generator = torch.Generator().manual_seed(seed)
    weights = [torch.randn(shape, generator=generator) for shape in ((3, 4), (5,))]
    gradients = [torch.randn(w.shape, generator=generator) * k for k, w in enumerate(weights, 2)]
    norm = torch.stack([g.norm() for g in gradients]).norm()
    sum_of_norms = sum(g.norm() for g in gradients)
    steps = [0.1 * g / norm for g in gradients]

    def moved(steps: list[Tensor]) -> tuple[Tensor, ...]:
        return tuple(w + step for w, step in zip(weights, steps, strict=True))

    copies = [w.clone() for w in weights]
    answer = uphill(copies, [g.clone() for g in gradients], 0.1)
    if not all(torch.equal(w, c) for w, c in zip(weights, copies, strict=True)):
        raise CheckFailed("uphill changes the weights in place. Their old values are then lost.")

    downhill = moved([-step for step in steps])
    unscaled = moved([0.1 * g for g in gradients])
    one_by_one = moved([0.1 * g / g.norm() for g in gradients])
    norms_added = moved([0.1 * g / sum_of_norms for g in gradients])
    mistakes = {
        "The weights move downhill.": downhill,
        "The step is proportional to the gradient. Its length should be rho.": unscaled,
        "Each weight makes its own step of length rho. Together they make one.": one_by_one,
        "The norms are added. Add their squares and take the root.": norms_added,
        "Only the step is returned. Add it to the weights.": tuple(steps),
    }
    answer = tuple(answer) if isinstance(answer, list | tuple) else answer
    compare("uphill", answer, moved(steps), mistakes)
