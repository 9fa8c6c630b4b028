"""Estimates what training the networks of the paper needs: operations, memory, GPUs and days.

python -m minidalle2.scale.cluster

The networks are the classes of minidalle2 with the sizes of table 3. Operations and activations are
counted while they run on fake tensors, which have shapes but no memory (torch's FlopCounterMode and
FakeTensorMode). The constants below are assumptions about the GPUs. docs/cluster.md explains the
results.
Left out: short-lived tensors, fragmentation of the memory, data loading and failures.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from minidalle2.clip import ImageTower, TextTower
from minidalle2.decoder import Decoder
from minidalle2.prior import Prior
from minidalle2.priors.autoregressive_prior import AutoregressivePrior
from minidalle2.scale.activations import Kept
from minidalle2.scale.paper import (
    AUTOREGRESSIVE_PRIOR,
    CONTEXT,
    DECODER,
    IMAGE_TOWER,
    PRIOR,
    TEXT_TOWER,
    UPSAMPLER256,
    UPSAMPLER1024,
    E,
)
from minidalle2.upsampler import Upsampler, UpsamplerConfig

GPU_SPEED = 989e12  # operations per second: dense bfloat16 products of an H100 (its data sheet)
GPU_MEMORY = 80e9  # bytes
REACHED = 0.4  # share of GPU_SPEED that training reaches: an assumption
USABLE = 0.9  # share of GPU_MEMORY that training can use: an assumption
LINK = 50e9  # bytes per second that a GPU sends: 400 Gb/s, an assumption
# Bytes for each parameter: weight, gradient, Adam's two moments and average in float32, and a
# bfloat16 copy of the weight.
STATE = 4 * 5 + 2
GPUS = 64


class TwoTowers(nn.Module):
    """CLIP with a different width for each tower, as in the paper."""

    def __init__(self):
        super().__init__()
        self.image_tower, self.text_tower = ImageTower(IMAGE_TOWER), TextTower(TEXT_TOWER)


@dataclass(frozen=True)
class Training:
    """The training of a network, with the numbers of table 3."""

    name: str
    build: Callable[[], nn.Module]
    forward: Callable[[Any], object]  # (network) → its outputs for one sample
    batch: int
    iterations: int
    forwards: int = 3  # cost of a step in forward passes; a backward pass costs two


def clip_forward(clip: TwoTowers) -> tuple[Tensor, Tensor]:
    return clip.image_tower(torch.zeros(1, 3, 256, 256)), clip.text_tower(_tokens(CONTEXT))


def autoregressive_forward(prior: AutoregressivePrior) -> Tensor:
    known = torch.zeros(1, AUTOREGRESSIVE_PRIOR.components - 1, dtype=torch.long)
    similarity, tokens = torch.zeros(1, dtype=torch.long), _tokens(64)
    return prior(known, similarity, torch.zeros(1, E), tokens, _no())


def prior_forward(prior: Prior) -> Tensor:
    z = torch.zeros(1, E)
    return prior(z, torch.zeros(1), z, _tokens(CONTEXT), _no())


def decoder_forward(decoder: Decoder) -> Tensor:
    """Does not call `encode_text`, which looks for equal captions. Fake tensors have no content."""
    context, mask = decoder.text_encoder(_tokens(CONTEXT)), torch.ones(1, CONTEXT).bool()
    z_i = decoder.image_condition(torch.zeros(1, E), _no())
    return decoder(torch.zeros(1, 3, 64, 64), torch.zeros(1), z_i, context, mask)


def upsampler_forward(upsampler: Upsampler) -> Tensor:
    """Upsamples a window of a quarter of the size, as in training.

    minidalle2's upsampler reads a picture of half the size, the paper's a picture of a quarter of
    the size. Both enlarge it first, so the rest of the work is the same.
    """
    return upsampled(upsampler, upsampler.config.size // 4)


def upsampled(upsampler: Upsampler, size: int) -> Tensor:
    """The output (1, C, size, size) for one picture of half the size."""
    half = size // 2
    x_t, low = torch.zeros(1, 3, size, size), torch.zeros(1, 3, half, half)
    return upsampler(x_t, torch.zeros(1), low)


def _tokens(length: int) -> Tensor:
    return torch.ones(1, length, dtype=torch.long)


def _no() -> Tensor:
    return torch.zeros(1, dtype=torch.bool)


def _upsampler(name: str, config: UpsamplerConfig, batch: int) -> Training:
    return Training(name, lambda: Upsampler(config), upsampler_forward, batch, 1_000_000)


TRAININGS = (
    # The paper does not say how long its CLIP was trained. These are the 32 epochs of 400 M pairs
    # of Radford et al. (2021). Sharpness-aware steps cost twice as much as ordinary steps.
    Training("CLIP", TwoTowers, clip_forward, 32_768, 390_625, forwards=6),
    Training(
        "autoregressive prior",
        lambda: AutoregressivePrior(AUTOREGRESSIVE_PRIOR),
        autoregressive_forward,
        4096,
        1_000_000,
    ),
    Training("diffusion prior", lambda: Prior(PRIOR), prior_forward, 4096, 600_000),
    Training("decoder", lambda: Decoder(DECODER), decoder_forward, 2048, 800_000),
    _upsampler("upsampler 64 to 256", UPSAMPLER256, 1024),
    _upsampler("upsampler 256 to 1024", UPSAMPLER1024, 512),
)


@dataclass(frozen=True)
class Measured:
    """What was counted in the forward pass of one sample, with products in bfloat16."""

    parameters: int
    operations: int  # a multiplication and an addition are two operations
    activations: int  # bytes that are kept for the backward pass
    recomputed: int  # the same with --recompute, which computes each block again


@cache
def measure(training: Training) -> Measured:
    """Counts parameters, operations and activations of a network, on fake tensors."""
    with FakeTensorMode():
        model = training.build()
        kept, counter = Kept(model), FlopCounterMode(display=False)
        with torch.autocast("cpu", torch.bfloat16), counter, kept.counted():
            training.forward(model)
        parameters = sum(p.numel() for p in model.parameters())
    return Measured(parameters, counter.get_total_flops(), kept.all(), kept.recomputed())


@dataclass(frozen=True)
class Plan:
    """A training on several GPUs. Each GPU has the whole network and a share of every batch."""

    training: Training
    gpus: int = GPUS

    @property
    def operations(self) -> float:
        """All operations of the training."""
        t = self.training
        return measure(t).operations * t.forwards * t.batch * t.iterations

    @property
    def compute_seconds(self) -> float:
        """The seconds in which the GPUs compute a step."""
        return self.operations / self.training.iterations / (self.gpus * GPU_SPEED * REACHED)

    @property
    def state(self) -> int:
        """The bytes on each GPU that do not depend on the batch."""
        return STATE * measure(self.training).parameters

    def fits(self, activations: int) -> int:
        """How many samples fit on a GPU at once, beside the state."""
        return max(0, int((USABLE * GPU_MEMORY - self.state) // activations))

    def parts(self, activations: int) -> int:
        """How many parts a GPU's share of the batch needs (--parts). 0 if no sample fits."""
        share, fits = self.training.batch // self.gpus, self.fits(activations)
        return next((k for k in range(1, share + 1) if share % k == 0 and share // k <= fits), 0)

    @property
    def exchange_seconds(self) -> float:
        """The seconds in which the GPUs exchange the gradients of a step.

        The exchange runs at the same time as the backward pass.
        """
        return ring_bytes(4 * measure(self.training).parameters, self.gpus) / LINK

    @property
    def days(self) -> float:
        """The days of the training if computing and exchange overlap completely."""
        step = max(self.compute_seconds, self.exchange_seconds)
        return step * self.training.iterations / 86_400


def ring_bytes(size: float, gpus: int) -> float:
    """The bytes that each GPU sends in a ring all-reduce of `size` bytes."""
    return 2 * (gpus - 1) / gpus * size


def tables() -> str:
    """The tables of docs/cluster.md."""
    plans = [Plan(training) for training in TRAININGS]
    lines = ["| network | parameters | operations, a sample forward | samples | all operations |"]
    lines.append("|---|---|---|---|---|")
    for plan in plans:
        t, m = plan.training, measure(plan.training)
        lines.append(
            f"| {t.name} | {m.parameters / 1e9:.2f} B | {m.operations / 1e9:,.0f} G "
            f"| {t.batch:,} × {t.iterations:,} | {plan.operations / 1e21:,.2f} × 10²¹ |"
        )
    lines.append("\n| network | state | a sample | recomputed | passes | step | exchange | days |")
    lines.append("|---|---|---|---|---|---|---|---|")
    for plan in plans:
        m = measure(plan.training)
        passes = [str(plan.parts(size) or "none") for size in (m.activations, m.recomputed)]
        lines.append(
            f"| {plan.training.name} | {plan.state / 1e9:.1f} GB | {m.activations / 1e9:.2f} GB "
            f"| {m.recomputed / 1e9:.2f} GB | {passes[0]}, recomputed {passes[1]} "
            f"| {plan.compute_seconds:.3f} s | {plan.exchange_seconds:.3f} s | {plan.days:.1f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    print(tables())
