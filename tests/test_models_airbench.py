"""What the parity tests do not see of `jaxcnn.models.airbench`: how it begins."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from jaxcnn import models, start
from jaxcnn.assembly import build
from jaxcnn.data import Arrays, Dataset
from jaxcnn.layers import initializers
from jaxcnn.parameters import by_path
from jaxcnn.recipes import RECIPES
from jaxcnn.whitening import whitening_kernel

SHAPES = [(3, 3, 4, 7), (2, 3, 5, 3)]


def drawn(init, shape):
    return np.asarray(jax.jit(lambda key: init(key, shape, jnp.float32))(jax.random.key(1)))


@pytest.mark.parametrize("shape", SHAPES)
def test_dirac_is_torchs(shape):
    got = drawn(initializers.dirac(), shape)
    want = torch.nn.init.dirac_(torch.empty(*(shape[axis] for axis in (3, 2, 0, 1))))
    np.testing.assert_array_equal(got, want.permute(2, 3, 1, 0))


@pytest.mark.parametrize("shape", SHAPES)
def test_the_other_filters_are_drawn(shape):
    rest = initializers.uniform_fan_in(9)
    got = drawn(initializers.dirac(rest), shape)
    want = torch.from_numpy(drawn(rest, shape).transpose(3, 2, 0, 1).copy())
    torch.nn.init.dirac_(want[: shape[2]])
    np.testing.assert_array_equal(got, want.permute(2, 3, 1, 0))


def test_a_run_begins_by_whitening_its_images():
    images = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)
    split = Arrays(images, np.arange(20, dtype=np.int32) % 10)
    dataset = Dataset("small", tuple("abcdefghij"), split, split)
    settings = replace(RECIPES["cifar10-94"][1], batch_size=10, normalization="symmetric")
    run = start.build(settings, dataset, None)
    assert start.first_kernel(settings, run, dataset, resume=True) is None
    kernel = start.first_kernel(settings, run, dataset, resume=False)
    want = whitening_kernel(np.asarray(run.preprocess(images)), (2, 2))
    np.testing.assert_allclose(kernel, want, rtol=1e-3, atol=1e-5)
    state = start.initial_state(settings, run, None, resume=False, kernel=kernel)
    drawn = by_path(start.drawn_state(settings, run).params)
    for params in (state.params, state.opt_state.slow):
        found = by_path(params)
        other = {name for name in drawn if not np.array_equal(found[name], drawn[name])}
        assert other == {"whiten.kernel"}
        np.testing.assert_array_equal(found["whiten.kernel"], kernel.astype(np.float32))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"whiten": "head"}, "whiten='head': expected a convolution.*such are: whiten$"),
        ({"init": "some.npz"}, "whiten='whiten': the weights are those of init; not both"),
        ({"views": "two"}, "views must be one of one, mirrored, .* got 'two'"),
    ],
)
def test_bad_settings(changes, message):
    settings = replace(RECIPES["cifar10-94"][1], normalization="symmetric", **changes)
    with pytest.raises(ValueError, match=message):
        build(settings, num_classes=10)


def test_a_new_network_passes_its_channels_on():
    model = models.create("airbench94")
    init = jax.jit(partial(model.init, train=False))
    params = init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)))["params"]
    leaves = by_path(params)
    kernels = {name: w for name, w in leaves.items() if name.startswith("group") and w.ndim == 4}
    assert [w.shape[2:] for w in kernels.values()] == [
        (24, 64),
        (64, 64),
        (64, 256),
        (256, 256),
        (256, 256),
        (256, 256),
    ]
    for kernel in kernels.values():
        first = np.array(kernel[..., : kernel.shape[2]])
        np.testing.assert_array_equal(first[1, 1], np.eye(kernel.shape[2]))
        first[1, 1] = 0
        assert not first.any()
    assert not leaves["whiten.bias"].any() and (leaves["group1.norm1.scale"] == 1).all()
