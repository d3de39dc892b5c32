"""Binary cross-entropies, L1, squares and smooth L1 against `torch.nn.functional`."""

import re

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from precisions import PRECISIONS
from torch.nn import functional

from jaxcnn import losses
from parity.compilation import precision
from parity.errors import assert_close
from parity.functions import compare, mapped
from parity.sides import to_nhwc

RTOL = {"float64": 1e-12, "float32": 1e-5}
REDUCTIONS = ["none", "mean", "sum"]
SHAPES = [(7,), (1, 4), (2, 3, 4, 2)]

# Name, arguments of both sides.
DISTANCES = [
    ("l1_loss", {}),
    ("mse_loss", {}),
    ("smooth_l1_loss", {}),
    ("smooth_l1_loss", {"beta": 0.25}),
    ("smooth_l1_loss", {"beta": 3}),
    ("smooth_l1_loss", {"beta": 0.0}),
]
# Which weights: of every element or of every channel (PyTorch's axis 1).
WEIGHTS = [(), ("weight",), ("channels",), ("pos_weight",), ("weight", "pos_weight")]
SECOND = ("second gradient of x", "second gradient of target")


def pair_of(shape, dtype="float64", low=-2.0, high=2.0):
    """Return inputs and targets; one difference is 0."""
    rng = np.random.default_rng(0)
    x = rng.uniform(low, high, shape)
    target = rng.uniform(low, high, shape)
    target.flat[1] = x.flat[1]
    return {"x": x.astype(dtype), "target": target.astype(dtype)}


def weights_of(which, shape, dtype):
    """Return the weights for our side and for PyTorch's."""
    rng = np.random.default_rng(1)
    ours, theirs = {}, {}
    for name in which:
        channels = (1, shape[1], *[1] * (len(shape) - 2)) if len(shape) > 1 else shape
        value = rng.uniform(0.2, 3, shape if name == "weight" else channels).astype(dtype)
        key = "weight" if name == "channels" else name
        with precision(dtype):
            ours[key], theirs[key] = jnp.asarray(to_nhwc(value)), torch.tensor(value)
    return ours, theirs


def curved(name, options):
    """Return whether a distance has a second gradient; PyTorch's of a line is no array."""
    return name != "l1_loss" and options.get("beta") != 0


def check(name, arguments, options, dtype, weights=(), second=True, rtol=None):
    ours, theirs = weights_of(weights, arguments["x"].shape, dtype)
    got, want = compare(
        lambda x, target: getattr(losses, name)(x, target, **options, **ours),
        lambda x, target: getattr(functional, name)(x, target, **options, **theirs),
        arguments,
        second=second,
    )
    assert_close(got, want, rtol=rtol or RTOL[dtype], zeros=SECOND)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("name", "options"), DISTANCES)
def test_distances(name, options, shape, reduction):
    options = options | {"reduction": reduction}
    check(name, pair_of(shape), options, "float64", second=curved(name, options))


@pytest.mark.parametrize(("name", "options"), DISTANCES)
def test_distances_in_float32(name, options):
    arguments = pair_of((2, 3, 4, 2), "float32")
    options = options | {"reduction": "mean"}
    check(name, arguments, options, "float32", second=curved(name, options))


def test_smooth_l1_at_its_bends():
    """At 0, at +-beta and just beside them, with the gradient."""
    x = np.array([0.0, 0.5, -0.5, 0.5 + 1e-9, 0.5 - 1e-9, -7.0])
    arguments = {"x": x, "target": np.zeros(6)}
    check("smooth_l1_loss", arguments, {"beta": 0.5, "reduction": "none"}, "float64", second=False)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("weights", WEIGHTS[:3])
def test_binary_cross_entropy(weights, shape, reduction):
    # PyTorch's second derivative adds 1e-12 to p and to 1 - p.
    arguments = pair_of(shape, low=0.05, high=0.95)
    check(
        "binary_cross_entropy", arguments, {"reduction": reduction}, "float64", weights, rtol=1e-9
    )
    check("binary_cross_entropy", arguments, {"reduction": reduction}, "float64", weights, False)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("weights", WEIGHTS)
