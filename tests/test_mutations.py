"""Deliberate mistakes, each of which the parity suite must catch.

A mutation replaces a piece of the Flax side (layer, flatten, optimizer, schedule, converter) by one
with a known mistake. The comparison named beside it passes without the mutation; with it, it must
fail by values, a thousand times beyond its budget.
"""

from functools import cache, partial

import jax.numpy as jnp
import optax
import pytest
import test_parity_pairs
from flax import linen as nn
from jax import lax
from test_parity_pairs import dropout_pair, pool_pair

from jaxcnn import optim, schedules, weights
from jaxcnn.layers import conv, max_pool
from jaxcnn.models import cnn
from parity import harness

CLEAR = 1e3
CNN, MLP, ALEXNET = (partial(harness.pair, n) for n in ("cnn_mnist", "mlp_mnist", "alexnet_cifar"))
FORWARD = "output, evaluation"
TRAINING = "output, training"
BACKWARD = "gradients, training"
STATISTICS = "statistics, 1 batch"
STEPS = "10 steps, decay per epoch"


def patch(owner, name, mutate):
    """Replace owner.name by mutate(owner.name)."""
    return lambda monkeypatch: monkeypatch.setattr(owner, name, mutate(getattr(owner, name)))


def conv2d(images=lambda x: x, kernel=lambda k: k, bias=lambda b: b):
    """Change the arguments of every convolution."""
    return patch(
        conv,
        "conv2d",
        lambda f: lambda x, k, b, **options: f(images(x), kernel(k), bias(b), **options),
    )


def shifted(f):
    """As much padding, but one row and one column less before the image than behind it."""

    def pads(*args):
        (top, bottom), (left, right) = f(*args)
        return (top - 1, bottom + 1), (left - 1, right + 1)

    return pads


class Identity(nn.Module):
    """The layer that was forgotten."""

    @nn.compact
    def __call__(self, x):
        return x


class LeakyReLU(nn.Module):
    """Nearly a ReLU."""

    @nn.compact
    def __call__(self, x):
        return nn.leaky_relu(x, 1e-6)


class MutantNorm(nn.Module):
    """BatchNorm2d with one mistake; none of them for "none"."""

    mistake: str

    @nn.compact
    def __call__(self, images, *, train):
        is_ = self.mistake.__eq__
        shape, dtype = (images.shape[3],), images.dtype
        scale = self.param("scale", nn.initializers.ones, shape, dtype)
        bias = self.param("bias", nn.initializers.zeros, shape, dtype)
        mean = self.variable("batch_stats", "mean", jnp.zeros, shape, dtype)
        var = self.variable("batch_stats", "var", jnp.ones, shape, dtype)
        count = self.variable("batch_stats", "num_batches_tracked", jnp.zeros, (), jnp.int32)
        used = mean.value, var.value
        if train:
            n = images.size // images.shape[3]
            batch_mean, biased = images.mean((0, 1, 2)), images.var((0, 1, 2))
            unbiased = biased * (n / (n - 1))
            if not is_("running statistics in training"):
                used = batch_mean, unbiased if is_("unbiased normalisation") else biased
            if is_("statistics without gradient"):
                used = lax.stop_gradient(used)
            count.value += 0 if is_("uncounted batches") else 1
            kept = biased if is_("biased running variance") else unbiased
            mean.value = 0.9 * mean.value + 0.1 * batch_mean
            var.value = 0.9 * var.value + 0.1 * kept
        deviation = jnp.sqrt(used[1] + 1e-5)
        if is_("eps outside the root"):
            deviation = jnp.sqrt(used[1]) + 1e-5
        return (images - used[0]) / deviation * scale + bias


def norm(mistake):
    return patch(cnn, "BatchNorm2d", lambda _: partial(MutantNorm, mistake))


def unscaled(layer):
    """Dropout that leaves the kept values as they are: the real mask, the scale taken back."""

    class Unscaled(layer):
        @nn.compact
        def __call__(self, x, *, train):
            out = super().__call__(x, train=train)
            return out * (1 - self.p) if train else out

    return Unscaled


def last_tie(f):
    """Of equal maxima the last one receives the gradient; right where windows end at the edge."""
    return lambda x, *args, **options: f(x[:, ::-1, ::-1], *args, **options)[:, ::-1, ::-1]


def zero_padded(f):
    """Max pool that pads with zeros in place of minus infinity."""

    def max_pool2d(x, kernel, stride, padding, **options):
        around = ((0, 0), (padding, padding), (padding, padding), (0, 0))
        return f(jnp.pad(x, around), kernel, stride, **options)

    return max_pool2d


def sgd(build):
    """Replace SGD by the chain that `build(rate, momentum, decay)` returns."""

    def mutant(rate, *, momentum=0.0, weight_decay=0.0, nesterov=False):
        assert not nesterov
        return optax.chain(*build(optax.scale_by_learning_rate(rate), momentum, weight_decay))

    return lambda monkeypatch: monkeypatch.setitem(optim.OPTIMIZERS, "sgd", mutant)


def schedule(change):
    """Count the exponential schedule's steps as change(step)."""

    def build(learning_rate, steps_per_epoch, *, gamma):
        real = schedules.exponential(learning_rate, steps_per_epoch, gamma=gamma)
        return lambda step: real(change(step))

    return lambda monkeypatch: monkeypatch.setitem(schedules.SCHEDULES, "exponential", build)


def kernels(params):
    return {layer: {name: name == "kernel" for name in leaves} for layer, leaves in params.items()}


