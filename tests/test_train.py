import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import SmallNet, small_dataset

from jaxcnn import losses, optim
from jaxcnn.data import standardize
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


def test_augment_gets_preprocessed_images_and_a_fresh_key(tx):
    frozen = optim.create("sgd", 0.0)
    shown = []

    def augment(key, images):
        jax.debug.callback(lambda k, x: shown.append((k, x)), jax.random.key_data(key), images)
        return images

    step = make_train_step(SmallNet(), frozen, preprocess=standardize, augment=augment)
    state = fresh(frozen)
    for _ in range(2):
        state, _ = step(state, batch_of(), KEY)
    jax.effects_barrier()
    (first, images), (second, _) = shown
    assert not np.array_equal(first, second)
    np.testing.assert_allclose(images, standardize(batch_of()["images"]), rtol=1e-6, atol=1e-7)


def test_cross_entropy_is_torchs(float64):
    import torch

    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(9, 5)) * 30, rng.integers(0, 5, 9)
    want = torch.nn.functional.cross_entropy(
        torch.from_numpy(logits), torch.from_numpy(labels), reduction="none"
    )
    np.testing.assert_allclose(losses.cross_entropy(logits, labels), want, rtol=1e-13, atol=1e-13)
