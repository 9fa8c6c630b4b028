"""Two launches for a whole step: the loss with its gradient, and the optimisers, are recorded as
CUDA graphs and replayed.

Networks this small leave a GPU idle: each of thousands of operations is done before Python has
named the next. A graph names them all at once. It always reads and writes the same memory, so a
batch is copied to where the recorded one was, and so are the random numbers that the loss draws.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from minidalle2.tokenizer import PAD
from minidalle2.training.gradients import Loss, gradients_of, trained, with_gradients
from minidalle2.training.optimizer import Update

WARM_UPS = 3  # before a recording, for what CUDA's libraries set up at first use


class Graphed:
    """A loss for batches of one size (a tuple of tensors) that runs as a graph from its first call
    on. Tokens (B, T), the only integers with two dimensions, are padded to `context_length`.

    Equal to the loss to rounding. What the loss asks the CPU between two operations, or does
    otherwise in some step than in the first, can't be recorded.
    """

    def __init__(self, loss: Loss, context_length: int):
        self.loss, self.context_length = loss, context_length
        self.draws = Draws()
        self.graph: torch.cuda.CUDAGraph | None = None

    def __call__(
        self, model: nn.Module, batch: tuple[Tensor, ...], generator: torch.Generator
    ) -> Tensor:
        batch = tuple(self._padded(part) for part in batch)
        if self.graph is None:
            self._record(model, batch, generator)
        else:
            for place, part in zip(self.batch, batch, strict=True):
                place.copy_(part, non_blocking=True)
            self.draws.again(generator)
        self.graph.replay()
        return with_gradients(self.value, self.gradients, trained(model))

    def _padded(self, part: Tensor) -> Tensor:
        tokens = part.ndim == 2 and not part.is_floating_point()
        return F.pad(part, (0, self.context_length - part.shape[1]), value=PAD) if tokens else part

    def _record(self, model: nn.Module, batch: tuple[Tensor, ...], generator: torch.Generator):
        parameters = trained(model)
        device = parameters[0].device
        self.batch = tuple(part.to(device, copy=True) for part in batch)
        self.draws.first(device)

        def run() -> tuple[Tensor, list[Tensor | None]]:
            # A weight's bfloat16 copy, made in an earlier run, would be the same for ever.
            torch.clear_autocast_cache()
            with self.draws:
                value = self.loss(model, self.batch, generator)
            return value.detach(), gradients_of(value, parameters)

        beside = torch.cuda.Stream()
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):
            for _ in range(WARM_UPS):
                run()
                self.draws.rewind()
        torch.cuda.current_stream().wait_stream(beside)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.value, self.gradients = run()
        torch.clear_autocast_cache()


class Draws(TorchFunctionMode):
    """Within it, what a loss draws with a generator lies at fixed places of the device's memory.

    The first time it is drawn and put there; later times, after `rewind`, the same numbers are
    found there; `again` draws new ones, in the same order, into the same places.
    """

    def first(self, device: torch.device) -> None:
        self.device, self.places, self.at = device, [], 0
        self.calls: list[tuple[Callable, tuple, dict]] = []

    def rewind(self) -> None:
        self.at = 0

    def again(self, generator: torch.Generator) -> None:
        for place, (function, args, kwargs) in zip(self.places, self.calls, strict=True):
            place.copy_(function(*args, **kwargs, generator=generator), non_blocking=True)

    def __torch_function__(
        self, function: Callable, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        generator = kwargs.pop("generator", None)
        if generator is None:
            return function(*args, **kwargs)
        if self.at == len(self.calls):
            self.calls.append((function, args, kwargs))
            drawn = function(*args, **kwargs, generator=generator)
            self.places.append(drawn.to(self.device, copy=True))
        self.at += 1
        return self.places[self.at - 1]


class GraphedUpdate(Update):
    """An update that runs as a graph from its second call on; the first makes the optimisers'
    states. Equal to the update to rounding."""

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
        """Of the parameters that have gradients; those of later steps will be copied to theirs."""
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
