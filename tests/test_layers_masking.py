"""Examples that fill a batch up change nothing: as PyTorch on the batch without them."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from small import SmallNet

from jaxcnn import models, optim, weights
from jaxcnn.data import Arrays
from jaxcnn.fit import check_single
from jaxcnn.layers import BatchNorm2d, masking
from jaxcnn.train import init_state, make_train_step
from parity import harness, reference
from parity.sides import to_nchw, training_loss

COUNT, BATCH = 3, 7


def filled(images):
    """Return the batch filled up with what must not be seen, and its mask."""
    wrong = np.random.default_rng(9).normal(5, 3, (BATCH - len(images), *images.shape[1:]))
    return np.concatenate([images, wrong]), np.arange(BATCH) < len(images)


@pytest.mark.parametrize("unbiased", [True, False])
@pytest.mark.parametrize("momentum", [0.1, None])
def test_batch_norm(momentum, unbiased, float64):
    layer = BatchNorm2d(momentum=momentum, unbiased=unbiased)
    images = np.random.default_rng(0).normal(1, 2, (COUNT, 3, 5, 4))
    more, mask = filled(images)
    variables = layer.init(jax.random.key(0), images, train=False)

    def norm(x, mask):
        with masking.counting(mask):
            out, updated = layer.apply(variables, x, train=True, mutable=["batch_stats"])
        return jnp.sum(jnp.sin(out[:COUNT])), (out[:COUNT], updated)

    (got, want) = (
        jax.value_and_grad(norm, has_aux=True)(jnp.asarray(x), m)
        for x, m in ((more, jnp.asarray(mask)), (images, None))
    )
    assert not got[1][COUNT:].any()
    near = partial(np.testing.assert_allclose, rtol=1e-12, atol=1e-14)
    jax.tree.map(near, (got[0], got[1][:COUNT]), want)
    assert masking.mask() is None


def test_a_train_step_is_torchs_on_the_examples_that_count(float64):
    """The loss, the gradient and the statistics of a network with batch norms."""
    name, shape = "cnn_mnist", (28, 28, 1)
    twin = reference.create(name, 10).double()
    harness.randomise(twin, seed=1)
    model = models.create(name, num_classes=10)
    images = np.random.default_rng(1).normal(size=(COUNT, *shape))
    labels = np.array([3, 0, 9], np.int32)
    template = model.init(jax.random.key(0), jnp.zeros((1, *shape)), train=False)
    variables = weights.from_torch(twin.state_dict(), template)
    tx = optim.create("sgd", 0.1)
    state = init_state(model, tx, jax.random.key(0), jnp.zeros((1, *shape)))
    state = state.replace(**jax.tree.map(jnp.array, dict(variables)))
    more, mask = filled(images)
    batch = {"images": more, "labels": np.resize(labels, BATCH), "mask": mask}
    state, metrics = make_train_step(model, tx)(state, batch, jax.random.key(1))

    optimizer = torch.optim.SGD(twin.train().parameters(), lr=0.1)
    logits = twin(torch.from_numpy(to_nchw(images)))
    loss = training_loss(logits, torch.from_numpy(labels).long())
    loss.backward()
    optimizer.step()
    assert float(metrics["loss"]) == pytest.approx(loss.item(), rel=1e-12)
    assert int(metrics["count"]) == COUNT
    assert int(metrics["correct"]) == int((logits.argmax(1).numpy() == labels).sum())
    got = weights.to_torch({"params": state.params, "batch_stats": state.batch_stats})
    for key, value in twin.state_dict().items():
        error = np.max(np.abs(got[key] - value.numpy()))
        assert error <= 1e-11 * max(1, np.max(np.abs(value.numpy()))), key


def test_one_example_of_one_value_a_channel_is_an_error_before_training():
    """As PyTorch's; filled up, the norm could not tell."""
    from flax import linen as nn

    class Flat(nn.Module):
        @nn.compact
        def __call__(self, images, *, train):
            x = BatchNorm2d(name="norm")(images.mean((1, 2), keepdims=True), train=train)
            return x.reshape(len(images), -1)

    tx = optim.create("sgd", 0.1)
    split = Arrays(np.zeros((5, 2, 2, 3), np.float32), np.zeros(5, np.int32))
    for model, fails in ((Flat(), True), (SmallNet(), False)):
        state = init_state(model, tx, jax.random.key(0), jnp.zeros((2, 2, 2, 3)))
        step = make_train_step(model, tx)
        if fails:
            with pytest.raises(ValueError, match=r"'norm'.*more than 1 value per channel"):
                check_single(step, state, split, jax.random.key(0))
        else:
            check_single(step, state, split, jax.random.key(0))
