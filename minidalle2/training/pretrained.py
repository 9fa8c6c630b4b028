"""Pretrained weights, from which the stages of a run start (`minidalle2 train --from`).

The tokenizer and the way of sampling are taken over, because the networks depend on them. Each
network starts with the pretrained weights and keeps their sizes, so the sizes of the world have no
effect. The folder of pretrained weights is never changed.
"""

import shutil
from functools import partial
from pathlib import Path
from typing import Any

from minidalle2.clip import CLIP, CLIPConfig
from minidalle2.dalle2 import load_sampling, save_sampling
from minidalle2.decoder import Decoder, DecoderConfig
from minidalle2.priors.kinds import PRIORS
from minidalle2.storage.checkpoints import load_model, load_tokenizer, write_atomically
from minidalle2.storage.records import Record, check_inputs, file_of, weights_of, write_record
from minidalle2.training.glide import Glide
from minidalle2.training.lineage import listed, needs
from minidalle2.training.starts import name_of, start_of
from minidalle2.upsampler import Upsampler, UpsamplerConfig

CLASSES = {  # of the stages that can start from pretrained weights
    "clip": (CLIPConfig, CLIP),
    **{kind.stage: (kind.config, kind.model) for kind in PRIORS.values()},
    "decoder": (DecoderConfig, Decoder),
    "glide": (DecoderConfig, Glide),
    "upsampler64": (UpsamplerConfig, Upsampler),
    "upsampler128": (UpsamplerConfig, Upsampler),
}
# `train all` copies these, because the decoder needs the time more.
COPIED = ("upsampler64", "upsampler128")
LICENCES = "LICENSES"  # the folder with the credits of training pictures


def pretrained(stage: str, weights: Path) -> Any:
    """The network of a stage with its pretrained weights, to train further, on the CPU.

    Raises CheckpointError for a missing or broken checkpoint.
    """
    return load_model(weights / stage, stage, *CLASSES[stage]).train()


def check_weights(stages: tuple[str, ...], weights: Path, folder: Path) -> None:
    """Raises ValueError if the stages of the run in `folder` can't start from `weights`.

    Raises CheckpointError if the pretrained stages come from different trainings.
    """
    if weights.resolve() == folder.resolve():
        raise ValueError(
            f"--from and --out are the same folder, {folder}; choose another folder with --out. To "
            "continue a training, use --resume"
        )
    for stage in stages:
        check_stage(stage, weights)
        if "tokenizer" in needs().get(stage, ()):
            check_tokenizer(stage, weights, folder)


def check_stage(stage: str, weights: Path) -> None:
    """Raises ValueError if the stage can't start from pretrained weights, or not from these."""
    if stage == "tokenizer":
        load_tokenizer(file_of(stage, weights))
        return
    if stage not in CLASSES:
        raise ValueError(f"{stage} can't start from pretrained weights; train it without --from")
    if not weights_of(stage, weights).is_file():
        there = [name for name in CLASSES if weights_of(name, weights).is_file()] or ["no stage"]
        raise ValueError(
            f"the weights {name_of(weights)} have no {stage} (they have {listed(there)}); "
            f"train {stage} without --from, or start from other weights"
        )
    check_inputs(stage, weights)


def check_tokenizer(stage: str, weights: Path, folder: Path) -> None:
    """Raises ValueError if the run has a tokenizer that gives captions other ids."""
    own, given = (file_of("tokenizer", place) for place in (folder, weights))
    if own.is_file() and load_tokenizer(own).merges != load_tokenizer(given).merges:
        raise ValueError(
            f"the tokenizer in {folder} is not that of the weights {name_of(weights)}, so {stage} "
            "can't start from them; choose another folder with --out"
        )


def take_tokenizer(weights: Path, folder: Path) -> None:
    """Copies the pretrained tokenizer, sampling.json and the licences to `folder`."""
    take_licences(weights, folder)
    save_sampling(folder, load_sampling(weights))
    write_record(Record({}, (), start_of("tokenizer", weights)), "tokenizer", folder)
    copy_file(file_of("tokenizer", weights), file_of("tokenizer", folder))


def take_licences(weights: Path, folder: Path) -> None:
    """Copies the licences of the pretrained weights, because weights that start from them must
    credit the same artists.
    """
    if (weights / LICENCES).is_dir():
        shutil.copytree(weights / LICENCES, folder / LICENCES, dirs_exist_ok=True)


def copy_stage(stage: str, weights: Path, folder: Path) -> None:
    """Copies the checkpoint of a stage, which is then not trained."""
    write_record(Record({}, (), start_of(stage, weights)), stage, folder)
    for name in ("config.json", "model.safetensors"):
        copy_file(weights / stage / name, folder / stage / name)


def copy_file(source: Path, target: Path) -> None:
    write_atomically(target, partial(shutil.copyfile, source))
