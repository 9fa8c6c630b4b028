"""minidalle2: DALL·E 2 (unCLIP), small enough to read and to train on a laptop.

text ─tokenizer─▶ tokens ─clip─▶ text embedding ─prior─▶ image embedding ─decoder─▶ 32 px ─upsampler─▶ 64 ─▶ 128 px
(B,)              (B, T)         z_t (B, E)              z_i (B, E)                 (B, 3, 32, 32)  …  (B, 3, 128, 128)

Shapes use the same letters in every file: B batch, T tokens of a text, D width of a network,
E dimensions of CLIP's embeddings, H heads, C channels, S pixels a side, N patches, n and k counts.

    from minidalle2.dalle2 import DALLE2
    made = DALLE2.load("shapes").generate("a small red circle above a large blue square")
    made.show()  # or made.save("outputs/circle")
    made.image128  # (1, 3, 128, 128) in [-1, 1]

`made` also has the results of all other stages: made.tokens, made.image_embeddings and so on.
"""  # noqa: E501

import os

from minidalle2.storage.openmp import wait_briefly

__version__ = "0.1.0"

wait_briefly(os.environ)  # here, because torch is not imported yet
