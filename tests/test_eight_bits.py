"""Weights in 8 bits: small errors, row by row, and nothing that wraps."""

import pytest
import torch

from minidalle2.storage.eight_bits import SCALE, pack, unpack


def back(tensor: torch.Tensor) -> torch.Tensor:
    return unpack(pack({"w": tensor}))["w"]


@pytest.mark.parametrize("shape", [(6, 4), (6, 4, 3, 3), (1, 5, 7)])
def test_a_weight_moves_by_half_a_step_of_its_row(shape):
    tensor = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    tensor[0] *= 100  # must not coarsen the others
    step = tensor.flatten(1).abs().amax(1) / 127
    error = (back(tensor) - tensor).flatten(1).abs().amax(1)
    assert (error <= 0.501 * step).all()


def test_tiny_and_huge_weights_keep_their_sign_and_size():
    """Scales in half precision would lose the tiny ones, and wrap some of the rest to -128."""
    tensor = torch.logspace(-9, 6, 4_001)[:, None] * torch.tensor([1.0, -1.0])
    torch.testing.assert_close(back(tensor), tensor, rtol=1e-5, atol=0)


def test_rows_of_zeros_and_vectors():
    tensors = {"zeros": torch.zeros(2, 3), "bias": torch.tensor([1.0, 1e-3])}
    tensors["n"] = torch.tensor(3.0)
    packed = pack(tensors)
    assert set(packed) == {"zeros", "zeros" + SCALE, "bias", "n"}
    assert packed["zeros"].dtype == torch.int8 and packed["bias"].dtype == torch.float16
    for name, tensor in unpack(packed).items():
        torch.testing.assert_close(tensor, tensors[name], rtol=1e-3, atol=0)


def test_float_tensors_are_left_alone():
    tensors = {"w": torch.randn(3, 3), "w.scale": torch.ones(3)}  # no int8: the scale is a weight
    assert set(unpack({"v.scale": torch.ones(3)})) == {"v.scale"}
    packed = unpack({"w.scale": tensors["w.scale"]} | {"u": tensors["w"].half()})
    assert set(packed) == {"w.scale", "u"} and packed["u"].dtype == torch.float32
