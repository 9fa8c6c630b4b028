"""The average of the weights, and which optimiser moves what."""

import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from minidalle2.clip import CLIP
from minidalle2.decoder import Decoder
from minidalle2.prior import Prior
from minidalle2.training.ema import EMA
from minidalle2.training.optimizer import Muon, build_optimizers, orthogonalise
from minidalle2.upsampler import Upsampler


def constant(value: float) -> nn.Module:
    """A model of two parameters and a buffer, all of one value."""
    model = nn.Linear(2, 2)
    model.register_buffer("count", torch.zeros(2))
    for tensor in model.state_dict().values():
        tensor.fill_(value)
    return model


# EMA


@pytest.mark.parametrize(("step", "decay"), [(0, 0.1), (1, 2 / 11), (90, 0.91), (10_000, 0.99)])
def test_warm_up(step, decay):
    """e-39: min(d, (1+n)/(10+n)), n = 0 at the first step."""
    ema = EMA(constant(1.0), 0.99)
    ema.update(constant(0.0), step)
    for parameter in ema.model.parameters():
        torch.testing.assert_close(parameter, torch.full_like(parameter, decay))


def test_initial_weights_are_forgotten():
    """e-39: .9999 alone would keep .82 of them after 2,000 steps; with warm-up nothing is left."""
    assert pytest.approx(0.82, abs=0.005) == 0.9999**2000
    ema, model = EMA(constant(1.0), 0.9999), constant(0.0)
    for step in range(2000):
        ema.update(model, step)
    assert ema.model.weight.max() < 1e-6


def test_buffers_are_copied():
    """e-39: not averaged."""
    ema = EMA(constant(1.0), 0.99)
    ema.update(constant(0.0), 100)
    assert (ema.model.count == 0).all() and (ema.model.weight > 0.9).all()


def test_average_is_apart_from_the_model():
    """A copy, in eval mode, without gradients; updating it leaves the model."""
    model = constant(1.0).train()
    ema = EMA(model, 0.9)
    with torch.no_grad():
        model.weight.fill_(3.0)
    assert (ema.model.weight == 1).all()
    ema.update(model, 0)
    assert (model.weight == 3).all() and model.training and model.weight.requires_grad
    assert not ema.model.training and not any(p.requires_grad for p in ema.model.parameters())


# Muon


@pytest.mark.parametrize("shape", [(32, 64), (64, 32), (16, 16 * 9), (3, 20, 50)])
def test_singular_values_near_one(shape):
    """Newton-Schulz brings all of them near 1, whatever the scale, and keeps the directions."""
    matrices = torch.randn(shape) * 1e-3
    out = orthogonalise(matrices)
    assert out.shape == matrices.shape and out.dtype == matrices.dtype
    values = torch.linalg.svdvals(out)
    assert values.min() > 0.6 and values.max() < 1.3
    u, _, vt = torch.linalg.svd(matrices, full_matrices=False)
    cosine = (out * (u @ vt)).sum((-2, -1)) / out.norm(dim=(-2, -1)) / (u @ vt).norm(dim=(-2, -1))
    assert cosine.min() > 0.97


