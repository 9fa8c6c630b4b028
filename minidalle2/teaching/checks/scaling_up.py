"""Checks of exercises 18: operations, the roofline, gradient accumulation, all-reduce, InfoNCE."""

from collections.abc import Callable

import torch
import torch.nn.functional as F

from minidalle2.clip import info_nce
from minidalle2.scale.cluster import ring_bytes
from minidalle2.teaching.checks.compare import call, compare


def check_convolution_operations(convolution_operations: Callable, seed: int = 0) -> None:
    """convolution_operations(pictures, channels_in, channels_out, kernel, side) → operations.

    The output has side x side pixels. A multiplication and an addition are two operations.
    """
    n, c_in, c_out, kernel, side = 4, 5 + seed, 8, 3, 16
    outputs, inputs = n * c_out * side**2, c_in * kernel**2
    truth = 2 * outputs * inputs
    one_row = 2 * outputs * c_in * kernel
    one_channel = 2 * outputs * kernel**2
    one_place = 2 * n * c_out * inputs
    mistakes = {
        "Only multiplications are counted. Each comes with an addition.": float(truth / 2),
        "The kernel is square. It reads kernel² pixels of each channel.": float(one_row),
        "Only one input channel is read. Each output reads all input channels.": float(one_channel),
        "This is the number for one picture.": float(truth / n),
        "The kernel is applied once. Apply it at every pixel of the output.": float(one_place),
    }
    answer = float(convolution_operations(n, c_in, c_out, kernel, side))
    compare("convolution_operations", answer, float(truth), mistakes)


def check_roof(roof: Callable, seed: int = 0) -> None:
    """roof(intensity (N,), peak, bandwidth) → (N,), the highest possible operations per second."""
    intensity = torch.tensor([0.25, 2.0, 8.0 + seed, 40.0, 400.0])
    peak, bandwidth = 300.0, 20.0
    memory = intensity * bandwidth
    higher = memory.clamp(min=peak)
    inverted = (bandwidth / intensity).clamp(max=peak)
    mistakes = {
        "The higher of two limits is returned. Both hold, so it is the lower.": higher,
        "Only the limit of the memory is used. The peak is a limit, too.": memory,
        "The fraction is inverted. More operations per byte allow a higher rate.": inverted,
    }
    answer = call("roof", roof, intensity, peak, bandwidth)
    compare("roof", answer, memory.clamp(max=peak), mistakes)


def check_whole_gradient(whole_gradient: Callable, seed: int = 0) -> None:
    """whole_gradient(gradients (parts, parameters), sizes (parts,)) → (parameters,).

    Each row is the gradient of the mean loss of a part. The result is that of all samples.
    """
    generator = torch.Generator().manual_seed(seed)
    gradients = torch.randn(3, 5, generator=generator)
    sizes = torch.tensor([8, 8, 3 + seed])  # the last part is the rest of the batch
    weighted = sizes[:, None] * gradients
    inverse = (gradients / sizes[:, None]).sum(0) / (1 / sizes).sum()
    mistakes = {
        "All parts have the same weight. The last one has fewer samples.": gradients.mean(0),
        "The gradients are added, as if the loss were a sum of means.": gradients.sum(0),
        "This is the gradient of the sum over samples. The loss is their mean.": weighted.sum(0),
        "The sum is divided by the number of parts, not of samples.": weighted.sum(0) / 3,
        "Smaller parts have larger weights. They should have smaller ones.": inverse,
    }
    answer = call("whole_gradient", whole_gradient, gradients, sizes)
    compare("whole_gradient", answer, weighted.sum(0) / sizes.sum(), mistakes)


def check_exchange_seconds(exchange_seconds: Callable, seed: int = 0) -> None:
    """exchange_seconds(parameters, gpus, link) → seconds of a ring all-reduce of float32 gradients.

    Each GPU sends link bytes per second.
    """
    parameters, link = 1_000_000_000, 50e9
    for gpus in (1, 2, 64 + seed):
        size = 4 * parameters
        truth = ring_bytes(size, gpus) / link
        all_to_all = (gpus - 1) * size / link
        whole_pieces = 2 * (gpus - 1) * size / link
        mistakes = {
            "This is half of it. A second round passes the sums on.": truth / 2,
            "One byte per number is counted. A float32 number has four bytes.": truth / 4,
            "Each GPU sends all to all others. In a ring it sends one piece at a time.": all_to_all,
            "Each of the N - 1 pieces is only an N-th of the gradients.": whole_pieces,
            "In each round a GPU sends N - 1 of its N pieces, not all N.": 2 * size / link,
        }
        answer = float(exchange_seconds(parameters, gpus, link))
        compare(f"exchange_seconds on {gpus} GPUs", answer, truth, mistakes)


def check_loss_of_all(loss_of_all: Callable, seed: int = 0) -> None:
    """loss_of_all(z_i (W, B, E), z_t (W, B, E), scale) → InfoNCE of the rows of all W processes."""
    generator = torch.Generator().manual_seed(seed)
    z_i, z_t = F.normalize(torch.randn(2, 3, 4, 8, generator=generator), dim=-1)
    scale = 10.0
    logits = scale * z_i.flatten(0, 1) @ z_t.flatten(0, 1).T  # (W·B, W·B)
    truth = info_nce(logits)
    own = torch.stack([info_nce(scale * i @ t.T) for i, t in zip(z_i, z_t, strict=True)])
    pictures_only = F.cross_entropy(logits, torch.arange(12))
    texts_only = F.cross_entropy(logits.T, torch.arange(12))
    mistakes = {
        "Each process compares its own rows only, an easier task. Gather first.": own.mean(),
        "Each process compares its own rows only, and the losses are added.": own.sum(),
        "Only pictures find their texts. Texts must find their pictures, too.": pictures_only,
        "Only texts find their pictures. Pictures must find their texts, too.": texts_only,
        "The scale is missing.": info_nce(logits / scale),
        "The two directions are added. The loss is their mean.": 2 * truth,
    }
    compare("loss_of_all", call("loss_of_all", loss_of_all, z_i, z_t, scale), truth, mistakes)
