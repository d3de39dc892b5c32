import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from small import SmallNet, small_dataset

from jaxcnn import losses, optim
from jaxcnn.data import standardize
from jaxcnn.layers import Linear
from jaxcnn.train import init_state, make_eval_step, make_train_step

KEY = jax.random.key(7)


@pytest.fixture
def tx():
    return optim.create("sgd", 0.1, momentum=0.9, weight_decay=1e-3)


def fresh(tx, seed=0):
    return init_state(SmallNet(), tx, jax.random.key(seed), jnp.zeros((1, 8, 8, 1)))


def batch_of(n=10, first=0):
    train = small_dataset().train
    images, labels = train.images[first : first + n], train.labels[first : first + n]
    return {"images": jnp.asarray(images), "labels": jnp.asarray(labels)}


def copied(tree):
    return jax.tree.map(np.array, tree)


def assert_equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_state_is_data_only(tx):
    state = fresh(tx)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(state))
    assert jax.tree.structure(jax.eval_shape(lambda: state)) == jax.tree.structure(state)
    assert_equal(copied(fresh(tx)), copied(state))
    kernels = [np.asarray(s.params["conv"]["kernel"]) for s in (state, fresh(tx, seed=1))]
    assert not np.array_equal(*kernels)


def test_step_is_a_pure_function_and_donates_its_state(tx):
    step = make_train_step(SmallNet(), tx, preprocess=standardize)
    state = fresh(tx)
    again = jax.tree.map(jnp.copy, state)
    batch = batch_of()
    first, metrics = step(state, batch, KEY)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state)), "the state is not donated"
    assert not batch["images"].is_deleted()
    second, metrics_again = step(again, batch, KEY)
    assert_equal(copied(first), copied(second))
    assert_equal(copied(metrics), copied(metrics_again))
    assert int(first.step) == 1 and int(first.batch_stats["bn"]["num_batches_tracked"]) == 1


def test_key_is_folded_with_the_step(tx):
    """At the same weights, another step or another key draws another dropout mask."""
    frozen = optim.create("sgd", 0.0)
    step = make_train_step(SmallNet(), frozen, preprocess=standardize)
    state = fresh(frozen)
    seen = []
    for _ in range(3):
        state, metrics = step(state, batch_of(), KEY)
        seen.append(float(metrics["loss"]))
    _, other = step(fresh(frozen), batch_of(), jax.random.key(8))
    assert len({*seen, float(other["loss"])}) == 4


def test_metrics_are_the_batchs(tx):
    model = SmallNet()
    state = fresh(tx)
    batch = batch_of(13)
    step = make_train_step(model, tx, preprocess=standardize)
    # The step's own dropout is reproduced by reading what it did to the loss with none.
    eval_step = make_eval_step(model, preprocess=standardize)
    mask = jnp.ones(13, bool)
    evaluated = eval_step(state, batch | {"mask": mask})
    logits = model.apply(
        {"params": state.params, "batch_stats": state.batch_stats},
        standardize(batch["images"]),
        train=False,
    )
    per_example = losses.cross_entropy(logits, batch["labels"])
    np.testing.assert_allclose(evaluated["loss"], per_example, rtol=1e-5)
    np.testing.assert_array_equal(evaluated["predictions"], logits.argmax(-1))
    np.testing.assert_allclose(evaluated["probabilities"].sum(-1), 1, rtol=1e-6)
    _, metrics = step(state, batch, KEY)
    assert int(metrics["count"]) == 13
    assert 0 <= int(metrics["correct"]) <= 13
    assert metrics["loss"].shape == ()


def test_one_program_serves_every_full_batch(tx):
    step = make_train_step(SmallNet(), tx, preprocess=standardize)
    state = fresh(tx)
    for first in (0, 10, 20, 30):
        state, _ = step(state, batch_of(first=first), KEY)
    assert step._cache_size() == 1


def test_training_learns(tx):
    step = make_train_step(SmallNet(), tx, preprocess=standardize)
    state = fresh(tx)
    seen = []
    for _ in range(40):
        state, metrics = step(state, batch_of(50), KEY)
        seen.append(float(metrics["loss"]))
    assert seen[-1] < 0.25 * seen[0]


