"""Says what a checkpoint contains if it does not contain the network that was looked for."""

import re
from collections.abc import Iterator
from typing import Any

from torch import Tensor

from minidalle2.bridge.pickles import StandIn

DEPTH = 8  # of dicts in dicts; a pickle can also contain itself
A_CLIP, A_PRIOR, A_DECODER = "a CLIP", "a prior of DALLE2-PyTorch", "a decoder of DALLE2-PyTorch"
PLACES = {A_CLIP: "clip", A_PRIOR: "prior", A_DECODER: "decoder"}
OPEN_CLIP = "take the open_clip file of a model with a vision transformer"
SAVE = "save the state dict of the network with torch.save"
# Patterns that names match, what has such names, and what to do. The first row counts.
KINDS = (
    ((r"lora_",), "an adapter (LoRA)", "merge it into its network, and save that network"),
    ((r"(^|\.)(text|vision)_model\.",), "a CLIP in Hugging Face's layout", OPEN_CLIP),
    ((r"(^|\.)visual\.(attnpool|layer1)\.",), "a CLIP with a ResNet", OPEN_CLIP),
    ((r"(^|\.)visual\.trunk\.",), "a CLIP with an image tower of timm", OPEN_CLIP),
    ((r"(^|\.)text\.(transformer|token_embedding)",), "a CLIP with custom_text", OPEN_CLIP),
    ((r"(^|\.)net\.learned_query$",), A_PRIOR, ""),
    ((r"(^|\.)unets\.\d+\.",), A_DECODER, ""),
    ((r"(^|\.)visual\.class_embedding$", r"(^|\.)ln_final\.weight$"), A_CLIP, ""),
    ((r"(^|\.)visual\.class_embedding$",), "the image tower of a CLIP", "save the whole CLIP"),
    ((r"(^|\.)ln_final\.weight$",), "the text tower of a CLIP", "save the whole CLIP"),
    (
        (r"(^|\.)learned_query$",),
        "the network of a prior without its DiffusionPrior",
        "save the state dict of the DiffusionPrior",
    ),
    (
        (r"(^|\.)(diffusion_model|down_blocks)\.",),
        "a network of Stable Diffusion",
        "take networks of DALLE2-PyTorch",
    ),
    ((r"(^|\.)(exp_avg|momentum_buffer)$",), "the state of an optimizer", SAVE),
    ((r"^\d+$",), "tensors without names", SAVE),
)
# What pickles make by a function, and what readers call it.
MADE_BY = {
    "numpy._core.multiarray._reconstruct": "a NumPy array",
    "numpy.core.multiarray._reconstruct": "a NumPy array",
    "torch._utils._rebuild_sparse_tensor": "a sparse tensor",
    "torch._utils._rebuild_qtensor": "a quantised tensor",
    "torch._utils._rebuild_meta_tensor_no_storage": "a tensor without numbers (device meta)",
}


def recognised(content: Any, groups: dict[str, dict[str, Any]], what: str) -> str:
    """What the content is instead of `what`, and what would work. It continues a sentence.

    `groups` are the dicts in the content with their entries (state_dict.flat).
    """
    for keys, module in whole_modules(content):
        chosen = "".join(f"[{key!r}]" for key in keys)
        return (
            f"contains a whole pickled module ({module.of}){' under ' + chosen if keys else ''}, "
            "which is not read because a pickle can run code; if you trust the file, save the "
            "state dict where this class is installed: `torch.save(torch.load(path, "
            f"weights_only=False){chosen}.state_dict(), new_path)`"
        )
    names = {
        name for group in groups.values() for name, v in group.items() if isinstance(v, Tensor)
    }
    if not names:
        return f"{without_tensors(content)}; {SAVE}"
    for patterns, kind, remedy in KINDS:
        if kind != what and all(any(re.search(p, name) for name in names) for p in patterns):
            if kind in PLACES:
                remedy = f"put it into the folder {PLACES[kind]}, and the file of {what} here"
            return f"holds {kind}; {remedy}"
    some = ", ".join(repr(name) for name in sorted(names)[:3])
    return (
        f"holds no {what.removeprefix('a ')} that is known: its {len(names)} tensors have names "
        f"such as {some}; take the file of {what}, with all its tensors"
    )


def whole_modules(content: Any, keys: tuple = ()) -> Iterator[tuple[tuple, StandIn]]:
    """The pickled modules in a content, with the keys that lead to them."""
    if isinstance(content, StandIn) and content.is_module:
        yield keys, content
    if isinstance(content, dict) and len(keys) < DEPTH:
        for key, value in content.items():
            yield from whole_modules(value, (*keys, key))


def without_tensors(content: Any) -> str:
    """What a content without named tensors is."""
    if isinstance(content, Tensor):
        return "contains one tensor without a name"
    if not isinstance(content, dict) or not content:
        return f"contains {type_name(content)} and no state dict"
    held = ", ".join(f"{key!r}: {type_name(value)}" for key, value in list(content.items())[:8])
    return f"contains no tensors, only {held}"


def type_name(value: Any) -> str:
    """The type of a value in a message."""
    if value is None:
        return "None"
    if isinstance(value, dict | list | tuple) and not value:
        return f"an empty {type(value).__name__}"
    if isinstance(value, StandIn):
        return MADE_BY.get(value.of, f"an object of {value.of}")
    return f"a value of type {type(value).__name__}"
