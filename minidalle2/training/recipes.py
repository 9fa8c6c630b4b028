"""How long and how each stage trains, in three sizes.

`smoke` shows in seconds that everything runs; `laptop` makes the committed weights in under 45
minutes on 2 CPU cores; `full` is for a GPU, or a night.
"""

from dataclasses import replace

from minidalle2.training.loop import Recipe

LAPTOP = {
    "clip": Recipe(steps=1_200, batch_size=256),
    "prior": Recipe(steps=1_200, batch_size=256),
    "decoder": Recipe(steps=4_900, batch_size=64, learning_rate=6e-3),
    "upsampler64": Recipe(steps=2_000, batch_size=64),
    "upsampler128": Recipe(steps=2_000, batch_size=32),
    "judge": Recipe(steps=1_200, batch_size=128, learning_rate=2e-3),
}
FULL = {
    "clip": Recipe(steps=6_000, batch_size=512),
    "prior": Recipe(steps=20_000, batch_size=512),
    "decoder": Recipe(steps=60_000, batch_size=128, ema_decay=0.9995),
    "upsampler64": Recipe(steps=10_000, batch_size=128),
    "upsampler128": Recipe(steps=10_000, batch_size=64),
    "judge": Recipe(steps=2_000, batch_size=128, learning_rate=2e-3),
}
SMOKE = {
    stage: replace(recipe, steps=4, batch_size=8, warmup_steps=2)
    for stage, recipe in LAPTOP.items()
}
PROFILES = {"smoke": SMOKE, "laptop": LAPTOP, "full": FULL}


# Minutes that `laptop` takes for each stage on 2 cores; `train all --minutes` is divided like this.
LAPTOP_MINUTES = {
    "clip": 10.0,
    "prior": 4.1,
    "decoder": 24.5,
    "upsampler64": 1.3,
    "upsampler128": 1.9,
    "judge": 2.9,
}


def split_minutes(stages: list[str], minutes: float) -> dict[str, float]:
    """Minutes for each of the stages, in the proportions of LAPTOP_MINUTES."""
    total = sum(LAPTOP_MINUTES.get(stage, 0) for stage in stages)
    return {stage: minutes * LAPTOP_MINUTES.get(stage, 0) / total for stage in stages}
