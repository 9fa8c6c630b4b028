"""FILIP (Yao et al. 2021): compares every word with every patch.

The similarity of a picture to a text is a mean over its patches: each patch contributes its highest
cosine to a word. The similarity of a text to a picture is a mean over its words: each word
contributes its highest cosine to a patch. The two similarities differ, so each direction has its
own logits. This loss trains the features of tokens, but not z_i and z_t, which all later stages
read. Therefore CLIP's loss is added.
Letters: B pairs, N patches, T tokens, E embedding.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minidalle2.clip import CLIP, at_end, clamped_scale, cosines, equal_captions, info_nce, matching
from minidalle2.tokenizer import PAD, START

WEIGHT = 1.0  # of the loss of the tokens; CLIP's loss has weight 1
PICTURES_AT_ONCE = 32  # compared with all texts; all B²·N·T cosines would need too much memory


class Filip(nn.Module):
    """A CLIP, projections of its patch and word features, and a scale of their cosines."""

    def __init__(self, clip: CLIP):
        super().__init__()
        self.config = clip.config
        self.clip = clip
        embedding = clip.config.embedding
        self.patch_projection = nn.Linear(clip.image_tower.patch_width, embedding, bias=False)
        self.word_projection = nn.Linear(clip.config.width, embedding, bias=False)
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def forward(self, images: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Images (B, 3, S, S), tokens (B, T) → z_i, z_t (B, E), patches (B, N, E), words (B, T, E).

        All have unit length.
        """
        z_i, patches = self.clip.encode_patches(images)
        words = self.clip.text_tower.encoder(tokens)
        z_t = self.clip.text_tower.projection(at_end(words, tokens))
        z_t = F.normalize(z_t.float(), dim=-1)
        patches = F.normalize(self.patch_projection(patches).float(), dim=-1)
        return z_i, z_t, patches, F.normalize(self.word_projection(words).float(), dim=-1)


def words_of(tokens: Tensor) -> Tensor:
    """Tokens (B, T) → (B, T): True at words and at the end token, False at start and padding.

    In a causal tower the end token has read all words, and the start token has read none.
    """
    return (tokens != PAD) & (tokens != START)


def token_likeness(patches: Tensor, words: Tensor, is_word: Tensor) -> tuple[Tensor, Tensor]:
    """patches (A, N, E), words (B, T, E), is_word (B, T) → similarities (A, B) and (B, A).

    patches and words have unit length. The first result is the similarity of pictures to texts, the
    second that of texts to pictures, as described above. Both are in [-1, 1]. Tokens that are not
    words are ignored.
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
    """CLIP's loss plus the loss of the tokens, for (images (B, 3, S, S), tokens (B, T))."""
    images, tokens = batch
    z_i, z_t, patches, words = model(images, tokens)
    same = equal_captions(tokens)
    whole = info_nce(clamped_scale(model.clip.log_scale) * cosines(z_i, z_t), same)
    scale = clamped_scale(model.log_scale)
    to_text, to_picture = token_likeness(patches, words, words_of(tokens))
    parts = (matching(scale * to_text, same) + matching(scale * to_picture, same)) / 2
    return whole + WEIGHT * parts
