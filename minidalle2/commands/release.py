"""Copies the weights of a run to a folder that is shipped with minidalle2.

The weights are stored in 8 bits. Files that only training needs are left out. For the weights of a
world with a name, familiarity.json is measured (commands/familiarity.py).

python -m minidalle2.commands.release runs/shapes minidalle2/weights/shapes
"""

import shutil
import sys
from pathlib import Path

from minidalle2.clip import CLIP, CLIPConfig
from minidalle2.commands.familiarity import FILE, write_threshold
from minidalle2.storage.checkpoints import load_model, save_model
from minidalle2.storage.eight_bits import pack
from minidalle2.storage.records import check_inputs
from minidalle2.training.pretrained import CLASSES, LICENCES, take_licences
from minidalle2.worlds.catalogue import find, open_world


def release(run: Path, weights: Path) -> float:
    """Copies every stage in `run` to `weights`, a folder that has the name of the world.

    Returns the size of all files in megabytes. Raises CheckpointError if a stage was trained with
    another tokenizer or another earlier stage than those in `run`.
    """
    for stage in (*CLASSES, "image_tower"):
        check_inputs(stage, run)
    weights.mkdir(parents=True, exist_ok=True)
    for name in ("tokenizer.json", "sampling.json", FILE):
        (weights / name).unlink(missing_ok=True)
        if (run / name).is_file():
            shutil.copy(run / name, weights / name)
    take_licences(run, weights)
    stages = dict(CLASSES)
    world = find(weights.name)
    if world:
        stages["judge"] = (world.judge.config, world.judge.model)
        if world.licences:
            shutil.copytree(world.licences(), weights / LICENCES, dirs_exist_ok=True)
    for stage, classes in stages.items():
        if (run / stage).is_dir():
            save_model(weights / stage, stage, load_model(run / stage, stage, *classes), pack)
    if (run / "image_tower").is_dir():  # the CLIP with two image towers replaces the first CLIP
        clip = load_model(run / "image_tower", "image_tower", CLIPConfig, CLIP)
        save_model(weights / "clip", "clip", clip, pack)
    return sum(path.stat().st_size for path in weights.rglob("*") if path.is_file()) / 1e6


if __name__ == "__main__":
    target = Path(sys.argv[2])
    print(f"{release(Path(sys.argv[1]), target):.2f} MB in {target}")
    if find(target.name):
        print(f"{write_threshold(target, open_world(target.name)):.1f} dB in {target / FILE}")
