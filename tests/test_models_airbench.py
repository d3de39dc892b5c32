"""What the parity tests do not see of `jaxcnn.models.airbench`: how it begins."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from jaxcnn import models
from jaxcnn.layers import initializers
from jaxcnn.parameters import by_path

SHAPES = [(3, 3, 4, 7), (3, 3, 4, 4), (2, 3, 5, 3), (1, 1, 2, 6)]


@pytest.mark.parametrize("shape", SHAPES)
def test_dirac_is_torchs(shape):
    got = initializers.dirac()(jax.random.key(0), shape, jnp.float32)
    want = torch.nn.init.dirac_(torch.empty(*(shape[axis] for axis in (3, 2, 0, 1))))
    np.testing.assert_array_equal(got, want.permute(2, 3, 1, 0))


@pytest.mark.parametrize("shape", SHAPES)
def test_the_other_filters_are_drawn(shape):
    key, rest = jax.random.key(1), initializers.uniform_fan_in(9)
    got = initializers.dirac(rest)(key, shape, jnp.float32)
    want = torch.from_numpy(np.array(rest(key, shape, jnp.float32).transpose(3, 2, 0, 1)))
    torch.nn.init.dirac_(want[: shape[2]])
    np.testing.assert_array_equal(got, want.permute(2, 3, 1, 0))


def test_a_new_network_passes_its_channels_on():
    model = models.create("airbench94")
    params = model.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)), train=False)["params"]
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
        channels = kernel.shape[2]
        images = jax.random.normal(jax.random.key(1), (1, 5, 5, channels))
        passed = jax.lax.conv_general_dilated(
            images, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        np.testing.assert_array_equal(passed[..., :channels], images)
    assert not leaves["whiten.bias"].any() and (leaves["group1.norm1.scale"] == 1).all()
