"""A few steps of the speedrun's training must teach as much as they did. Steps count, not seconds.

Each stage takes a few small batches at the speedrun's learning rate, with the committed weights of
the stages that it needs. Then the loss of its averaged weights is measured on data of another seed.
With seed 0 the losses were 1.18 (CLIP), 0.035 (prior) and 0.24 (decoder). The limits are 10 to 30 %
higher. Changes that slow learning exceed them: with a transformer as image tower CLIP's loss was
1.5, with a third of the learning rate the prior's was 0.081, with AdamW at 1e-3 in place of Muon
0.065.
"""

from dataclasses import replace

import pytest
import torch

from minidalle2.dalle2 import WEIGHTS
from minidalle2.training import stages
from minidalle2.training.alignment import AlignedDecoder
from minidalle2.training.loop import fit
from minidalle2.training.recipes import recipe_of
from minidalle2.worlds.shapes.speedrun import KINDS
from minidalle2.worlds.shapes.world import Shapes

LEARNED = {  # stage: (steps, batch size, loss that the average stays below)
    "clip": (150, 64, 1.3),
    "prior": (200, 64, 0.045),
    "decoder": (80, 16, 0.28),
}
MEASURED = {"clip": 256, "prior": 256, "decoder": 128}  # how many at once, twice


def loss_after(stage: str, steps: int, batch_size: int, folder) -> float:
    recipe = replace(
        recipe_of(Shapes.recipes, "speedrun", stage),
        steps=steps,
        batch_size=batch_size,
        warmup_steps=20,
    )
    setting = stages.Setting(Shapes(KINDS), WEIGHTS / "shapes", torch.device("cpu"))
    job = stages.make_job(stage, setting, recipe)
    for step in fit(job.model, job.data, job.loss, recipe, folder, stage, job.kept):
        average = step.average
    if isinstance(job.model, AlignedDecoder):  # whose loss asks its head, too
        job.model.decoder.load_state_dict(average.state_dict())
        average = job.model
    generator = torch.Generator().manual_seed(10**9)
    with torch.no_grad():
        batches = (job.data(MEASURED[stage], generator) for _ in range(2))
        return sum(job.loss(average.eval(), batch, generator).item() for batch in batches) / 2


@pytest.mark.parametrize("stage", LEARNED)
def test_a_few_steps_teach_as_much_as_they_did(stage, tmp_path):
    steps, batch_size, most = LEARNED[stage]
    assert loss_after(stage, steps, batch_size, tmp_path) < most