decayed, trace = optax.add_decayed_weights, optax.trace

MUTATIONS = {
    # convolution
    "padding shifted by one pixel": (CNN, FORWARD, patch(conv, "_pads", shifted)),
    "kernel with height and width swapped": (
        CNN,
        FORWARD,
        conv2d(kernel=lambda k: k.transpose(1, 0, 2, 3)),
    ),
    "kernel flipped (true convolution)": (ALEXNET, FORWARD, conv2d(kernel=lambda k: k[::-1, ::-1])),
    "channels reversed (BGR)": (ALEXNET, FORWARD, conv2d(images=lambda x: x[..., ::-1])),
    "bias missing": (ALEXNET, FORWARD, conv2d(bias=lambda b: None)),
    "converter swaps height and width": (
        ALEXNET,
        FORWARD,
        patch(weights, "_FROM_TORCH", lambda table: {**table, 4: (3, 2, 1, 0)}),
    ),
    # activation, flatten, pool, dropout
    "ReLU missing": (CNN, FORWARD, patch(cnn, "ReLU", lambda _: Identity)),
    "ReLU leaking a millionth": (CNN, FORWARD, patch(cnn, "ReLU", lambda _: LeakyReLU)),
    "flatten in HWC order": (
        CNN,
        FORWARD,
        patch(cnn, "flatten", lambda _: lambda x: x.reshape(x.shape[0], -1)),
    ),
    "last of equal maxima gets the gradient": (
        pool_pair,
        BACKWARD,
        patch(max_pool, "max_pool2d", last_tie),
    ),
    "max pool padded with zeros": (pool_pair, FORWARD, patch(max_pool, "max_pool2d", zero_padded)),
    "dropout without 1 / (1 - p)": (
        dropout_pair,
        TRAINING,
        patch(test_parity_pairs.layers, "Dropout", unscaled),
    ),
    # batch norm
    "eps 1e-3": (CNN, FORWARD, patch(cnn, "BatchNorm2d", lambda bn: partial(bn, eps=1e-3))),
    "eps outside the root": (CNN, FORWARD, norm("eps outside the root")),
    "momentum of the old value": (
        CNN,
        STATISTICS,
        patch(cnn, "BatchNorm2d", lambda bn: partial(bn, momentum=0.9)),
    ),
    "biased running variance": (CNN, STATISTICS, norm("biased running variance")),
    "uncounted batches": (CNN, STATISTICS, norm("uncounted batches")),
    "unbiased normalisation": (CNN, TRAINING, norm("unbiased normalisation")),
    "running statistics in training": (CNN, TRAINING, norm("running statistics in training")),
    "statistics without gradient": (CNN, BACKWARD, norm("statistics without gradient")),
    # optimizer and schedule
    "weight decay after the momentum": (
        MLP,
        STEPS,
        sgd(lambda lr, m, wd: (trace(m), decayed(wd), lr)),
    ),
    "learning rate inside the momentum": (
        MLP,
        STEPS,
        sgd(lambda lr, m, wd: (decayed(wd), lr, trace(m))),
    ),
    "momentum as an average (dampened)": (
        MLP,
        STEPS,
        sgd(lambda lr, m, wd: (decayed(wd), optax.scale(1 - m), trace(m), lr)),
    ),
    "nesterov": (MLP, STEPS, sgd(lambda lr, m, wd: (decayed(wd), trace(m, nesterov=True), lr))),
    "weight decay missing": (MLP, STEPS, sgd(lambda lr, m, wd: (trace(m), lr))),
    "no decay of biases": (
        MLP,
        STEPS,
        sgd(lambda lr, m, wd: (decayed(wd, kernels), trace(m), lr)),
    ),
    "decay one step late": (MLP, STEPS, schedule(lambda step: jnp.maximum(step - 1, 0))),
    "decay one step early": (MLP, STEPS, schedule(lambda step: step + 1)),
}


@cache
def assert_passes(make, comparison):
    """Assert that a comparison passes as things are; once, for all the mutations it serves."""
    compare, budget, _ = harness.COMPARISONS[comparison]
    harness.assert_close(*compare(make()), rtol=budget)


def assert_caught(make, comparison, mutate, monkeypatch):
    """Assert that a comparison passes as things are and fails by far with a mistake."""
    assert_passes(make, comparison)
    mutate(monkeypatch)
    compare, budget, _ = harness.COMPARISONS[comparison]
    got, want = compare(make())
    with pytest.raises(AssertionError, match="differ by more than"):
        harness.assert_close(got, want, rtol=CLEAR * budget)


@pytest.mark.parametrize("mistake", MUTATIONS)
def test_mistake_is_caught(mistake, monkeypatch):
    assert_caught(*MUTATIONS[mistake], monkeypatch)


@pytest.mark.parametrize("comparison", [FORWARD, TRAINING, BACKWARD, STATISTICS])
def test_the_mutant_without_a_mistake_passes(comparison, monkeypatch):
    norm("none")(monkeypatch)
    compare, budget, _ = harness.COMPARISONS[comparison]
    harness.assert_close(*compare(CNN()), rtol=budget)


def test_the_optimizer_without_a_mistake_passes(monkeypatch):
    sgd(lambda lr, m, wd: (decayed(wd), trace(m), lr))(monkeypatch)
    schedule(lambda step: step)(monkeypatch)
    compare, budget, _ = harness.COMPARISONS[STEPS]
    harness.assert_close(*compare(MLP()), rtol=budget)
