"""How long each stage is trained, in several profiles.

`smoke` shows in seconds that everything runs. `laptop` goes from nothing to pictures in about 40
minutes on 2 CPU cores. `full` takes longer and draws better. `finetune` continues from pretrained
weights with a few hundred pictures. A world may have its own recipes.
"""

from collections.abc import Mapping
from dataclasses import replace

from minidalle2.training.recipe import Recipe

LAPTOP = {
    "clip": Recipe(steps=600, batch_size=256),
    "prior": Recipe(steps=1_600, batch_size=128),
    "decoder": Recipe(steps=2_000, batch_size=32),
    "upsampler64": Recipe(steps=2_000, batch_size=64),
    "upsampler128": Recipe(steps=2_000, batch_size=32),
    "judge": Recipe(steps=1_200, batch_size=128, learning_rate=2e-3),
    "autoregressive_prior": Recipe(steps=1_800, batch_size=256),
    "regression_prior": Recipe(steps=1_800, batch_size=256, learning_rate=2e-3),
    "glide": Recipe(steps=700, batch_size=64, learning_rate=2e-3),  # continues from the decoder
    "image_tower": Recipe(steps=800, batch_size=256, learning_rate=3e-3, weight_decay=0.1),
}
FULL = LAPTOP | {
    "clip": Recipe(steps=1_200, batch_size=256),
    "prior": Recipe(steps=4_000, batch_size=256),
    "autoregressive_prior": Recipe(steps=4_000, batch_size=1024),
    "regression_prior": Recipe(steps=4_000, batch_size=256, learning_rate=2e-3),
    "decoder": Recipe(steps=8_500, batch_size=128, restarts=(5_300,)),
    "upsampler64": Recipe(steps=6_000, batch_size=64),
    "upsampler128": Recipe(steps=6_000, batch_size=32),
    "glide": Recipe(steps=1_600, batch_size=128, learning_rate=2e-3),
}
SMOKE = {
    stage: replace(recipe, steps=4, batch_size=8, warmup_steps=2)
    for stage, recipe in LAPTOP.items()
}
# From pretrained weights, on 200 to 2,000 pictures. It is meant to take about ten minutes on 2 CPU
# cores, which has not been measured. The rates are lower than above, so that the networks keep what
# they know. CLIP would soon memorise so few pictures. So it sees the fewest of them, augmented, and
# has more weight decay. Of 300 pictures it sees each one about 40 times.
FINETUNE = LAPTOP | {
    "clip": Recipe(
        steps=100, batch_size=128, learning_rate=2e-3, warmup_steps=20, weight_decay=0.1
    ),
    "prior": Recipe(steps=500, batch_size=128, learning_rate=2e-3, warmup_steps=50),
    "autoregressive_prior": Recipe(steps=500, batch_size=128, learning_rate=2e-3, warmup_steps=50),
    "regression_prior": Recipe(steps=500, batch_size=128, learning_rate=1e-3, warmup_steps=50),
    "decoder": Recipe(steps=450, batch_size=32, learning_rate=2e-3, warmup_steps=50),
    "glide": Recipe(steps=200, batch_size=64, learning_rate=1e-3, warmup_steps=50),
    "upsampler64": Recipe(steps=300, batch_size=64, learning_rate=1e-3, warmup_steps=50),
    "upsampler128": Recipe(steps=300, batch_size=32, learning_rate=1e-3, warmup_steps=50),
}
# `minidalle2 speedrun` (docs/speedrun.md): scenes of one and two objects only, no upsamplers.
SPEEDRUN = LAPTOP | {
    "clip": Recipe(steps=350, batch_size=256, warmup_steps=50),
    "prior": Recipe(steps=1_400, batch_size=128, warmup_steps=50),
    "decoder": Recipe(steps=850, batch_size=32, warmup_steps=50),
}
# The same on one GPU, where a large batch takes no longer than a small one.
SPEEDRUN_GPU = LAPTOP | {
    "clip": Recipe(steps=350, batch_size=512, warmup_steps=50),
    "prior": Recipe(steps=1_250, batch_size=256, warmup_steps=50),
    "decoder": Recipe(steps=850, batch_size=128, warmup_steps=50),
    "glide": replace(LAPTOP["glide"], steps=160),
}
PROFILES = {
    "smoke": SMOKE,
    "laptop": LAPTOP,
    "full": FULL,
    "finetune": FINETUNE,
    "speedrun": SPEEDRUN,
    "speedrun_gpu": SPEEDRUN_GPU,
}
# Minutes of each stage with `laptop` on 2 cores. `train all --minutes` is divided in proportion.
LAPTOP_MINUTES = {
    "clip": 10.3,
    "prior": 7.0,
    "decoder": 15.4,
    "upsampler64": 1.9,
    "upsampler128": 3.5,
    "judge": 2.6,
    "autoregressive_prior": 9.0,
    "regression_prior": 2.0,
    "glide": 5.2,
    "image_tower": 18.6,
}
# The same for the stages of `train all --from` with `finetune`.
FINETUNE_MINUTES = {"clip": 2.0, "prior": 2.0, "decoder": 6.0}


def recipe_of(own: Mapping[str, Mapping[str, Recipe]], profile: str, stage: str) -> Recipe:
    """The world's `own` recipe for a stage, or else the profile's.

    A stage that no profile knows, such as a new prior, is trained like the diffusion prior.
    """
    recipes = {**PROFILES[profile], **own.get(profile, {})}
    return recipes.get(stage, recipes["prior"])


def split_minutes(
    stages: list[str], minutes: float, shares: Mapping[str, float] = LAPTOP_MINUTES
) -> dict[str, float]:
    """Minutes for each of the stages, in proportion to `shares`."""
    total = sum(shares.get(stage, 0) for stage in stages)
    return {stage: minutes * shares.get(stage, 0) / total for stage in stages}
