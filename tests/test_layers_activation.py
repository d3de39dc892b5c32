"""Activations against `torch.nn`: values, gradients, second gradients, zeros and infinities."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from precisions import PRECISIONS

from jaxcnn import layers
from jaxcnn.layers import Linear
from parity.errors import assert_close
from parity.functions import compare, mapped

RTOL = {"float64": 1e-12, "float32": 1e-5}
SHAPES = [(2, 3, 5, 4), (1, 1, 1, 1), (1, 6), (3,)]

CASES = [
    ("ReLU", {}),
    ("LeakyReLU", {}),
    ("LeakyReLU", {"negative_slope": 0.3}),
    ("LeakyReLU", {"negative_slope": 0.0}),
    ("LeakyReLU", {"negative_slope": -0.5}),
    ("LeakyReLU", {"negative_slope": 1.7}),
    ("ELU", {}),
    ("ELU", {"alpha": 0.4}),
    ("ELU", {"alpha": 2.5}),
    ("Sigmoid", {}),
    ("Tanh", {}),
    ("GELU", {}),
    ("GELU", {"approximate": "tanh"}),
]
SOFTMAX = [  # shape in PyTorch's layout, our axis, PyTorch's
    ((2, 3, 5, 4), -1, 1),
    ((2, 3, 5, 4), 3, 1),
    ((2, 3, 5, 4), 1, 2),
    ((2, 3, 5, 4), -2, 3),
    ((2, 3, 5, 4), 0, 0),
    ((4, 7), -1, -1),
    ((4, 7), 0, 0),
    ((5,), -1, -1),
    ((3, 1), -1, -1),
]


LINES = {"ReLU", "LeakyReLU"}


def module(name, options):
    return lambda x: getattr(layers, name)(**options).apply({}, x)


def twin(name, *arguments, **options):
    layer = getattr(torch.nn, name)(*arguments, **options)
    return lambda x: layer(x)


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("name", "options"), CASES)
def test_grid(name, options, shape, dtype):
    x = np.random.default_rng(0).normal(0.3, 2, shape).astype(dtype)
    ours, theirs = module(name, options), twin(name, **options)
    got, want = compare(ours, theirs, {"x": x}, second=True)
    # Lines have no curvature; a few values may all lie where the slope or the curvature is 0.
    few = x.size < 5
    zeros = {"second gradient of x"} if name in LINES or few else set()
    zeros |= {"gradient of x"} if few else set()
    assert_close(got, want, rtol=RTOL[dtype], zeros=zeros)


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize(("shape", "ours", "theirs"), SOFTMAX)
def test_softmax(shape, ours, theirs, dtype):
    x = np.random.default_rng(0).normal(0, 3, shape).astype(dtype)
    got, want = compare(
        module("Softmax", {"dim": ours}), twin("Softmax", theirs), {"x": x}, second=True
    )
    alone = shape[theirs] == 1
    zeros = ("gradient of x", "second gradient of x") if alone else ()
    assert_close(got, want, rtol=1e-12 if dtype == "float64" else 1e-5, zeros=zeros)


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize(("name", "options"), CASES)
def test_zeros_and_extremes(name, options, dtype):
    """Value by value: at 0, -0, the smallest, large and infinite x; none is a NaN."""
    tiny = np.finfo(dtype).tiny
    x = [0, -0.0, tiny, -tiny, 1e-9, -1e-9, 20, -20, 90, -90, 800, -800]
    if name != "GELU":  # whose tanh form has squares that overflow, in PyTorch too
        x += [1e30, -1e30]
    if name != "GELU" and options.get("negative_slope") != 0:  # 0 * inf is NaN, in PyTorch too
        x += [np.inf, -np.inf]
    x = np.array(x, dtype)
    got, want = compare(module(name, options), twin(name, **options), {"x": x})
    for key in want:
        assert not np.isnan(want[key]).any()
        close = {"rtol": 10 * np.finfo(dtype).eps, "atol": 10 * np.finfo(dtype).eps}
        np.testing.assert_allclose(got[key], want[key], **close, err_msg=key)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_second_gradients_stay_finite(name, options, float64):
    x = jnp.asarray([0.0, 1e-9, -1e-9, 30.0, -30.0, 800.0, -800.0])
    second = jax.vmap(jax.grad(jax.grad(module(name, options))))
    assert np.isfinite(second(x)).all()


def test_elu_keeps_the_digits_of_small_values():
    x = np.array([-1e-12, -3e-8, -1e-5])
    got = module("ELU", {})(jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(got, np.expm1(x), rtol=1e-6)


def test_gelu_knows_two_forms():
    with pytest.raises(ValueError, match="GELU 'gelu': approximate must be none or tanh, got 'e'"):
        layers.GELU("e", name="gelu").apply({}, jnp.zeros(3))


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu_of_bfloat16_is_rounded_once(approximate):
    x = jnp.linspace(-4, 4, 999).astype(jnp.bfloat16)
    got = module("GELU", {"approximate": approximate})(x)
    want = twin("GELU", approximate=approximate)(torch.tensor(np.asarray(x).astype("f8")))
    np.testing.assert_allclose(np.asarray(got).astype("f8"), want, rtol=2**-8, atol=1e-6)


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_softmax_of_large_and_infinite_values(dtype):
    x = np.array([[1e4, -1e4, 9990.0], [-np.inf, 0, 1], [-1e30, -1e30, -1e30]], dtype)
    got, want = compare(module("Softmax", {}), twin("Softmax", -1), {"x": x})
    assert_close(got, want, rtol=1e-12 if dtype == "float64" else 1e-6)
    np.testing.assert_allclose(got["output"].sum(1), 1, rtol=1e-6)


@pytest.mark.parametrize(("name", "options"), [*CASES, ("Softmax", {})])
def test_vmap(name, options):
    x = np.random.default_rng(0).normal(0.3, 2, (2, 4, 3, 5))
    # Softmax' values have the sum 1 whatever x is.
    zeros = ["x"] if name == "Softmax" else []
    assert_close(*mapped(module(name, options), {"x": x}), rtol=1e-12, zeros=zeros)


@pytest.mark.parametrize(("shape", "dim"), [((2, 3), 2), ((2, 3), -3), ((4,), 1)])
def test_an_axis_that_is_none(shape, dim):
    with pytest.raises(ValueError, match=rf"Softmax 'probabilities': dim={dim} is no axis of an a"):
        layers.Softmax(dim, name="probabilities").apply({}, jnp.zeros(shape))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize(("name", "options"), [*CASES, ("Softmax", {})])
def test_half_precision_stays(name, options, dtype):
    assert module(name, options)(jnp.ones((2, 3), dtype)).dtype == dtype


@pytest.mark.parametrize(("name", "options"), CASES)
def test_stacked_linears_collapse_into_one_unless_an_activation_parts_them(name, options, float64):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(20, 4)))
    first, second = Linear(6), Linear(3)
    p1 = first.init(jax.random.key(0), x)
    hidden = first.apply(p1, x)
    p2 = second.init(jax.random.key(1), hidden)
    k1, b1, k2, b2 = (p["params"][n] for p in (p1, p2) for n in ("kernel", "bias"))
    one = {"params": {"kernel": k1 @ k2, "bias": b1 @ k2 + b2}}
    collapsed = second.apply(one, x)
    np.testing.assert_allclose(second.apply(p2, hidden), collapsed, rtol=1e-12, atol=1e-14)
    parted = second.apply(p2, module(name, options)(hidden))
    assert np.abs(parted - collapsed).max() > 1e-3
    # No single Linear does it: the best one (least squares) leaves a residue.
    affine = np.concatenate([x, np.ones((20, 1))], 1)
    for out, exact in ((collapsed, True), (parted, False)):
        best = np.linalg.lstsq(affine, out, rcond=None)[0]
        assert (np.abs(affine @ best - out).max() < 1e-12) == exact
