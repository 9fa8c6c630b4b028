"""DALLE2: unCLIP with its weights on disk.

    from minidalle2.dalle2 import DALLE2
    made = DALLE2.load("shapes").generate("a red circle")
    made.show()

unclip.py has the model itself. A folder of weights holds tokenizer.json, a checkpoint folder for
each stage, and sampling.json if the weights are not sampled in the default way.
"""

import json
import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from minidalle2.clip import CLIP, CLIPConfig
from minidalle2.decoder import Decoder, DecoderConfig
from minidalle2.priors.kinds import PriorKind, kind_of
from minidalle2.storage.checkpoints import (
    CheckpointError,
    config_from_dict,
    load_model,
    load_tokenizer,
    reading,
    write_json,
)
from minidalle2.storage.input_pictures import Pictures, as_pictures
from minidalle2.storage.inputs import (
    Numbers,
    Seeds,
    as_embeddings,
    as_noise,
    as_seeds,
    check_count,
)
from minidalle2.storage.memory import keep_freed_memory
from minidalle2.storage.records import check_inputs
from minidalle2.storage.result import Result
from minidalle2.tokenizer import as_texts
from minidalle2.unclip import (
    Generation,
    Sampling,
    StartingNoise,
    UnCLIP,
    check_seeds,
    most_faithful,
    nearest,
    pick,
)
from minidalle2.upsampler import Upsampler, UpsamplerConfig

__all__ = ["DALLE2", "STAGES", "WEIGHTS", "Generation", "Result", "Sampling", "StartingNoise"]

STAGES = ("text_embedding", "image_embeddings", "image32", "image64", "image128")
WEIGHTS = Path(__file__).parent / "weights"  # the weights that come with minidalle2


