"""Cross-entropy and NLL against `torch.nn.functional`: of examples and of pixels."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch.nn import functional

from jaxcnn.losses import cross_entropy, nll_loss
from parity.compilation import precision
from parity.errors import assert_close
from parity.functions import compare, mapped

RTOL = {"float64": 1e-12, "float32": 1e-5}
REDUCTIONS = ["none", "mean", "sum"]

# PyTorch's shapes of the logits: of examples, of pixels, of one example, of one class.
SHAPES = [(6, 5), (2, 5, 3, 4), (1, 3), (4, 1)]
WEIGHT = {"weight": np.array([0.3, 2.0, 0.0, 1.1, 0.7])}

INDICES = [
    {},
    {"label_smoothing": 0.1},
    {"label_smoothing": 1.0},
    {"ignore_index": 0},
    {"ignore_index": -100},
    {"ignore_index": 0, "label_smoothing": 0.3},
    WEIGHT,
    WEIGHT | {"label_smoothing": 0.2},
    WEIGHT | {"ignore_index": 0},
    WEIGHT | {"ignore_index": -100, "label_smoothing": 0.3},
]
PROBABILITIES = [{}, {"label_smoothing": 0.1}, WEIGHT, WEIGHT | {"label_smoothing": 0.4}]
LIKELIHOOD = [{}, {"ignore_index": 0}, WEIGHT, WEIGHT | {"ignore_index": -100}]


def logits_of(shape, dtype="float64"):
    return np.random.default_rng(0).normal(0, 3, shape).astype(dtype)


def labels_of(shape, options):
    labels = np.random.default_rng(1).integers(0, shape[1], (shape[0], *shape[2:]))
    labels.flat[0] = shape[1] - 1  # not every label is an ignored one
    if labels.size > 1:
        labels.flat[1] = options.get("ignore_index", 0)
    return labels


def both(options, classes, dtype):
    """Return the options for both sides, the weight as an array of the dtype."""
    if "weight" not in options:
        return options, options
    weight = options["weight"][:classes].astype(dtype)
    return options | {"weight": jnp.asarray(weight)}, options | {"weight": torch.tensor(weight)}


def check(ours, theirs, shape, options, dtype, arguments, labels=None, zeros=()):
    with precision(dtype):
        our_options, their_options = both(options, shape[1], dtype)

    def our_side(x, target=None):
        return ours(x, jnp.asarray(labels) if target is None else target, **our_options)

    def their_side(x, target=None):
        return theirs(x, torch.tensor(labels) if target is None else target, **their_options)

    got, want = compare(our_side, their_side, arguments, second=True)
    assert_close(got, want, rtol=RTOL[dtype], zeros=zeros)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("shape", SHAPES[:2])
@pytest.mark.parametrize("options", INDICES)
def test_cross_entropy_of_indices(options, shape, reduction):
    options = options | {"reduction": reduction}
    labels = labels_of(shape, options)
    check(
        cross_entropy, functional.cross_entropy, shape, options, "float64", {"x": logits_of(shape)},
        labels,
    )  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES[2:])
@pytest.mark.parametrize("options", [INDICES[0], INDICES[1], INDICES[4]])
def test_cross_entropy_of_one_example_and_of_one_class(options, shape):
    check(
        cross_entropy, functional.cross_entropy, shape, options | {"reduction": "sum"}, "float64",
        {"x": logits_of(shape)}, np.full(shape[0], shape[1] - 1),
        # Of one class the softmax is 1 whatever the logits.
        zeros=() if shape[1] > 1 else ("output", "gradient of x", "second gradient of x"),
    )  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES[:2])
@pytest.mark.parametrize("options", INDICES)
def test_cross_entropy_in_float32(options, shape):
    options = options | {"reduction": "mean"}
    labels = labels_of(shape, options)
    arguments = {"x": logits_of(shape, "float32")}
    check(cross_entropy, functional.cross_entropy, shape, options, "float32", arguments, labels)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("shape", SHAPES[:2])
@pytest.mark.parametrize("options", PROBABILITIES)
def test_cross_entropy_of_probabilities(options, shape, reduction):
    """With the gradient of the probabilities too."""
    target = np.random.default_rng(2).dirichlet(np.ones(shape[1]), (shape[0], *shape[2:]))
    arguments = {"x": logits_of(shape), "target": np.moveaxis(target, -1, 1).copy()}
    options = options | {"reduction": reduction}
    check(cross_entropy, functional.cross_entropy, shape, options, "float64", arguments)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("shape", SHAPES[:2])
@pytest.mark.parametrize("options", LIKELIHOOD)
def test_nll_loss(options, shape, reduction):
    options = options | {"reduction": reduction}
    labels = labels_of(shape, options)
    arguments = {"x": np.log(np.random.default_rng(3).uniform(0.01, 1, shape))}
    check(
        nll_loss, functional.nll_loss, shape, options, "float64", arguments, labels,
        zeros=("second gradient of x",),
    )  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES[:2])
@pytest.mark.parametrize("options", LIKELIHOOD)
def test_nll_of_log_softmax_is_the_cross_entropy(options, shape, float64):
    labels = jnp.asarray(labels_of(shape, options))
    logits = jnp.moveaxis(jnp.asarray(logits_of(shape)), 1, -1)
    options, _ = both(options, shape[1], "float64")
    got = nll_loss(jax.nn.log_softmax(logits), labels, **options, reduction="mean")
    want = cross_entropy(logits, labels, **options, reduction="mean")
    np.testing.assert_allclose(got, want, rtol=1e-13)


@pytest.mark.parametrize("loss", [cross_entropy, nll_loss])
def test_the_mean_of_ignored_labels_alone_is_nan_as_pytorchs(loss):
    theirs = getattr(functional, loss.__name__)
    labels = np.array([1, 1])
    want = theirs(torch.zeros(2, 3), torch.tensor(labels), ignore_index=1)
    got = loss(jnp.zeros((2, 3)), jnp.asarray(labels), ignore_index=1, reduction="mean")
    assert np.isnan(want.item()) and np.isnan(got)
    alone = loss(jnp.zeros((2, 3)), jnp.asarray(labels), ignore_index=1)
    np.testing.assert_array_equal(alone, 0)


@pytest.mark.parametrize("options", [{}, {"ignore_index": 2}, {"label_smoothing": 0.1}])
def test_large_logits_do_not_overflow(options):
    x = np.array([[1e4, -1e4, 0.0], [-1e4, 1e4, 3.0], [1e30, 1e30, 0.0]])
    labels = np.array([1, 1, 0])
    got, want = compare(
        lambda x: cross_entropy(x, jnp.asarray(labels), **options),
        lambda x: functional.cross_entropy(x, torch.tensor(labels), reduction="none", **options),
        {"x": x},
    )
    assert_close(got, want, rtol=1e-12)


def test_an_ignored_label_hides_an_infinite_loss():
    x = jnp.asarray([[-jnp.inf, 0.0], [0.0, 0.0]])
    labels = jnp.asarray([-100, 1])
    value, gradient = jax.value_and_grad(
        lambda x: nll_loss(x, labels, ignore_index=-100, reduction="sum")
    )(x)
    assert value == 0 and np.isfinite(gradient).all()


@pytest.mark.parametrize("options", INDICES[:6])
def test_vmap(options):
    labels = labels_of((6, 5), options)
    got, want = mapped(
        lambda x: cross_entropy(x, jnp.asarray(labels), **options), {"x": logits_of((6, 5))}
    )
    assert_close(got, want, rtol=1e-12)


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        (jnp.zeros(4, int), {"reduction": "average"}, "one of none, mean, sum, got 'average'"),
        (jnp.zeros(3, int), {}, "labels must be (4,) for inputs (4, 5), got (3,)"),
        (jnp.zeros((4, 1), int), {}, "labels must be (4,) for inputs (4, 5), got (4, 1)"),
        (jnp.zeros(4, bool), {}, "labels must be integers, got bool"),
        (jnp.zeros(4, int), {"weight": jnp.ones(4)}, "weight must be (5,), one a class, got (4,)"),
        (jnp.zeros(4, int), {"weight": jnp.ones((5, 1))}, "one a class, got (5, 1)"),
    ],
)
@pytest.mark.parametrize("loss", [cross_entropy, nll_loss])
def test_errors_of_both(loss, labels, options, message):
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        loss(jnp.zeros((4, 5)), labels, **options)
    assert str(caught.value).startswith(f"{loss.__name__}: ")


@pytest.mark.parametrize(
    ("loss", "labels", "options", "message"),
    [
        (nll_loss, jnp.zeros((4, 5)), {}, "nll_loss: labels must be integers, got float32"),
        (cross_entropy, jnp.zeros((4, 4)), {}, "shape and dtype, (4, 5) float32, got (4, 4)"),
        (cross_entropy, jnp.zeros((4, 5), "float16"), {}, "got (4, 5) float16"),
        (cross_entropy, jnp.zeros((4, 5)), {"ignore_index": 1}, "ignore_index=1 needs class ind"),
        (cross_entropy, jnp.zeros(4, int), {"label_smoothing": 1.1}, "in [0, 1], got 1.1"),
        (cross_entropy, jnp.zeros(4, int), {"label_smoothing": -0.1}, "in [0, 1], got -0.1"),
    ],
)
def test_errors_of_one(loss, labels, options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        loss(jnp.zeros((4, 5)), labels, **options)
