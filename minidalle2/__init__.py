"""minidalle2: DALL·E 2 (unCLIP), small enough to read and to train on a laptop.

text ─tokenizer─▶ tokens ─clip─▶ text embedding ─prior─▶ image embedding ─decoder─▶ 32 px ─upsampler─▶ 64 ─▶ 128 px
(B,)              (B, T)         z_t (B, E)              z_i (B, E)                 (B, 3, 32, 32)  …  (B, 3, 128, 128)

Letters, the same in every file: B batch, T tokens of text, D width of a network, E dimensions of
CLIP's space, H heads, C channels, S pixels a side, N patches, K context tokens.

    from minidalle2.dalle2 import DALLE2, WEIGHTS
    made = DALLE2.load(WEIGHTS / "shapes").generate(["a small red circle above a large blue square"])
    made.image128  # (1, 3, 128, 128) in [-1, 1]; made.tokens, made.image_embedding … for all between
"""  # noqa: E501

__version__ = "0.1.0"
