"""Batch norm by the parts of a batch, beside PyTorch's applied to the parts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import linen as nn

from jaxcnn.layers import BatchNorm2d, masking, parts


def normalised(images, count, mask=None):
    """Return outputs, running statistics and the gradient of a weighted sum of the outputs."""
    norm = BatchNorm2d()
    variables = norm.init(jax.random.key(0), images, train=False)
    weights = jnp.sin(jnp.arange(images.size, dtype=images.dtype)).reshape(images.shape)
    if mask is not None:
        weights = weights * mask[:, None, None, None].astype(images.dtype)

    def outputs(images):
        with masking.counting(mask), parts.normalised_in(count):
            out, updated = norm.apply(variables, images, train=True, mutable=["batch_stats"])
        return jnp.sum(out * weights), (out, updated["batch_stats"])

    gradient, (out, statistics) = jax.grad(outputs, has_aux=True)(images)
    return out, statistics, gradient, weights


@pytest.mark.parametrize("count", [2, 4])
def test_parts_are_torchs_each(count, float64):
    rng = np.random.default_rng(0)
    images = 3 + rng.normal(size=(8, 4, 5, 3))
    out, statistics, gradient, weights = normalised(jnp.asarray(images), count)
    found, means, variances, gradients = [], [], [], []
    weights = torch.tensor(np.asarray(weights)).permute(0, 3, 1, 2).chunk(count)
    for part, weight in zip(
        torch.tensor(images).permute(0, 3, 1, 2).chunk(count), weights, strict=True
    ):
        norm = torch.nn.BatchNorm2d(3, dtype=torch.float64)
        part = part.clone().requires_grad_()
        result = norm(part)
        (result * weight).sum().backward()
        found.append(result.detach())
        gradients.append(part.grad)
        means.append(norm.running_mean)
        variances.append(norm.running_var)
    for ours, theirs in ((out, found), (gradient, gradients)):
        theirs = torch.cat(theirs).permute(0, 2, 3, 1).numpy()
        np.testing.assert_allclose(ours, theirs, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(statistics["mean"], np.mean(means, axis=0), rtol=1e-13)
    np.testing.assert_allclose(statistics["var"], np.mean(variances, axis=0), rtol=1e-13)
    assert statistics["num_batches_tracked"] == 1


@pytest.mark.parametrize("real", [1, 4, 5])
def test_filling_does_not_count(real, float64):
    """Parts of filling alone, and one with a single example."""
    images = jnp.asarray(np.random.default_rng(1).normal(size=(8, 3, 3, 2)))
    mask = jnp.arange(8) < real
    out, statistics, gradient, _ = normalised(images, 4, mask)
    assert np.isfinite(np.asarray(out)).all() and np.isfinite(np.asarray(gradient)).all()
    assert not np.asarray(gradient)[real:].any()
    pieces = [images[i : min(i + 2, real)] for i in range(0, real, 2)]
    alone = [normalised(piece, 1) for piece in pieces]
    np.testing.assert_allclose(out[:real], np.concatenate([a[0] for a in alone]), rtol=1e-12)
    for name in ("mean", "var"):
        wanted = np.mean([a[1][name] for a in alone], axis=0)
        np.testing.assert_allclose(statistics[name], wanted, rtol=1e-12)


def test_a_single_value_among_filling_is_no_nan(float64):
    out, statistics, gradient, _ = normalised(jnp.ones((4, 1, 1, 2)), 2, jnp.arange(4) < 1)
    for array in (out, gradient, *statistics.values()):
        assert np.isfinite(np.asarray(array)).all()


def test_errors_name_the_layer():
    norm = BatchNorm2d(name="bn1")
    images = jnp.ones((6, 1, 1, 2))
    variables = norm.init(jax.random.key(0), images, train=False)
    for count, message in ((4, "expected 4 equal parts, got 6 images"), (6, "more than 1 value")):
        with parts.normalised_in(count), pytest.raises(ValueError, match=rf"'bn1'.*{message}"):
            norm.apply(variables, images, train=True, mutable=["batch_stats"])
    assert parts.parts() == 1


def test_filling_stays_small_however_many_norms_follow(float64):
    """A part of filling alone: an overflow in it would make NaN of all gradients."""

    class Deep(nn.Module):
        @nn.compact
        def __call__(self, x):
            for i in range(60):
                x = jax.nn.relu(BatchNorm2d(1e-12, name=f"norm{i}")(x, train=True))
            return x

    images = jnp.asarray(np.random.default_rng(1).normal(size=(8, 3, 3, 2)), "f4")
    mask, model = jnp.arange(8) < 3, Deep()
    params = model.init(jax.random.key(0), images)["params"]

    def loss(params):
        with masking.counting(mask), parts.normalised_in(4):
            out, _ = model.apply({"params": params}, images, mutable=["batch_stats"])
        return jnp.mean(out.mean((1, 2, 3)), where=mask)

    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(jax.grad(loss)(params)))
