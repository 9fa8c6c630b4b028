"""How much of this machine our training uses: the model's FLOP/s beside what the machine reaches in
matrix products (2048³) and in 3x3 convolutions (64 to 64 channels at 32 px, both passes) alone.

A step's products and convolutions are counted apart; each would take so long at the machine's own
rate, and the share is that time of the time that a step takes. Everything else (norms, softmax,
optimiser, drawing the data) only lengthens the step.
"""

import torch

from minidalle2.scale.limits import limits, operations_of_a_step
from minidalle2.storage.memory import keep_freed_memory
from minidalle2.training.recipe import Recipe
from tests.benchmarks import training

JOBS = {"CLIP": ("clip", 256), "prior": ("prior", 256), "decoder": ("decoder", 64)}


def ours(seconds: float, seed: int) -> dict:
    keep_freed_memory()
    machine = limits(0.75 * seconds)
    numbers = {
        "products, GFLOP/s": machine.products / 1e9,
        "convolutions, GFLOP/s": machine.convolutions / 1e9,
    }
    for name, (stage, batch_size) in JOBS.items():
        job = training.our_job(stage, Recipe(steps=4, batch_size=batch_size, seed=seed))
        model = job.model
        batch = job.data(batch_size, torch.Generator().manual_seed(0))
        operations = operations_of_a_step(model, job.loss, batch)
        done = training.train_for(
            seconds / 2, model, job.data, job.loss, training.our_optimizers(model), batch_size, seed
        )
        step = batch_size / done.per_second
        numbers[f"{name}: GFLOP/s"] = sum(operations) / step / 1e9
        numbers[f"{name}: share of the machine, %"] = (
            100 * machine.ideal_seconds(*operations) / step
        )
    return numbers


MEASURES = {"minidalle2": ours}
