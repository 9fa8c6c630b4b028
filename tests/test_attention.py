"""Attention and the transformer against torch's own."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from minidalle2.blocks.attention import SelfAttention, attend
from minidalle2.blocks.embeddings import TimeEmbedding, patchify, sinusoidal
from minidalle2.blocks.transformer import Block, Transformer, causal_mask

CPU = torch.device("cpu")


@pytest.mark.parametrize("mask", [None, "causal", "pads"])
def test_attend_equals_torch(mask):
    """e-22: scaled once, by 1/√d."""
    q, k, v = torch.randn(3, 2, 4, 5, 8).unbind()
    if mask == "causal":
        mask = causal_mask(5, CPU)
    elif mask == "pads":
        mask = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]).bool()[:, None, None]
    expected = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    torch.testing.assert_close(attend(q, k, v, mask), expected)


def test_attend_with_more_keys_than_queries():
    """(B, H, T, d), (B, H, S, d) twice → (B, H, T, d)."""
    q, k, v = torch.randn(2, 4, 3, 8), torch.randn(2, 4, 7, 8), torch.randn(2, 4, 7, 8)
    out = attend(q, k, v)
    assert out.shape == (2, 4, 3, 8)
    torch.testing.assert_close(out, F.scaled_dot_product_attention(q, k, v))


@pytest.mark.parametrize("causal", [False, True])
def test_self_attention_equals_torch(causal):
    """With the same weights: heads are split as in nn.MultiheadAttention."""
    ours, theirs = SelfAttention(12, 3), nn.MultiheadAttention(12, 3, batch_first=True)
    theirs.in_proj_weight.data, theirs.in_proj_bias.data = ours.qkv.weight.data, ours.qkv.bias.data
    theirs.out_proj.load_state_dict(ours.out.state_dict())
    x, mask = torch.randn(2, 5, 12), causal_mask(5, CPU) if causal else None
    # Theirs is True where a query may NOT look.
    expected, _ = theirs(x, x, x, attn_mask=None if mask is None else ~mask)
    torch.testing.assert_close(ours(x, mask), expected)


def test_block_equals_torch():
    """With the same weights and activation: torch's pre-norm layer."""
    ours = Block(12, 3)
    theirs = nn.TransformerEncoderLayer(
        12, 3, 48, dropout=0.0, batch_first=True, norm_first=True, activation=ours.mlp[1]
    )
    theirs.norm1.load_state_dict(ours.attention_norm.state_dict())
    theirs.norm2.load_state_dict(ours.mlp_norm.state_dict())
    theirs.linear1.load_state_dict(ours.mlp[0].state_dict())
    theirs.linear2.load_state_dict(ours.mlp[2].state_dict())
    theirs.self_attn.out_proj.load_state_dict(ours.attention.out.state_dict())
    theirs.self_attn.in_proj_weight.data = ours.attention.qkv.weight.data
    theirs.self_attn.in_proj_bias.data = ours.attention.qkv.bias.data
    x = torch.randn(2, 5, 12)
    torch.testing.assert_close(ours(x), theirs(x))


def test_causal_mask_hides_the_future():
    """(T, T), and through a whole stack the first outputs ignore later inputs."""
    mask = causal_mask(4, CPU)
    assert mask.tolist() == [[c <= r for c in range(4)] for r in range(4)]
    transformer, x = Transformer(12, layers=3, heads=3), torch.randn(1, 4, 12)
    changed = x.clone()
    changed[:, 3] = torch.randn(12)
    difference = (transformer(changed, mask) - transformer(x, mask)).abs().amax((0, 2))
    assert difference[:3].max() == 0 and difference[3] > 0.1


@pytest.mark.parametrize("layers", [1, 8])
def test_residual_branches_start_small(layers):
    """e-46: whatever the depth, the stream starts with about the variance of its input."""
    x = torch.randn(4, 6, 64)
    transformer = Transformer(64, layers, 4)
    out = x
    for block in transformer.blocks:
        out = block(out)
    assert (out - x).var() < 0.5
    assert transformer(x).var(-1).mean().item() == pytest.approx(1, abs=0.05)  # the final norm


def test_bfloat16_keeps_softmax_exact_enough():
    """e-48: under autocast the attention weights still sum to 1 to a hundredth."""
    q, k = torch.randn(2, 1, 2, 300, 8).unbind()
    with torch.autocast("cpu", torch.bfloat16):
        out = attend(q, k, torch.ones(1, 2, 300, 8))
    torch.testing.assert_close(out.float(), torch.ones(1, 2, 300, 8), atol=0.01, rtol=0)


@pytest.mark.parametrize("width", [8, 128])
def test_sinusoidal_formula(width):
    """e-45: cosines before sines, frequencies 10000^(-i/half) with half, not half - 1."""
    t = torch.tensor([0, 1, 500, 999])
    half = width // 2
    angles = t[:, None] * 10_000.0 ** -(torch.arange(half) / half)
    embedding = sinusoidal(t, width)
    assert embedding.shape == (4, width)
    torch.testing.assert_close(embedding[:, :half], angles.cos(), atol=1e-4, rtol=0)
    torch.testing.assert_close(embedding[:, half:], angles.sin(), atol=1e-4, rtol=0)


def test_every_timestep_is_embedded_apart():
    """e-45: neighbours differ, and any timestep works, unlike a table of those seen."""
    table = sinusoidal(torch.arange(1000), 64)
    assert torch.pdist(table).min() > 0.1
    assert TimeEmbedding(64)(torch.tensor([0, 5000])).shape == (2, 64)


def test_patchify():
    """(B, C, H, W) → (B, N, C·P·P), patches row by row."""
    image = torch.arange(2 * 4 * 6.0).reshape(1, 2, 4, 6)
    patches = patchify(2)(image)
    assert patches.shape == (1, 6, 8)
    assert torch.equal(patches[0, 1], image[0, :, 0:2, 2:4].flatten())
    assert torch.equal(patches[0, 3], image[0, :, 2:4, 0:2].flatten())
