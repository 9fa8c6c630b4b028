"""Exercises 18: operations of a convolution, the roofline, parts of unequal size, a ring of GPUs,
and CLIP's loss where each process holds some rows."""

from collections.abc import Callable

import torch
import torch.nn.functional as F

from minidalle2.clip import info_nce
from minidalle2.cluster import ring_bytes
from minidalle2.teaching.checks.compare import call, compare


def check_convolution_operations(convolution_operations: Callable, seed: int = 0) -> None:
    """convolution_operations(pictures, channels_in, channels_out, kernel, side) → operations, where
    the output has `side` pixels a side."""
    n, c_in, c_out, kernel, side = 4, 5 + seed, 8, 3, 16
    outputs, inputs = n * c_out * side**2, c_in * kernel**2
    compare(
        "convolution_operations",
        float(convolution_operations(n, c_in, c_out, kernel, side)),
        float(2 * outputs * inputs),
        {
            "multiplications alone are counted; each comes with an addition":
                float(outputs * inputs),
            "the kernel is square: it reads kernel² pixels of each channel":
                float(2 * outputs * c_in * kernel),
            "each output number reads *all* channels that go in": float(2 * outputs * kernel**2),
            "this is for one picture": float(2 * outputs * inputs / n),
            "a kernel is applied at every pixel of the output": float(2 * n * c_out * inputs),
        },
    )  # fmt: skip


def check_roof(roof: Callable, seed: int = 0) -> None:
    """roof(intensity, peak, bandwidth) → the highest rate, operations a second."""
    intensity = torch.tensor([0.25, 2.0, 8.0 + seed, 40.0, 400.0])
    peak, bandwidth = 300.0, 20.0
    compare(
        "roof", call("roof", roof, intensity, peak, bandwidth),
        (intensity * bandwidth).clamp(max=peak),
        {
            "the higher of the two limits is taken; both hold, so it is the lower":
                (intensity * bandwidth).clamp(min=peak),
            "memory's limit alone; no operation is faster than the peak": intensity * bandwidth,
            "bytes a second over operations a byte; more operations a byte allow *more*":
                (bandwidth / intensity).clamp(max=peak),
            "the bend lies at peak / bandwidth; the peak holds to its right, the slope to its left":
                (intensity * bandwidth).where(intensity * bandwidth > peak, torch.tensor(peak)),
        },
    )  # fmt: skip


def check_whole_gradient(whole_gradient: Callable, seed: int = 0) -> None:
    """whole_gradient(gradients, sizes) → of the mean over all samples, from those of the parts'."""
    generator = torch.Generator().manual_seed(seed)
    gradients = torch.randn(3, 5, generator=generator)  # of each part's mean
    sizes = torch.tensor([8, 8, 3 + seed])  # the last part is what was left
    weighted = sizes[:, None] * gradients
    compare(
        "whole_gradient", call("whole_gradient", whole_gradient, gradients, sizes),
        weighted.sum(0) / sizes.sum(),
        {
            "all parts weigh alike; the last one has fewer samples": gradients.mean(0),
            "gradients are added up, as if the loss were a sum of means": gradients.sum(0),
            "the sum over samples; the loss is their mean": weighted.sum(0),
            "divided by the number of parts; weights are samples": weighted.sum(0) / 3,
            "a smaller part weighs more": (
                gradients / sizes[:, None]
            ).sum(0) / (1 / sizes).sum(),
        },
    )  # fmt: skip


def check_exchange_seconds(exchange_seconds: Callable, seed: int = 0) -> None:
    """exchange_seconds(parameters, gpus, link) → of float32 gradients in a ring all-reduce."""
    parameters, link = 1_000_000_000, 50e9
    for gpus in (1, 2, 64 + seed):
        size = 4 * parameters
        truth = ring_bytes(size, gpus) / link
        compare(
            f"exchange_seconds on {gpus} GPUs", float(exchange_seconds(parameters, gpus, link)),
            truth,
            {
                "half of it: pieces are first added up around the ring, then passed on again":
                    truth / 2,
                "a float32 number has four bytes": truth / 4,
                "everybody sends all to everybody; a ring sends each piece to the neighbour":
                    (gpus - 1) * size / link,
                "(N - 1) pieces travel, and each is an N-th of the whole":
                    2 * (gpus - 1) * size / link,
                "of its N pieces a GPU keeps one at home in each round": 2 * size / link,
            },
        )  # fmt: skip


def check_loss_of_all(loss_of_all: Callable, seed: int = 0) -> None:
    """loss_of_all(z_i, z_t, scale) → InfoNCE; z_i and z_t (W, B, E) are rows of W processes."""
    generator = torch.Generator().manual_seed(seed)
    z_i, z_t = F.normalize(torch.randn(2, 3, 4, 8, generator=generator), dim=-1)
    scale = 10.0
    every = scale * z_i.flatten(0, 1) @ z_t.flatten(0, 1).T  # (W·B, W·B)
    own = torch.stack([info_nce(scale * i @ t.T) for i, t in zip(z_i, z_t, strict=True)])
    compare(
        "loss_of_all", call("loss_of_all", loss_of_all, z_i, z_t, scale), info_nce(every),
        {
            "each process tells its own rows apart, an easier task; gather first": own.mean(),
            "losses of the processes are added up": own.sum(),
            "pictures look for texts; texts must look for pictures, too":
                F.cross_entropy(every, torch.arange(12)),
            "texts look for pictures; pictures must look for texts, too":
                F.cross_entropy(every.T, torch.arange(12)),
            "the scale is missing": info_nce(every / scale),
            "both directions are added up; it is their mean": 2 * info_nce(every),
        },
    )  # fmt: skip
