"""Retrieval by CLIP: does each of n pictures find its own caption, and each caption its picture?"""

import torch

from minidalle2.clip import CLIP
from minidalle2.tokenizer import Tokenizer
from minidalle2.worlds.batches import caption_rng
from minidalle2.worlds.shapes.captions import describe
from minidalle2.worlds.shapes.drawing import draw
from minidalle2.worlds.shapes.scenes import sample_scenes


@torch.no_grad()
def recall_at_1(
    clip: CLIP, tokenizer: Tokenizer, split: str, n: int = 512, seed: int = 0
) -> tuple[float, float]:
    """→ (image to text, text to image) R@1, for n different scenes.

    The captions contain all attributes of their scenes.
    """
    generator = torch.Generator().manual_seed(seed)
    scenes = sample_scenes(2 * n, split, generator)
    scenes.says_sizes[:] = scenes.says_places[:] = scenes.says_background[:] = True
    captions = describe(scenes, caption_rng(generator), split)
    # The scenes must differ. Captions of one scene may differ in their phrasing.
    objects = (scenes.shape, scenes.colour, scenes.size, scenes.place)
    others = (scenes.background[:, None], scenes.word[:, None])
    contents = torch.cat((*objects, *others), dim=1).tolist()
    distinct = list({tuple(content): i for i, content in enumerate(contents)}.values())[:n]
    device = next(clip.parameters()).device
    images = draw(scenes[torch.tensor(distinct)], clip.config.image_size).to(device)
    z_i = clip.encode_image(images)
    z_t = clip.encode_text(tokenizer([captions[i] for i in distinct]).to(device))
    similarity, own = z_i @ z_t.T, torch.arange(len(distinct), device=device)
    image_to_text = (similarity.argmax(1) == own).float().mean().item()
    return image_to_text, (similarity.argmax(0) == own).float().mean().item()
