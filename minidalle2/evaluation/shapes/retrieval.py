"""CLIP's retrieval: among n pictures with distinct captions, does each find its own?"""

import torch

from minidalle2.clip import CLIP
from minidalle2.tokenizer import Tokenizer
from minidalle2.worlds.shapes.captions import describe
from minidalle2.worlds.shapes.drawing import draw
from minidalle2.worlds.shapes.scenes import sample_scenes
from minidalle2.worlds.shapes.world import caption_rng


@torch.no_grad()
def recall_at_1(
    clip: CLIP, tokenizer: Tokenizer, split: str, n: int = 512, seed: int = 0
) -> tuple[float, float]:
    """→ (image to text, text to image), for n scenes whose captions say everything and differ."""
    generator = torch.Generator().manual_seed(seed)
    scenes = sample_scenes(2 * n, split, generator)
    scenes.says_sizes[:] = scenes.says_places[:] = scenes.says_background[:] = True
    captions = describe(scenes, caption_rng(generator), split)
    # Two phrasings of one scene are no distinct captions, so it is scenes that must differ.
    contents = torch.stack(
        (*scenes.shape.T, *scenes.colour.T, *scenes.size.T, *scenes.place.T,
         scenes.background, scenes.word), dim=1,
    ).tolist()  # fmt: skip
    distinct = list({tuple(content): i for i, content in enumerate(contents)}.values())[:n]
    device = next(clip.parameters()).device
    images = draw(scenes[torch.tensor(distinct)], clip.config.image_size).to(device)
    z_i = clip.encode_image(images)
    z_t = clip.encode_text(tokenizer([captions[i] for i in distinct]).to(device))
    similarity, own = z_i @ z_t.T, torch.arange(len(distinct), device=device)
    image_to_text = (similarity.argmax(1) == own).float().mean().item()
    return image_to_text, (similarity.argmax(0) == own).float().mean().item()
