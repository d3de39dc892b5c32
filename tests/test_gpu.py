"""What only a GPU can show. `scripts/gpu_check.sh` runs these there, with the parity suite."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import SmallNet, small_dataset

from jaxcnn import models, optim
from jaxcnn.data import standardize, to_device, train_batches
from jaxcnn.train import init_state, make_train_step
from parity import harness

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def gpu():
    if jax.default_backend() != "gpu":
        pytest.skip("JAX sees no GPU")
    return jax.devices()[0]


@pytest.mark.parametrize("name", models.names())
def test_full_precision_float32_is_torchs_but_for_rounding(name):
    """TF32 has 10 bits of mantissa: its errors are near 1e-3.

    In evaluation: in training the norms of a deep network amplify PyTorch's own rounding to 1e-4.
    """
    pair = harness.pair(name, dtype="float32")
    harness.assert_close(*harness.outputs(pair, train=False), rtol=2e-5)


def test_state_batches_and_metrics_stay_on_the_gpu(gpu):
    tx = optim.create("sgd", 0.1, momentum=0.9)
    state = init_state(SmallNet(), tx, jax.random.key(0), jnp.zeros((1, 8, 8, 1)))
    step = make_train_step(SmallNet(), tx, preprocess=standardize)
    key = jax.random.key(1)
    split = to_device(small_dataset().train)
    before, losses = state, []
    for epoch in range(5):
        for batch in train_batches(split, 10, seed=0, epoch=epoch):
            state, metrics = step(state, batch, key)
            losses.append(metrics["loss"])
    leaves = jax.tree.leaves((state, batch, metrics))
    assert all(leaf.devices() == {gpu} for leaf in leaves)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(before)), "the state is not donated"
    assert step._cache_size() == 1
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])
