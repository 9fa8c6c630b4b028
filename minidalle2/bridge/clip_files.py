"""Reads a CLIP of OpenAI or open_clip from its file of weights.

The shapes of the weights give most sizes. open_clip's JSON gives what shapes do not tell, and must
agree with them (clip_config.py).
"""

from pathlib import Path
from typing import Any

from minidalle2.bridge.checkpoint import Published, read_checkpoint
from minidalle2.bridge.clip_config import HEAD_WIDTH, config_of_json
from minidalle2.bridge.files import files, not_one
from minidalle2.bridge.openai_clip import OpenAICLIP, OpenAICLIPConfig
from minidalle2.bridge.recognise import A_CLIP, OPEN_CLIP
from minidalle2.bridge.state_dict import check_numbers, fill, find_network
from minidalle2.storage.checkpoints import CheckpointError

# Tensors that each CLIP with a vision transformer has, and that no other CLIP has.
MARKS = ("visual.class_embedding", "ln_final.weight")
# Entries of state dicts that are no weights: three of OpenAI's archives, one of early open_clip.
NOT_WEIGHTS = ("input_resolution", "context_length", "vocab_size", "attn_mask")
# JSON files that lie beside weights, but describe no network.
OTHER_JSON = {
    "added_tokens.json",
    "preprocessor_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
}


def load_clip(folder: Path) -> OpenAICLIP:
    """Reads a CLIP from a folder with one file of weights and open_clip's JSON config.

    OpenAI's own archives need no config. Raises CheckpointError if a file can't be read, if the
    architecture is not supported, or if config and weights contradict each other.
    """
    published = read_checkpoint(folder)
    entries = find_network(published, MARKS, A_CLIP)
    openai = published.scripted or "input_resolution" in entries
    entries = {name: value for name, value in entries.items() if name not in NOT_WEIGHTS}
    config = config_of_tensors(entries, published)
    path = config_file(folder)
    if path:
        config = config_of_json(path, config)
        if openai and not config.quick_gelu:
            raise CheckpointError(
                f"{published.path} is a CLIP of OpenAI, which was trained with QuickGELU, but "
                f"{path.name} does not say so, and every embedding would be slightly wrong; "
                'add "quick_gelu": true to it'
            )
    elif not openai:
        raise CheckpointError(
            f"{folder} has no JSON config, and the weights do not tell GELU from QuickGELU; put "
            "the open_clip_config.json of the model into this folder"
        )
    clip = OpenAICLIP(config)
    remedy = f"its architecture is another one than that of OpenAI's CLIP: {OPEN_CLIP}"
    fill(clip, entries, str(published.path), remedy)
    return clip


def config_file(folder: Path) -> Path | None:
    """The JSON that describes the CLIP: open_clip_config.json, or else the only other JSON.

    None if there is none. Raises CheckpointError if there are several.
    """
    named = folder / "open_clip_config.json"
    if named.is_file():
        return named
    found = [path for path in files(folder, (".json",)) if path.name not in OTHER_JSON]
    if len(found) > 1:
        raise not_one(folder, found, (".json",), "config of open_clip")
    return found[0] if found else None


def config_of_tensors(entries: dict[str, Any], published: Published) -> OpenAICLIPConfig:
    """The sizes, read from the shapes of the weights.

    The shapes do not tell the activation or an unusual number of heads. Raises CheckpointError if a
    tensor that has a size is missing, or has another number of dimensions.
    """

    def shape(name: str, dimensions: int) -> tuple[int, ...]:
        if name not in entries:
            raise CheckpointError(
                f"{published.path} lacks the tensor {name!r} of a CLIP with a vision transformer; "
                f"{OPEN_CLIP}"
            )
        check_numbers(name, entries[name], True, str(published.path))
        if entries[name].dim() != dimensions:
            raise CheckpointError(
                f"{published.path} has {name!r} in the shape {tuple(entries[name].shape)}, which "
                f"no CLIP with a vision transformer has; {OPEN_CLIP}"
            )
        return tuple(entries[name].shape)

    image_width, _, _, patch = shape("visual.conv1.weight", 4)
    grid = int((shape("visual.positional_embedding", 2)[0] - 1) ** 0.5)
    text_width, embedding = shape("text_projection", 2)
    image_blocks, text_blocks = "visual.transformer.resblocks.", "transformer.resblocks."
    return OpenAICLIPConfig(
        embedding=embedding,
        image_size=grid * patch,
        patch_size=patch,
        image_width=image_width,
        image_layers=layers(entries, image_blocks),
        image_heads=max(image_width // HEAD_WIDTH, 1),
        image_hidden=shape(image_blocks + "0.mlp.c_fc.weight", 2)[0],
        vocab_size=shape("token_embedding.weight", 2)[0],
        context_length=shape("positional_embedding", 2)[0],
        text_width=text_width,
        text_layers=layers(entries, text_blocks),
        text_heads=max(text_width // HEAD_WIDTH, 1),
        text_hidden=shape(text_blocks + "0.mlp.c_fc.weight", 2)[0],
    )


def layers(entries: dict[str, Any], blocks: str) -> int:
    """The number of blocks whose names begin with `blocks`."""
    return sum(name.startswith(blocks) and name.endswith(".ln_1.weight") for name in entries)
