"""Reads open_clip's JSON config of a CLIP.

Each setting is used, or compared with the weights, or has no effect on a trained CLIP with a vision
transformer. Any other setting is an error that names the setting.
"""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from minidalle2.bridge.files import read_json
from minidalle2.bridge.openai_clip import OPENAI_MEAN, OPENAI_STD, OpenAICLIPConfig
from minidalle2.bridge.recognise import OPEN_CLIP
from minidalle2.storage.checkpoints import CheckpointError

HEAD_WIDTH = 64  # of both towers, unless a config has another value
USED = {
    "": {"embed_dim", "vision_cfg", "text_cfg", "quick_gelu"},
    "vision_cfg": {"image_size", "layers", "width", "patch_size", "head_width", "mlp_ratio"},
    "text_cfg": {"context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio"},
    "preprocess_cfg": {"mean", "std", "interpolation", "size"},
}
# These matter only in training, for pictures that are not square, or beside other settings.
NO_EFFECT = {
    "": {"init_logit_scale"},
    "vision_cfg": {"patch_dropout", "attn_pooler_queries", "attn_pooler_heads", "output_tokens"}
    | {"timm_model_pretrained", "timm_pool", "timm_proj", "timm_proj_bias", "timm_drop"}
    | {"timm_drop_path"},
    "text_cfg": {"hf_model_pretrained", "hf_proj_type", "hf_pooler_type", "output_tokens"},
    "preprocess_cfg": {"resize_mode", "fill_color"},
}
# open_clip's defaults. With other values, the CLIP has another architecture or other tokens.
FIXED = {
    "": {"custom_text": False, "init_logit_bias": None},
    "vision_cfg": {
        "timm_model_name": None,
        "ls_init_value": None,
        "attentional_pool": False,
        "no_ln_pre": False,
        "pos_embed_type": "learnable",
        "final_ln_after_pool": False,
        "pool_type": "tok",
        "act_kwargs": None,
        "norm_kwargs": None,
    },
    "text_cfg": {
        "hf_model_name": None,
        "hf_tokenizer_name": None,
        "tokenizer_kwargs": None,
        "ls_init_value": None,
        "embed_cls": False,
        "pad_id": 0,
        "no_causal_mask": False,
        "final_ln_after_pool": False,
        "pool_type": "argmax",
        "proj_bias": False,
        "proj_type": "linear",
        "act_kwargs": None,
        "norm_kwargs": None,
    },
    "preprocess_cfg": {"mode": "RGB"},
}


def config_of_json(path: Path, found: OpenAICLIPConfig) -> OpenAICLIPConfig:
    """`found` with the activation, heads and colours of open_clip's JSON.

    `found` has the sizes of the weights. Raises CheckpointError if the JSON contradicts them, or if
    it has a setting or a value that is not supported.
    """
    content = read_json(path)
    model = content.get("model_cfg", content)  # the JSON beside weights has this key
    if not isinstance(model, dict) or not {"vision_cfg", "text_cfg"} <= set(model):
        raise CheckpointError(
            f"{path} is no config of open_clip, because it lacks vision_cfg or text_cfg (its keys "
            f"are {', '.join(list(content)[:8]) or 'none'}); take the open_clip_config.json that "
            "was published with the weights"
        )
    parts = {"": model, "vision_cfg": model["vision_cfg"], "text_cfg": model["text_cfg"]}
    parts["preprocess_cfg"] = content.get("preprocess_cfg", {}) if "model_cfg" in content else {}
    if "model_cfg" in content:
        check_keys(path, "", set(content), {"model_cfg", "preprocess_cfg"})
    for name, part in parts.items():
        check_settings(path, name, part)
    settings = {
        f"{name}.{k}".lstrip("."): v for name, part in parts.items() for k, v in part.items()
    }
    check_values(path, settings, found)
    compare(path, settings, found)
    size = settings.get("vision_cfg.image_size", found.image_size)
    return replace(
        found,
        quick_gelu=settings.get("quick_gelu", False),
        image_size=size[0] if isinstance(size, list) else size,
        image_heads=found.image_width // settings.get("vision_cfg.head_width", HEAD_WIDTH) or 1,
        text_heads=settings.get("text_cfg.heads", found.text_heads),
        mean=tuple(settings.get("preprocess_cfg.mean", OPENAI_MEAN)),
        std=tuple(settings.get("preprocess_cfg.std", OPENAI_STD)),
        interpolation=settings.get("preprocess_cfg.interpolation", "bicubic"),
    )