@dataclass(eq=False, repr=False)
class DALLE2(UnCLIP):
    """An UnCLIP that can be loaded from a folder, and that can run a part of its stages."""

    @classmethod
    def load(
        cls,
        weights: str | Path,
        device: torch.device | str = "cpu",
        prior: str | PriorKind = "diffusion",
    ) -> "DALLE2":
        """Reads all stages of a folder, or of weights that come with minidalle2 ("shapes").

        A string that is the name of such weights means them, also if there is a folder with this
        name; write "./shapes" or Path("shapes") for the folder. Path("shapes") means them only if
        there is no such folder. `prior` is one of priors.kinds.PRIORS, or a PriorKind of your own.
        From then on the process keeps freed memory (storage/memory.py). Raises CheckpointError if
        the folder lacks a stage, or if its stages come from different trainings.
        """
        folder = weights_folder(weights)
        keep_freed_memory()
        kind = kind_of(prior)
        for stage in ("clip", kind.stage, "decoder"):
            check_inputs(stage, folder)
        place = {"device": device, "memory_format": torch.channels_last}  # faster convolutions
        dalle2 = cls(
            tokenizer=load_tokenizer(folder / "tokenizer.json"),
            clip=load_model(folder / "clip", "clip", CLIPConfig, CLIP).to(**place),
            prior=load_prior(folder, kind).to(device),
            decoder=load_model(folder / "decoder", "decoder", DecoderConfig, Decoder).to(**place),
            upsampler64=load_upsampler(folder, 64).to(**place),
            upsampler128=load_upsampler(folder, 128).to(**place),
            sampling=load_sampling(folder),
        )
        dalle2.check_fit(folder, kind.stage)
        return dalle2

    @torch.no_grad()
    def generate(
        self,
        prompts: str | list[str],
        seeds: Seeds | None = None,
        sampling: Sampling | None = None,
        noise: StartingNoise | None = None,
        stop_after: str = "image128",
        image_embeddings: Numbers | None = None,
        image32: Pictures | None = None,
        image64: Pictures | None = None,
    ) -> Result:
        """Like UnCLIP.generate, but can start from given results and stop after any stage.

        A single prompt may be given as a string. A given result replaces its stage and all stages
        before it. `image_embeddings` are (B, k, E), or (B, E) to draw the same one k times. They
        should have length 1; others are drawn as they are, with a warning. Results, noise and
        seeds may be tensors, NumPy arrays or lists (storage/inputs.py), and pictures also Pillow
        images (storage/input_pictures.py). `stop_after` is one of STAGES. Results of stages that
        did not run are None. Raises ValueError for an unknown stage, and for what does not fit.
        """
        given = {"image_embeddings": image_embeddings, "image32": image32, "image64": image64}
        todo = stages_between(given, stop_after)
        prompts = as_texts(prompts)
        if not prompts:
            raise ValueError("there is no prompt; give one, for example 'a red circle'")
        seeds = check_seeds(prompts, None if seeds is None else as_seeds(seeds))
        noise = as_noise(noise, len(prompts))
        if todo == STAGES[1:]:
            return Result(**vars(super().generate(prompts, seeds, sampling, noise)))
        sampling = sampling or self.sampling
        noise = self.starting_noise(seeds, sampling, noise)
        tokens = self.tokenize(prompts)
        given = self.as_given(given, len(prompts))
        made = Result(prompts, tokens, self.clip.encode_text(tokens), **given)
        k = noise.decoder.shape[1]
        if "image_embeddings" in todo:
            made.candidates = self.imagine(made.text_embedding, tokens, noise.prior, sampling)
            made.image_embeddings = nearest(made.candidates, made.text_embedding, k)
        if "image32" in todo:
            made.image_embeddings = repeated(made.image_embeddings, k)
            made.drawings = self.draw(made.image_embeddings, tokens, noise.decoder, sampling)
            selected = most_faithful(self.clip, made.drawings, made.image_embeddings)
            made.selected_embedding = pick(made.image_embeddings, selected)
            made.image32 = pick(made.drawings, selected)
        if "image64" in todo:
            made.image64 = self.upsample64(made.image32, noise.upsampler64, sampling)
        if "image128" in todo:
            made.image128 = self.upsample128(made.image64, noise.upsampler128, sampling)
        return made

    def imagine(
        self, text_embedding: Tensor, tokens: Tensor, x_T: Tensor, sampling: Sampling
    ) -> Tensor:
        """Like UnCLIP.imagine, but raises ValueError if a prior returns something else."""
        candidates = super().imagine(text_embedding, tokens, x_T, sampling)
        wanted = (*x_T.shape[:2], text_embedding.shape[1])
        if tuple(candidates.shape) != wanted or not candidates.isfinite().all():
            raise ValueError(
                f"the prior {type(self.prior).__name__} must return {wanted} finite numbers (B, n, "
                f"E), but returned {tuple(candidates.shape)}, with NaN or infinity, or of another "
                "shape"
            )
        return candidates

    def as_given(self, given: dict[str, Any], n: int) -> dict[str, Tensor | None]:
        """Given results of n prompts in any form → tensors on the device."""
        sides = {"image32": self.decoder.config.image_size}
        if self.upsampler64 is not None:  # published weights may lack it
            sides["image64"] = self.upsampler64.config.size
        results = {}
        for name, value in given.items():
            if value is None:
                results[name] = None
                continue
            if name == "image_embeddings":
                width = self.clip.config.embedding
                results[name] = as_embeddings(value, name, width, self.device)
            else:
                results[name] = as_pictures(value, name, sides.get(name), self.device)
            check_count(results[name], name, n)
        return results

    def __repr__(self) -> str:
        parts = [f"{f.name}={type(getattr(self, f.name)).__name__}" for f in fields(self)[:-1]]
        return f"{type(self).__name__}({', '.join(parts)}, sampling={self.sampling})"

    def check_fit(self, folder: Path, prior_stage: str = "prior") -> None:
        """Raises CheckpointError if the stages in `folder` come from different trainings."""
        needed = {
            "vocab_size": self.tokenizer.vocab_size,
            "clip_embedding": self.clip.config.embedding,
            "image_size": 32,
        }
        stages = {"clip": self.clip, prior_stage: self.prior, "decoder": self.decoder}
        for stage, model in stages.items():
            config = vars(model.config) if hasattr(model, "config") else {}  # a prior needs none
            # A longer context than the tokenizer's is harmless: its last positions are not used.
            positions = max(self.tokenizer.context_length, config.get("context_length", 0))
            check_config(config, needed | {"context_length": positions}, folder / stage)
        for size in (64, 128):
            stage = f"upsampler{size}"
            check_config(vars(getattr(self, stage).config), {"size": size}, folder / stage)


