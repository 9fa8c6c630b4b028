"""A run's folder → weights to ship: 8 bits a weight, nothing that only training needs.

python -m minidalle2.training.release runs/shapes minidalle2/weights/shapes
"""

import shutil
import sys
from pathlib import Path

from minidalle2.any_prior import PRIORS
from minidalle2.clip import CLIP, CLIPConfig
from minidalle2.dalle2 import MODELS
from minidalle2.decoder import DecoderConfig
from minidalle2.evaluation.judging import judge_of
from minidalle2.regression_prior import RegressionPrior, RegressionPriorConfig
from minidalle2.glide import Glide
from minidalle2.training.checkpoints import load_model, save_model
from minidalle2.training.eight_bits import pack
from minidalle2.worlds.emoji.names import data_folder


def release(run: Path, weights: Path) -> float:
    """Copy every stage of `run` that is there into `weights`, a folder that is named after its
    world; → megabytes in all."""
    weights.mkdir(parents=True, exist_ok=True)
    shutil.copy(run / "tokenizer.json", weights / "tokenizer.json")
    stages = dict(MODELS)
    stages |= {stage: classes for stage, *classes in PRIORS.values()}
    stages["regression_prior"] = (RegressionPriorConfig, RegressionPrior)
    stages["glide"] = (DecoderConfig, Glide)
    if (run / "judge").is_dir():
        judge = judge_of(weights.name)
        stages["judge"] = (judge.JudgeConfig, judge.Judge)
    for stage, classes in stages.items():
        if (run / stage).is_dir():
            save_model(weights / stage, stage, load_model(run / stage, stage, *classes), pack)
    if (run / "image_tower").is_dir():  # CLIP with a second one takes the place of CLIP without
        clip = load_model(run / "image_tower", "image_tower", CLIPConfig, CLIP)
        save_model(weights / "clip", "clip", clip, pack)
    if weights.name == "emoji":  # whoever shares the weights owes the artists their credits
        shutil.copytree(data_folder() / "LICENSES", weights / "LICENSES", dirs_exist_ok=True)
    return sum(path.stat().st_size for path in weights.rglob("*") if path.is_file()) / 1e6


if __name__ == "__main__":
    print(f"{release(Path(sys.argv[1]), Path(sys.argv[2])):.2f} MB in {sys.argv[2]}")