def check_settings(path: Path, name: str, part: Any) -> None:
    """Raises CheckpointError for a setting of the section `name` that is not supported."""
    if not isinstance(part, dict):
        raise CheckpointError(
            f"{path} has {part!r} as {name}, which should be an object with settings; take the "
            "open_clip_config.json that was published with the weights"
        )
    check_keys(path, name, set(part) - NO_EFFECT[name] - set(FIXED[name]), USED[name])
    for key, only in FIXED[name].items():
        if part.get(key, only) != only:
            raise CheckpointError(
                f"{path} has the setting {full(name, key)!r} with the value "
                f"{json.dumps(part[key])}, but OpenAI's architecture needs {json.dumps(only)}; "
                f"{OPEN_CLIP}"
            )


def check_keys(path: Path, name: str, keys: set[str], used: set[str]) -> None:
    """Raises CheckpointError for a key of the section `name` that is not used."""
    unknown = sorted(keys - used)
    if unknown:
        raise CheckpointError(
            f"{path} has the setting {full(name, unknown[0])!r}, which minidalle2 does not know "
            f"for OpenAI's architecture (it knows {', '.join(sorted(used))}); correct its "
            "spelling, or remove it if it does not change the network"
        )


def full(name: str, key: str) -> str:
    return f"{name}.{key}" if name else key


def check_values(path: Path, settings: dict[str, Any], found: OpenAICLIPConfig) -> None:
    """Raises CheckpointError for a setting whose value has a wrong type, or can't be right."""
    widths = {"vision_cfg": found.image_width, "text_cfg": found.text_width}
    for name, value in settings.items():
        section, _, key = name.rpartition(".")
        if key == "quick_gelu":
            right, wanted = isinstance(value, bool), "true or false"
        elif key in ("head_width", "heads"):
            right = type(value) is int and value > 0 and widths[section] % value == 0
            wanted = f"a whole number that divides the width {widths[section]}"
        elif key == "mlp_ratio":
            right, wanted = is_number(value) and value > 0, "a positive number"
        elif key in ("mean", "std"):
            right = isinstance(value, list) and len(value) == 3 and all(map(is_number, value))
            right = right and (key == "mean" or min(value) > 0)
            wanted = "a list of three numbers" + (" above 0" if key == "std" else "")
        elif key in ("image_size", "size") and isinstance(value, list):
            right, wanted = len(value) == 2 and value[0] == value[1], "the side of a square"
        elif key == "interpolation":
            right, wanted = value in ("bicubic", "bilinear"), "bicubic or bilinear"
        else:
            continue
        if not right:
            raise CheckpointError(f"{path} has {value!r} as {name}, which should be {wanted}")


def is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def compare(path: Path, settings: dict[str, Any], found: OpenAICLIPConfig) -> None:
    """Raises CheckpointError if a setting contradicts the sizes of the weights."""
    sizes = {
        "embed_dim": found.embedding,
        "vision_cfg.patch_size": found.patch_size,
        "vision_cfg.layers": found.image_layers,
        "vision_cfg.width": found.image_width,
        "text_cfg.vocab_size": found.vocab_size,
        "text_cfg.context_length": found.context_length,
        "text_cfg.width": found.text_width,
        "text_cfg.layers": found.text_layers,
    }
    told = {name: (settings[name], size) for name, size in sizes.items() if name in settings}
    image_size = settings.get("vision_cfg.image_size", found.image_size)
    side = image_size[0] if isinstance(image_size, list) else image_size
    # The last pixels of a picture are left out if its side is no multiple of the patch size.
    if not (type(side) is int and side // found.patch_size * found.patch_size == found.image_size):
        told["vision_cfg.image_size"] = side, found.image_size
    if settings.get("preprocess_cfg.size", image_size) not in (side, [side, side]):
        told["preprocess_cfg.size"] = settings["preprocess_cfg.size"], side
    for section, width, hidden in (
        ("vision_cfg", found.image_width, found.image_hidden),
        ("text_cfg", found.text_width, found.text_hidden),
    ):
        ratio = settings.get(f"{section}.mlp_ratio")
        if ratio is not None and int(width * ratio) != hidden:
            told[f"{section}.mlp_ratio"] = ratio, f"{hidden / width:.4g}"
    for name, (value, size) in told.items():
        if value != size:
            raise CheckpointError(
                f"{path} has {name} {value!r}, but the weights beside it have {size}; one of the "
                "two files belongs to another model"
            )