def test_augment_gets_stored_images_and_a_fresh_key(tx):
    frozen = optim.create("sgd", 0.0)
    shown = []

    def augment(key, images):
        jax.debug.callback(lambda k, x: shown.append((k, x)), jax.random.key_data(key), images)
        return images / 2

    def preprocess(images):
        jax.debug.callback(lambda x: seen.append(x), images)
        return images

    seen = []
    step = make_train_step(SmallNet(), frozen, preprocess=preprocess, augment=augment)
    state = fresh(frozen)
    for _ in range(2):
        state, _ = step(state, batch_of(), KEY)
    jax.effects_barrier()
    (first, images), (second, _) = shown
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(images, batch_of()["images"])
    np.testing.assert_array_equal(seen[0], images / 2)


class TwoHeads(nn.Module):
    """In training logits and auxiliary logits, in evaluation logits only."""

    @nn.compact
    def __call__(self, images, *, train):
        x = jnp.tanh(Linear(6, name="trunk")(images.reshape(len(images), -1)))
        logits, auxiliary = Linear(3, name="fc")(x), Linear(3, name="aux")(x)
        return (logits, auxiliary) if train else logits


def two_heads_step(step_options, images, labels):
    """One step of plain SGD at rate 1: the gradient is the old parameters less the new ones."""
    tx = optim.create("sgd", 1.0)
    state = init_state(TwoHeads(), tx, jax.random.key(0), images)
    before = copied(state.params)
    step = make_train_step(TwoHeads(), tx, **step_options)
    state, metrics = step(state, {"images": images, "labels": labels}, KEY)
    gradients = jax.tree.map(lambda old, new: old - np.asarray(new), before, state.params)
    return before, gradients, metrics


@pytest.mark.parametrize(("options", "weight"), [({}, 0.3), ({"auxiliary_weight": 0.7}, 0.7)])
def test_auxiliary_heads_train_with_their_weight_as_in_torch(options, weight, float64):
    import torch

    rng = np.random.default_rng(0)
    images, labels = rng.normal(size=(11, 2, 3, 1)), rng.integers(0, 3, 11)
    params, gradients, metrics = two_heads_step(options, images, labels)
    assert params["fc"]["kernel"].dtype == np.float64
    leaves = jax.tree.map(lambda p: torch.tensor(p, requires_grad=True), params)

    def linear(name, x):
        return x @ leaves[name]["kernel"] + leaves[name]["bias"]

    x = torch.tanh(linear("trunk", torch.from_numpy(images).reshape(11, -1)))
    logits, truth = linear("fc", x), torch.from_numpy(labels)
    cross_entropy = torch.nn.functional.cross_entropy
    loss = cross_entropy(logits, truth) + weight * cross_entropy(linear("aux", x), truth)
    loss.backward()
    np.testing.assert_allclose(metrics["loss"], loss.item(), rtol=1e-14)
    assert int(metrics["correct"]) == int((logits.argmax(1) == truth).sum())
    jax.tree.map(
        lambda got, leaf: np.testing.assert_allclose(got, leaf.grad, rtol=1e-12, atol=1e-14),
        gradients,
        leaves,
    )


def test_evaluation_knows_the_main_head_only():
    images, labels = np.ones((4, 2, 3, 1), np.float32), np.zeros(4, np.int32)
    tx = optim.create("sgd", 0.1)
    state = init_state(TwoHeads(), tx, jax.random.key(0), images)
    batch = {"images": images, "labels": labels, "mask": np.ones(4, bool)}
    found = make_eval_step(TwoHeads())(state, batch)
    logits = TwoHeads().apply({"params": state.params}, images, train=False)
    np.testing.assert_allclose(found["loss"], losses.cross_entropy(logits, labels), rtol=1e-6)


def test_one_head_makes_the_same_program_whatever_the_auxiliary_weight(tx):
    state = jax.eval_shape(lambda: fresh(tx))
    programs = {
        make_train_step(SmallNet(), tx, preprocess=standardize, auxiliary_weight=weight)
        .lower(state, batch_of(), KEY)
        .as_text()
        for weight in (0.0, 0.3)
    }
    assert len(programs) == 1
