"""Weighted sums along an axis against the product with their matrix."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcnn.layers.weighted_sum import Taps, weighted_sum

LENGTH = 5


def taps(outputs, count):
    """Return random taps, some outside, some twice on the same value, and their matrix."""
    rng = np.random.default_rng(0)
    positions = rng.integers(0, LENGTH, (outputs, count))
    inside = rng.random((outputs, count)) < 0.8
    weights = rng.normal(size=(outputs, count))
    matrix = np.zeros((outputs, LENGTH))
    np.add.at(matrix, (np.arange(outputs)[:, None], positions), weights * inside)
    return Taps(positions, weights, inside), matrix


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize(("outputs", "count"), [(7, 3), (1, 4), (3, 1)])
def test_product_with_the_matrix(outputs, count, axis, float64):
    given, matrix = taps(outputs, count)
    rng = np.random.default_rng(1)
    x = np.moveaxis(rng.normal(size=(LENGTH, 2, 3)), 0, axis)
    mapped = jnp.asarray(np.stack([x, -2 * x]))

    def dense(x):
        return jnp.moveaxis(jnp.tensordot(matrix, x, (1, axis)), 0, axis)

    def results(function):
        def squared(x):
            return (function(x) ** 2).sum()

        def twice(x):
            return (jax.grad(squared)(x) ** 3).sum()

        return jax.jit(jax.vmap(lambda x: (function(x), jax.grad(squared)(x), jax.grad(twice)(x))))

    got = results(lambda x: weighted_sum(x, axis, given))(mapped)
    for value, wanted in zip(got, results(dense)(mapped), strict=True):
        assert np.any(wanted)
        np.testing.assert_allclose(value, wanted, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("special", [np.nan, np.inf])
def test_a_value_reaches_only_the_outputs_with_a_tap_on_it(special):
    given = Taps(
        np.array([[0, 1], [1, 2], [3, 1]]),
        np.full((3, 2), 0.5),
        np.array([[True, True], [True, True], [True, False]]),
    )
    out = weighted_sum(jnp.array([1.0, special, 1.0, 3.0]), 0, given)
    np.testing.assert_array_equal(out, [special, special, 1.5])


def test_a_value_without_a_tap_has_no_gradient():
    given = Taps(np.array([[1], [3]]), np.array([[2.0], [3.0]]), np.full((2, 1), True))
    gradient = jax.grad(lambda x: weighted_sum(x, 0, given).sum())(jnp.ones(4))
    np.testing.assert_array_equal(gradient, [0, 2, 0, 3])


def test_narrow_values_are_summed_in_float32():
    given = Taps(np.zeros((1, 300), int), np.ones((1, 300)), np.full((1, 300), True))
    out = jax.jit(lambda x: weighted_sum(x, 0, given))(jnp.ones(1, jnp.bfloat16))
    assert out.dtype == jnp.bfloat16
    assert out[0] == 300  # sums of ones in bfloat16 stop at 256