def test_products_of_a_format_that_every_processor_has():
    """e-48: where bfloat16 is no instruction, its products take a hundred times as long."""
    formats = set()

    class Seen(TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            if function in (torch.baddbmm, torch.Tensor.__matmul__, torch.Tensor.matmul):
                formats.update(a.dtype for a in args if isinstance(a, torch.Tensor))
            return function(*args, **(kwargs or {}))

    with Seen():
        orthogonalise(torch.randn(2, 16, 24))
    assert formats == {torch.float32}


@pytest.mark.parametrize("shape", [(24, 216), (216, 24), (48, 48)])
def test_gram_matrices_stand_for_the_matrix(shape):
    """All steps taken with x itself, as Jordan does, end at the same, also where singular values
    span six decades."""
    generator = torch.Generator().manual_seed(0)
    u, s, vt = torch.linalg.svd(torch.randn(shape, generator=generator), full_matrices=False)
    matrix = u * torch.logspace(0, -6, len(s)) @ vt
    x = matrix.double() if shape[0] <= shape[1] else matrix.double().mT
    x = x / x.norm()
    for _ in range(5):
        gram = x @ x.mT
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    expected = x if shape[0] <= shape[1] else x.mT
    assert torch.allclose(orthogonalise(matrix).double(), expected, atol=1e-3)


def test_orthogonalise_survives_zero():
    assert (orthogonalise(torch.zeros(4, 4)) == 0).all()


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch has Muon from 2.9 on")
@pytest.mark.parametrize("shape", [(24, 12), (12, 24)])
def test_muon_equals_torch(shape):
    """Five steps beside torch's own, with weight decay."""
    ours, theirs = (nn.Parameter(torch.ones(shape)) for _ in range(2))
    a = Muon([ours], lr=0.02, weight_decay=0.1)
    b = torch.optim.Muon(
        [theirs], lr=0.02, weight_decay=0.1, momentum=0.95, adjust_lr_fn="match_rms_adamw"
    )
    for _ in range(5):
        ours.grad = torch.randn(shape)
        theirs.grad = ours.grad.clone()
        a.step()
        b.step()
    torch.testing.assert_close(ours, theirs, atol=2e-3, rtol=0)


@pytest.mark.parametrize("shape", [(32, 32), (64, 16), (16, 8, 3, 3)])
def test_size_of_an_update(shape):
    """Its root mean square is about .2 of the learning rate, as AdamW's; kernels are matrices."""
    parameter = nn.Parameter(torch.zeros(shape))
    parameter.grad = torch.randn(shape) * 1e-4
    Muon([parameter], lr=1.0).step()
    assert parameter.square().mean().sqrt().item() == pytest.approx(0.2, rel=0.3)


def test_equal_shapes_do_not_mix():
    """Stepped as one batch, each matrix moves as it would alone."""
    gradients = torch.randn(3, 8, 6)
    together = [nn.Parameter(torch.zeros(8, 6)) for _ in range(3)]
    for parameter, gradient in zip(together, gradients, strict=True):
        parameter.grad = gradient
    Muon(together, lr=1.0).step()
    for parameter, gradient in zip(together, gradients, strict=True):
        alone = nn.Parameter(torch.zeros(8, 6))
        alone.grad = gradient
        Muon([alone], lr=1.0).step()
        torch.testing.assert_close(parameter, alone, atol=0.02, rtol=0)


def test_parameters_without_gradient_stay():
    parameter = nn.Parameter(torch.ones(4, 4))
    Muon([parameter], lr=1.0, weight_decay=0.5).step()
    assert (parameter == 1).all()


# Who moves what

STAGES = {"clip": CLIP, "prior": Prior, "decoder": Decoder, "upsampler64": Upsampler}


@pytest.mark.parametrize("stage", STAGES)
def test_every_parameter_has_one_optimiser(configs, stage):
    """Muon gets matrices and kernels only; vectors, embeddings and positions get AdamW."""
    model = STAGES[stage](getattr(configs, stage))
    muon, adamw = build_optimizers(model, 1e-3, 0.01)
    groups = [p for optimizer in (muon, adamw) for g in optimizer.param_groups for p in g["params"]]
    assert sorted(map(id, groups)) == sorted(map(id, model.parameters()))
    hidden = {id(p) for p in muon.param_groups[0]["params"]}
    names = {name for name, p in model.named_parameters() if id(p) in hidden}
    assert names and all(name.endswith(".weight") for name in names)
    assert not any("norm" in name or "token_embedding" in name for name in names)
    assert all(p.ndim >= 2 for p in muon.param_groups[0]["params"])


def test_temperature_does_not_decay(configs):
    """e-28: nor does anything else outside the matrices."""
    clip = CLIP(configs.clip)
    muon, adamw = build_optimizers(clip, 1e-3, 0.01)
    assert any(p is clip.log_scale for p in adamw.param_groups[0]["params"])
    assert (
        adamw.param_groups[0]["weight_decay"] == 0 and muon.param_groups[0]["weight_decay"] == 0.01
    )


def test_frozen_parameters_are_left_out():
    """e-25: frozen means frozen."""
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[0].requires_grad_(False)
    held = [p for o in build_optimizers(model, 1e-3, 0.01) for p in o.param_groups[0]["params"]]
    assert {id(p) for p in held} == {id(p) for p in model[1].parameters()}
