"""A whole training step as two CUDA graphs: the loss with its gradient, and the optimizers.

With networks this small a GPU is idle most of the time: each of thousands of operations ends
before Python has started the next. A CUDA graph starts all of them at once. It always reads and
writes the same memory. So each batch, and the random numbers of the loss, are copied to the place
of the recorded ones.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minidalle2.tokenizer import PAD
from minidalle2.training.gradients import gradients_of, trained, with_gradients
from minidalle2.training.jobs import AnyJob, Draws
from minidalle2.training.optimizer import Update

WARM_UPS = 3  # runs before the recording, in which CUDA's libraries initialise themselves


class Graphed:
    """The loss of a job, for batches of one size, as a graph that is recorded at the first call.

    Batches are tuples of tensors. Tokens (B, T), the only integers with two dimensions, are padded
    to `context_length`. The result equals the loss up to rounding. A loss that needs a value
    on the CPU, or whose operations differ from step to step, cannot be recorded.
    """

    def __init__(self, job: AnyJob, context_length: int):
        self.job, self.context_length = job, context_length
        self.graph: torch.cuda.CUDAGraph | None = None

    def __call__(
        self, model: nn.Module, batch: tuple[Tensor, ...], generator: torch.Generator
    ) -> Tensor:
        batch = tuple(self._padded(part) for part in batch)
        draws = self.job.draws(model, len(batch[0]), generator)
        if self.graph is None:
            self._record(model, batch, draws)
        for place, part in zip((*self.batch, *self.draws), (*batch, *draws), strict=True):
            place.copy_(part, non_blocking=True)
        self.graph.replay()
        return with_gradients(self.value, self.gradients, trained(model))

    def _padded(self, part: Tensor) -> Tensor:
        tokens = part.ndim == 2 and not part.is_floating_point()
        return F.pad(part, (0, self.context_length - part.shape[1]), value=PAD) if tokens else part

    def _record(self, model: nn.Module, batch: tuple[Tensor, ...], draws: Draws) -> None:
        parameters = trained(model)
        device = parameters[0].device
        self.batch = tuple(part.to(device, copy=True) for part in batch)
        self.draws = tuple(draw.to(device, copy=True) for draw in draws)

        def run() -> tuple[Tensor, list[Tensor | None]]:
            # Autocast caches bfloat16 copies of the weights. In a graph they would never change.
            torch.clear_autocast_cache()
            value = self.job.loss_at(model, self.batch, self.draws)
            return value.detach(), gradients_of(value, parameters)

        warm_up = torch.cuda.Stream()
        warm_up.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(warm_up):
            for _ in range(WARM_UPS):
                run()
        torch.cuda.current_stream().wait_stream(warm_up)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.value, self.gradients = run()
        torch.clear_autocast_cache()


class GraphedUpdate(Update):
    """An update that runs as a graph from its second call on.

    The first call creates the optimizers' states. The result equals the update up to rounding.
    """

    graph: torch.cuda.CUDAGraph | None = None
    called = False

    def __call__(self, rate: float) -> Tensor:
        if not self.called:
            self.called = True
            return super().__call__(rate)
        self.set(rate)
        if self.graph is None:
            self._record()
        given = [p.grad for p in self.reached]
        torch._foreach_copy_(self.gradients, given)
        self.graph.replay()
        return self.norm

    def _record(self) -> None:
        """Records the update of the parameters that have gradients, with gradients in one place."""
        self.reached = [p for p in self.params if p.grad is not None]
        given = [p.grad for p in self.reached]
        self.gradients = [torch.empty_like(gradient) for gradient in given]
        self._assign(self.gradients)
        torch.cuda.synchronize()
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.norm = self.step()
        self._assign(given)

    def _assign(self, gradients: list[Tensor]) -> None:
        for p, gradient in zip(self.reached, gradients, strict=True):
            p.grad = gradient
