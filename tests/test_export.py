"""Networks as programs for any number of images: `jax.export` with a symbol for the batch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from jaxcnn import models
from jaxcnn.layers import forms


@pytest.mark.parametrize("name", ["mlp_mnist", "alexnet_cifar", "googlenet_cifar"])
def test_a_network_for_other_machines(name):
    """Nothing of our own CPU code is in it, which they do not have."""
    network, shape = models.create(name), models.input_shape(name)
    variables = network.init(jax.random.key(0), jnp.zeros((1, *shape)), train=False)
    apply = jax.jit(lambda images: network.apply(variables, images, train=False))
    (count,) = export.symbolic_shape("count")
    with forms.prefer("xla"):
        exported = export.export(apply)(jax.ShapeDtypeStruct((count, *shape), jnp.float32))
    assert "custom_call @jaxcnn" not in exported.mlir_module()
    for batch in (1, 3):
        images = jax.random.normal(jax.random.key(batch), (batch, *shape))
        wanted = apply(images)
        np.testing.assert_allclose(
            exported.call(images), wanted, atol=1e-5 * float(abs(wanted).max())
        )