def test_binary_cross_entropy_with_logits(weights, shape, reduction):
    arguments = pair_of(shape)
    options = {"reduction": reduction}
    check("binary_cross_entropy_with_logits", arguments, options, "float64", weights)


@pytest.mark.parametrize("weights", WEIGHTS)
def test_binary_cross_entropies_in_float32(weights):
    options = {"reduction": "mean"}
    shape = (2, 3, 4, 2)
    name = "binary_cross_entropy_with_logits"
    check(name, pair_of(shape, "float32"), options, "float32", weights)
    if "pos_weight" not in weights:
        arguments = pair_of(shape, "float32", 0.1, 0.9)
        check("binary_cross_entropy", arguments, options, "float32", weights)


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("target", [0.0, 1.0])
def test_certain_probabilities_have_finite_losses_and_gradients(target, dtype):
    p = np.array([0.0, 1.0, 1e-30, 1e-13, 1e-7, 0.5]).astype(dtype)
    goal = np.full(6, target, dtype)
    with precision(dtype):
        goals = jnp.asarray(goal)
    got, want = compare(
        lambda p: losses.binary_cross_entropy(p, goals),
        lambda p: functional.binary_cross_entropy(p, torch.tensor(goal), reduction="none"),
        {"p": p},
    )
    assert want["output"].max() == 100
    for name in want:
        np.testing.assert_allclose(got[name], want[name], rtol=RTOL[dtype], err_msg=name)


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("target", [0.0, 0.3, 1.0])
def test_large_logits_have_finite_losses_and_gradients(target, dtype):
    x = np.array([1e4, -1e4, 100, -100, 1e30, -1e30, 0.0]).astype(dtype)
    goal = np.full(7, target, dtype)
    with precision(dtype):
        goals = jnp.asarray(goal)
    got, want = compare(
        lambda x: losses.binary_cross_entropy_with_logits(x, goals),
        lambda x: functional.binary_cross_entropy_with_logits(
            x, torch.tensor(goal), reduction="none"
        ),
        {"x": x},
    )
    for name in want:
        np.testing.assert_allclose(
            got[name], want[name], rtol=RTOL[dtype], atol=1e-30, err_msg=name
        )


@pytest.mark.parametrize(
    "name", ["l1_loss", "mse_loss", "smooth_l1_loss", "binary_cross_entropy_with_logits"]
)
def test_vmap(name):
    loss = getattr(losses, name)
    got, want = mapped(lambda x, target: loss(x, target), pair_of((4, 3)))
    assert_close(got, want, rtol=1e-12)


ALL = [
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "l1_loss",
    "mse_loss",
    "smooth_l1_loss",
]


@pytest.mark.parametrize("name", ALL)
def test_errors_of_all(name):
    loss, x = getattr(losses, name), jnp.ones((4, 1))
    with pytest.raises(ValueError, match=rf"^{name}: reduction must be one of none, mean, sum, g"):
        loss(x, x, reduction="avg")
    with pytest.raises(ValueError, match=rf"^{name}: .* one shape, got \(4, 1\) and \(4,\)"):
        loss(x, jnp.ones(4))
    with pytest.raises(ValueError, match=rf"^{name}: .* one floating dtype, got float32 and int32"):
        loss(x, jnp.ones((4, 1), int))
    with pytest.raises(ValueError, match=rf"^{name}: .* one floating dtype, got int32 and int32"):
        loss(jnp.ones((4, 1), int), jnp.ones((4, 1), int))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("smooth_l1_loss", {"beta": -0.5}, "smooth_l1_loss: beta must be at least 0, got -0.5"),
        ("binary_cross_entropy", {"weight": jnp.ones(3)}, "weight must broadcast to the inputs'"),
        ("binary_cross_entropy", {"weight": jnp.ones((2, 4, 5))}, "(4, 5), got (2, 4, 5)"),
        ("binary_cross_entropy_with_logits", {"weight": jnp.ones(3)}, "shape (4, 5), got (3,)"),
        ("binary_cross_entropy_with_logits", {"pos_weight": jnp.ones(3)}, "logits: pos_weight mu"),
    ],
)
def test_errors_of_one(name, options, message):
    x = jnp.full((4, 5), 0.5)
    with pytest.raises(ValueError, match=re.escape(message)):
        getattr(losses, name)(x, x, **options)
