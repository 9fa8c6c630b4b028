"""Zero-shot naming by CLIP: which of the 1,200 core names and which of the six styles is it?

The answer is the nearest of all 7,200 texts: the score of a name is that of its best style, and the
score of a style is that of its best name. Averages over the styles or names, as in Radford et al.
2021, section 3.1.4, were less accurate on the split `seen`. Letters: n pictures, E embedding.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from minidalle2.clip import CLIP
from minidalle2.storage.progress import each
from minidalle2.tokenizer import Tokenizer
from minidalle2.worlds.emoji.evaluation.prompts import LANGUAGES, prompt_of, real_pictures
from minidalle2.worlds.emoji.labels import (
    core_members,
    core_names,
    places_in,
    ranks,
    scored,
    styles_of,
)
from minidalle2.worlds.emoji.words import STYLES

BATCH = 512


def naming_rows(clip: CLIP, tokenizer: Tokenizer) -> Iterator[dict]:
    """Rows about all core drawings of each split, on white, in each language."""
    z_texts = {language: embed_texts(clip, tokenizer, language) for language in LANGUAGES}
    for split in ("seen", "pairs", "names"):
        rows = core_members(split)
        z_i = embed_drawings(clip, rows)
        for language, z_t in z_texts.items():
            name, style = answer_ranks(z_i, z_t, places_in(core_names(), rows), styles_of(rows))
            yield from scored("clip", language, split, rows, name, style)


def answer_ranks(z_i: Tensor, z_t: Tensor, name: Tensor, style: Tensor) -> tuple[Tensor, Tensor]:
    """Pictures (n, E), texts (names, styles, E) and right answers (n,) → ranks of the answers."""
    similarity = torch.einsum("b e, n s e -> b n s", z_i, z_t)
    return ranks(similarity.amax(2), name), ranks(similarity.amax(1), style)


@torch.no_grad()
def embed_texts(clip: CLIP, tokenizer: Tokenizer, language: str) -> Tensor:
    """→ (names, styles, E), unit length."""
    device = next(clip.parameters()).device
    texts = [prompt_of(name, style, language) for name in core_names() for style in STYLES]
    starts = each(range(0, len(texts), BATCH), f"embedding {len(texts):,} texts, {language}")
    parts = (tokenizer.cut(texts[i : i + BATCH]) for i in starts)
    z_t = torch.cat([clip.encode_text(part.to(device)).cpu() for part in parts])
    return z_t.view(len(core_names()), len(STYLES), -1)


@torch.no_grad()
def embed_drawings(clip: CLIP, rows: Tensor) -> Tensor:
    """Rows of `drawings()` (n,) → (n, E), unit length."""
    device, size = next(clip.parameters()).device, clip.config.image_size
    batches = each(rows.split(BATCH), f"embedding {len(rows):,} drawings")
    parts = [clip.encode_image(real_pictures(r, size).to(device)) for r in batches]
    return torch.cat(parts).cpu()
