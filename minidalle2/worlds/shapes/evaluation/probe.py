"""How much of a scene is in z_i? A small network reads every attribute from the embedding alone.

The decoder can't draw from z_i what z_i does not contain.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minidalle2.clip import CLIP
from minidalle2.storage.progress import each
from minidalle2.worlds.shapes.drawing import draw
from minidalle2.worlds.shapes.judge import HEADS, answers_of
from minidalle2.worlds.shapes.scenes import Scenes, sample_scenes

QUESTIONS = ("shape", "colour", "size", "background")
KINDS = ("one", "two")


def scene_accuracy(clip: CLIP, scenes: int = 60_000, steps: int = 4_000, seed: int = 0) -> float:
    """The share of new scenes with one or two objects in which the probe reads everything right."""
    generator = torch.Generator().manual_seed(seed)
    z_train, truth_train = _embed(clip, sample_scenes(scenes, "train", generator, KINDS))
    z_test, truth_test = _embed(clip, sample_scenes(4_000, "seen", generator, KINDS))
    probe = _fit(z_train, truth_train, steps, generator)
    with torch.no_grad():
        read = {name: logits.argmax(-1) for name, logits in _logits(probe, z_test).items()}
    right = [((read[q] == truth_test[q]) | (truth_test[q] < 0)).all(1) for q in QUESTIONS]
    return torch.stack(right).all(0).float().mean().item()


@torch.no_grad()
def _embed(clip: CLIP, scenes: Scenes) -> tuple[Tensor, dict[str, Tensor]]:
    device = next(clip.parameters()).device
    starts = each(range(0, len(scenes), 1000), f"embedding {len(scenes):,} scenes")
    parts = (scenes[i : i + 1000] for i in starts)
    z = [clip.encode_image(draw(part, clip.config.image_size).to(device)).cpu() for part in parts]
    return torch.cat(z) * clip.config.embedding**0.5, answers_of(scenes)


def _fit(z: Tensor, truth: dict[str, Tensor], steps: int, generator: torch.Generator) -> nn.Module:
    answers = sum(HEADS[q][0] * HEADS[q][1] for q in QUESTIONS)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        probe = nn.Sequential(
            nn.Linear(z.shape[1], 512),
            nn.GELU(),
            nn.Linear(512, 512),
            nn.GELU(),
            nn.Linear(512, answers),
        )
    optimizer = torch.optim.AdamW(probe.parameters(), lr=1e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    for _ in each(range(steps), "training the probe"):
        rows = torch.randint(len(z), (256,), generator=generator)
        logits = _logits(probe, z[rows])
        loss = sum(
            F.cross_entropy(logits[q].flatten(0, 1), truth[q][rows].flatten(), ignore_index=-1)
            for q in QUESTIONS
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return probe


def _logits(probe: nn.Module, z: Tensor) -> dict[str, Tensor]:
    parts = probe(z).split([HEADS[q][0] * HEADS[q][1] for q in QUESTIONS], dim=1)
    return {q: part.reshape(-1, *HEADS[q]) for q, part in zip(QUESTIONS, parts, strict=True)}
