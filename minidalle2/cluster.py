"""What the paper's networks would take to train: operations, memory, GPUs, days.

python -m minidalle2.cluster

Operations and activations are counted while our classes run with the sizes of table 3 on fake
tensors, which have shapes but no memory (torch's FlopCounterMode and FakeTensorMode). What is
assumed of the GPUs stands below. docs/cluster.md explains.
Left out: tensors that only live for a moment, fragmentation, data loading, failures.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from minidalle2.autoregressive_prior import AutoregressivePrior
from minidalle2.clip import ImageTower, TextTower
from minidalle2.decoder import Decoder
from minidalle2.paper import (
    AUTOREGRESSIVE_PRIOR, CONTEXT, DECODER, E, IMAGE_TOWER, PRIOR, TEXT_TOWER, UPSAMPLER256,
    UPSAMPLER1024,
)  # fmt: skip
from minidalle2.prior import Prior
from minidalle2.training.activations import Kept
from minidalle2.upsampler import Upsampler, UpsamplerConfig

GPU_SPEED = 989e12  # operations a second: an H100's bfloat16 products, dense (its data sheet)
GPU_MEMORY = 80e9  # bytes
REACHED = 0.4  # of GPU_SPEED: assumed
USABLE = 0.9  # of GPU_MEMORY: assumed
LINK = 50e9  # bytes a second out of each GPU: 400 Gb/s, assumed
# Of a parameter, in float32: itself, gradient, Adam's two moments, average. And its bfloat16 copy.
STATE = 4 * 5 + 2
GPUS = 64


class TwoTowers(nn.Module):
    """CLIP with the paper's two widths, which our CLIP does not have."""

    def __init__(self):
        super().__init__()
        self.image_tower, self.text_tower = ImageTower(IMAGE_TOWER), TextTower(TEXT_TOWER)


@dataclass(frozen=True)
class Training:
    """A network's training: how it is built, one sample's way through it, and table 3's numbers."""

    name: str
    build: Callable[[], nn.Module]
    forward: Callable[[Any], object]
    batch: int
    iterations: int
    forwards: int = 3  # that a step costs: a backward pass is two


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
    """Without `encode_text`, which looks for equal captions: fake ones have no content."""
    context, mask = decoder.text_encoder(_tokens(CONTEXT)), torch.ones(1, CONTEXT).bool()
    z_i = decoder.image_condition(torch.zeros(1, E), _no())
    return decoder(torch.zeros(1, 3, 64, 64), torch.zeros(1), z_i, context, mask)


def upsampler_forward(upsampler: Upsampler) -> Tensor:
    """Of a window of a quarter of the size, as in training. Ours takes half its size as input, the
    paper's a quarter: the same work, but for the enlarging."""
    return upsampled(upsampler, upsampler.config.size // 4)


def upsampled(upsampler: Upsampler, size: int) -> Tensor:
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
    # The paper does not say how long its CLIP trained; this is Radford et al.'s (2021), 32 epochs
    # of 400 M pairs. Its sharpness-aware steps cost twice.
    Training("CLIP", TwoTowers, clip_forward, 32_768, 390_625, forwards=6),
    Training(
        "autoregressive prior", lambda: AutoregressivePrior(AUTOREGRESSIVE_PRIOR),
        autoregressive_forward, 4096, 1_000_000,
    ),
    Training("diffusion prior", lambda: Prior(PRIOR), prior_forward, 4096, 600_000),
    Training("decoder", lambda: Decoder(DECODER), decoder_forward, 2048, 800_000),
    _upsampler("upsampler 64 to 256", UPSAMPLER256, 1024),
    _upsampler("upsampler 256 to 1024", UPSAMPLER1024, 512),
)  # fmt: skip


@dataclass(frozen=True)
class Measured:
    """Of one sample's forward pass, products in bfloat16."""

    parameters: int
    operations: int  # a multiplication and an addition are two
    activations: int  # bytes kept for the way back
    recomputed: int  # bytes kept if each block is computed again: --recompute


@cache
def measure(training: Training) -> Measured:
    with FakeTensorMode():
        model = training.build()
        kept, counter = Kept(model), FlopCounterMode(display=False)
        with torch.autocast("cpu", torch.bfloat16), counter, kept.counted():
            training.forward(model)
        parameters = sum(p.numel() for p in model.parameters())
    return Measured(parameters, counter.get_total_flops(), kept.all(), kept.recomputed())


@dataclass(frozen=True)
class Plan:
    """A training on some GPUs that each hold the whole network and a share of every batch."""

    training: Training
    gpus: int = GPUS

    @property
    def operations(self) -> float:
        """Of the whole training."""
        t = self.training
        return measure(t).operations * t.forwards * t.batch * t.iterations

    @property
    def compute_seconds(self) -> float:
        """Of a step."""
        return self.operations / self.training.iterations / (self.gpus * GPU_SPEED * REACHED)

    @property
    def state(self) -> int:
        """Bytes on each GPU that do not depend on the batch."""
        return STATE * measure(self.training).parameters

    def fits(self, activations: int) -> int:
        """Samples that a GPU holds at once beside the state."""
        return max(0, int((USABLE * GPU_MEMORY - self.state) // activations))

    def parts(self, activations: int) -> int:
        """Passes that a GPU's share of the batch takes (--parts); 0 where not one sample fits."""
        share, fits = self.training.batch // self.gpus, self.fits(activations)
        return next((k for k in range(1, share + 1) if share % k == 0 and share // k <= fits), 0)

    @property
    def exchange_seconds(self) -> float:
        """Of a step's gradients, which travel while the backward pass computes."""
        return ring_bytes(4 * measure(self.training).parameters, self.gpus) / LINK

    @property
    def days(self) -> float:
        """At best: whatever takes longer hides the other."""
        step = max(self.compute_seconds, self.exchange_seconds)
        return step * self.training.iterations / 86_400


def ring_bytes(size: float, gpus: int) -> float:
    """Bytes that each GPU sends to sum `size` bytes over all: a ring all-reduce."""
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