def weights_folder(weights: str | Path) -> Path:
    """The folder of a name of shipped weights, or of a path.

    A string is first read as a name, a Path first as a path. Raises CheckpointError if there are
    no weights.
    """
    shipped = sorted(path.parent.name for path in WEIGHTS.glob("*/tokenizer.json"))
    if isinstance(weights, str) and weights in shipped:
        return WEIGHTS / weights
    try:
        folder = Path(weights).expanduser()
        found = (folder / "tokenizer.json").is_file()
    except (TypeError, ValueError, OSError, RuntimeError) as error:
        raise CheckpointError(
            f"{weights!r:.60} is neither a path nor the name of weights ({', '.join(shipped)})"
        ) from error
    if not found and str(folder) in shipped:
        return WEIGHTS / folder
    if not found:
        raise CheckpointError(
            f"there are no weights in {folder} (no tokenizer.json); train them with `minidalle2 "
            "train all`, check the path, or use a name of weights that come with minidalle2: "
            f"{', '.join(shipped)}"
        )
    return folder


def repeated(image_embeddings: Tensor, k: int) -> Tensor:
    """(B, E) → (B, k, E), k times the same. Raises ValueError for (B, j, E) with another j."""
    if image_embeddings.ndim == 2:
        return image_embeddings[:, None].expand(-1, k, -1)
    if image_embeddings.shape[1] != k:
        raise ValueError(
            f"there are {image_embeddings.shape[1]} image embeddings for each prompt, but {k} "
            "drawings; give one embedding for each drawing, or one for each prompt: (B, E)"
        )
    return image_embeddings


def stages_between(given: dict[str, Any], stop_after: str) -> tuple[str, ...]:
    """The stages after the last given result, up to and including `stop_after`."""
    if stop_after not in STAGES:
        raise ValueError(f"unknown stage {stop_after!r}; stop after one of {', '.join(STAGES)}")
    known = [STAGES.index(stage) for stage, value in given.items() if value is not None]
    return STAGES[max(known, default=0) + 1 : STAGES.index(stop_after) + 1]


def load_prior(folder: Path, kind: PriorKind) -> Any:
    """Raises CheckpointError if the folder lacks this kind of prior."""
    if kind.stage != "prior" and not (folder / kind.stage).is_dir():
        where, world, first = folder, "WORLD", "train one with the world of these weights"
        if folder.parent == WEIGHTS:  # a training must not write into the package
            where, world = Path("runs") / folder.name, folder.name
            first = f"copy that folder to {where} and train one there"
        raise CheckpointError(
            f"there is no {kind.stage} among the weights in {folder}; {first} (`minidalle2 train "
            f"{kind.stage} --world {world} --out {where}`), or draw with the diffusion prior"
        )
    return load_model(folder / kind.stage, kind.stage, kind.config, kind.model)


def load_upsampler(folder: Path, size: int) -> Upsampler:
    stage = f"upsampler{size}"
    return load_model(folder / stage, stage, UpsamplerConfig, Upsampler)


def load_sampling(folder: Path) -> Sampling:
    """sampling.json → how these weights are sampled; the default if there is no such file."""
    path = folder / "sampling.json"
    if not path.is_file():
        return Sampling()
    with reading(path):
        sampling = config_from_dict(Sampling, json.loads(path.read_text("utf-8")), str(path))
        check_sampling(sampling)
    return sampling


def check_sampling(sampling: Sampling) -> None:
    """Raises ValueError for counts that are not whole numbers, and for scales that are not finite
    numbers."""
    for name, default in asdict(Sampling()).items():
        value = getattr(sampling, name)
        if isinstance(default, int) and not (isinstance(value, int) and value >= 1):
            raise ValueError(f"{name} is {value!r}; it must be a whole number, 1 or more")
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(f"{name} is {value!r}; it must be a finite number")


def save_sampling(folder: Path, sampling: Sampling) -> None:
    """Writes the options that differ from the default. Without any, no file is written."""
    default = asdict(Sampling())
    changed = {name: value for name, value in asdict(sampling).items() if value != default[name]}
    if changed:
        write_json(folder / "sampling.json", changed)
    else:
        (folder / "sampling.json").unlink(missing_ok=True)


def check_config(config: dict, needed: dict, where: Path) -> None:
    """Raises CheckpointError if the config has another value than needed."""
    for name, value in needed.items():
        if config.get(name, value) != value:
            raise CheckpointError(
                f"{where} has {name} {config[name]}, but the stages beside it need {value}; "
                "train it again with them"
            )
