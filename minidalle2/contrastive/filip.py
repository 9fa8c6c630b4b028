"""FILIP (Yao et al. 2021): every word looks for its patch, and every patch for its word.

A picture and a text are as alike as their tokens are on average, each with the best one of the
other side. The two directions differ, so each has logits of its own: a picture's, over all texts,
and a text's, over all pictures.

Letters: B pairs, N patches, T tokens, E embedding. This trains what the towers say of tokens, and
nothing of z_i and z_t, which all later stages read: so CLIP's own loss stays beside it.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minidalle2.clip import CLIP, info_nce
from minidalle2.contrastive.pairs import (
    at_end, clamped_scale, cosines, equal_captions, matching,
)  # fmt: skip
from minidalle2.tokenizer import PAD, START

WEIGHT = 1.0  # of the tokens' loss, beside CLIP's own
PICTURES_AT_ONCE = 32  # compared with all texts: B²·N·T cosines never exist together


class Filip(nn.Module):
    """A CLIP, projections of its tokens, and their own temperature."""

    def __init__(self, clip: CLIP):
        super().__init__()
        self.config = clip.config
        self.clip = clip
        width, embedding = clip.config.width, clip.config.embedding
        self.patch_projection = nn.Linear(width, embedding, bias=False)
        self.word_projection = nn.Linear(width, embedding, bias=False)
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def forward(self, images: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """→ z_i, z_t (B, E), patches (B, N, E), words (B, T, E), all of unit length."""
        z_i, patches = self.clip.encode_patches(images)
        words = self.clip.text_tower.encoder(tokens)
        z_t = self.clip.text_tower.projection(at_end(words, tokens))
        z_t = F.normalize(z_t.float(), dim=-1)
        patches = F.normalize(self.patch_projection(patches).float(), dim=-1)
        return z_i, z_t, patches, F.normalize(self.word_projection(words).float(), dim=-1)


def words_of(tokens: Tensor) -> Tensor:
    """(B, T): True at words and at the end, which has read them all. The start has read nothing,
    and what is behind the end is padding."""
    return (tokens != PAD) & (tokens != START)


def token_likeness(patches: Tensor, words: Tensor, is_word: Tensor) -> tuple[Tensor, Tensor]:
    """(A, N, E), (B, T, E) of unit length, (B, T) → pictures' likeness to texts (A, B), texts' to
    pictures (B, A), both in [-1, 1].

    Picture to text: each patch takes its best word, mean over patches. Text to picture: each word
    takes its best patch, mean over words. Padding is neither taken nor counted.
    """
    share = is_word / is_word.sum(1, keepdim=True)  # (B, T)
    to_text, to_picture = [], []
    for few in patches.split(PICTURES_AT_ONCE):
        alike = cosines(few.flatten(0, 1), words.flatten(0, 1))
        alike = alike.view(*few.shape[:2], *words.shape[:2])  # (a, N, B, T)
        to_picture.append((alike.max(1).values * share).sum(-1))  # (a, B)
        best_word = alike.masked_fill(~is_word, -torch.inf).max(-1).values  # (a, N, B)
        to_text.append(best_word.mean(1))
    return torch.cat(to_text), torch.cat(to_picture).T


def filip_loss(model: Filip, batch: tuple[Tensor, Tensor], generator: torch.Generator) -> Tensor:
    """CLIP's own loss and that of the tokens, for (images (B, 3, H, W), tokens (B, T))."""
    images, tokens = batch
    z_i, z_t, patches, words = model(images, tokens)
    same = equal_captions(tokens)
    whole = info_nce(clamped_scale(model.clip.log_scale) * cosines(z_i, z_t), same)
    scale = clamped_scale(model.log_scale)
    to_text, to_picture = token_likeness(patches, words, words_of(tokens))
    parts = (matching(scale * to_text, same) + matching(scale * to_picture, same)) / 2
    return whole + WEIGHT * parts
