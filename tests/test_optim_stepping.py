"""Whole steps by our own CPU code beside `update` and `optax.apply_updates`."""

import copy

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxcnn import optim, schedules
from jaxcnn.layers import forms

pytestmark = pytest.mark.usefixtures("own_code")

# Several tasks' numbers, no whole number of vectors, one number, none.
SIZES = {"kernel": (130, 131), "wide": (3, 11), "bias": (1,), "empty": (0, 3)}
BOTH = {"momentum": 0.9, "weight_decay": 0.1}
CASES = {
    "plain": ("sgd", {}),
    "decay": ("sgd", {"weight_decay": 0.1}),
    "momentum": ("sgd", {"momentum": 0.9}),
    "nesterov": ("sgd", {**BOTH, "nesterov": True}),
    "maximize": ("sgd", {**BOTH, "maximize": True}),
    "adam": ("adam", {"betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.1}),
    "betas of 0": ("adam", {"betas": (0.0, 0.0)}),
    "scheduled beta": ("adam", {"betas": (schedules.exponential(0.9, 1, gamma=0.9), 0.999)}),
    "amsgrad": ("adam", {"amsgrad": True, "maximize": True}),
    "adamw": ("adamw", {"weight_decay": 0.1}),
    "adagrad": ("adagrad", {"lr_decay": 0.1, "eps": 1e-3, "weight_decay": 0.1, "maximize": True}),
}
RATES = {"constant": 0.1, "schedule": schedules.exponential(0.1, 1, gamma=0.5)}


def drawn(seed, leading=(), dtype="float64"):
    rng = np.random.default_rng(seed)
    return {n: jnp.asarray(rng.normal(size=(*leading, *s)), dtype) for n, s in SIZES.items()}


def by_update(tx, gradients, state, params):
    updates, state = tx.update(gradients, state, params)
    return optax.apply_updates(params, updates), state


def close(got, wanted, bound=1e-15):
    assert jax.tree.structure(got) == jax.tree.structure(wanted)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=bound, atol=bound), got, wanted)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("dtype", "bound"), [("float64", 2e-15), ("float32", 2e-6)])
def test_steps_are_those_of_update(case, rate, dtype, bound, float64):
    name, arguments = CASES[case]
    tx = optim.create(name, RATES[rate], **arguments)
    found = []
    for step in (optim.step, by_update):
        params = drawn(0, dtype=dtype)
        now = params, tx.init(params)
        jitted = jax.jit(lambda g, s, w, step=step: step(tx, g, s, w))
        assert (step is optim.step) == (f"jaxcnn_{name[:4]}" in program(tx, params, step))
        for seed in (1, 3, 2):  # not the largest squares last, for amsgrad
            now = jitted(drawn(seed, dtype=dtype), now[1], now[0])
        found.append(now)
    close(*found, bound)


def test_a_plateaus_optimizer_takes_whole_steps(float64):
    tx = optim.create("sgd", schedules.plateau(0.1, patience=0), momentum=0.9)
    params, gradients = drawn(0), drawn(1)
    state = optim.observe(optim.observe(tx.init(params), 1.0), 2.0)
    assert "jaxcnn_sgd_float64" in program(tx, params)
    step = jax.jit(lambda g, s, w: optim.step(tx, g, s, w))
    close(step(gradients, state, params), by_update(tx, gradients, state, params))


MAPPED = {"sgd": {**BOTH, "nesterov": True}, "adamw": {"amsgrad": True}, "adagrad": {"eps": 1e-3}}


@pytest.mark.parametrize("name", MAPPED)
def test_vmap(name, float64):
    tx = optim.create(name, RATES["schedule"], **MAPPED[name])
    params, gradients = drawn(0, (3,)), drawn(1, (3,))
    state = jax.vmap(tx.init)(params)
    step = jax.jit(lambda g, s, w: optim.step(tx, g, s, w))
    found = jax.jit(jax.vmap(step))(gradients, state, params)
    for i in range(3):
        one = jax.tree.map(lambda leaf, i=i: leaf[i], (gradients, state, params))
        close(jax.tree.map(lambda leaf, i=i: leaf[i], found), step(*one), 1e-14)


@pytest.mark.parametrize("name", MAPPED)
def test_derivatives_of_a_step(name, float64):
    """By gradients, parameters and the state's arrays, forward and reverse."""
    tx = optim.create(name, 0.1, **MAPPED[name])
    gradients, params = drawn(0), drawn(1)
    _, state = tx.update(gradients, tx.init(params), params)
    arguments = (gradients, state, drawn(2))

    def loss(step):
        def value(floating):
            gradients, state, params = rebuilt(floating)
            leaves = jax.tree.leaves(step(tx, gradients, state, params))
            return sum(jnp.sum(jnp.sin(leaf)) for leaf in leaves if leaf.dtype == "float64")

        return value

    leaves, tree = jax.tree.flatten(arguments)
    moving = [jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in leaves]

    def rebuilt(floating):
        rest = iter(floating)
        both = zip(leaves, moving, strict=True)
        return tree.unflatten(next(rest) if moves else leaf for leaf, moves in both)

    def derivatives(step):
        floating = [leaf for leaf, moves in zip(leaves, moving, strict=True) if moves]
        reverse = jax.grad(loss(step))(floating)
        return reverse, jax.jvp(loss(step), (floating,), (reverse,))

    close(derivatives(optim.step), derivatives(by_update), 1e-13)


def program(tx, params, step=optim.step):
    jitted = jax.jit(lambda w, s, g: step(tx, g, s, w), donate_argnums=(0, 1))
    text = jitted.lower(params, tx.init(params), params).compile().as_text()
    return text[text.index("ENTRY") :]


def test_one_call_takes_the_place_of_all_parameters():
    params = drawn(0, dtype="float32")
    del params["empty"]  # XLA copies what has no numbers
    tx = optim.sgd(0.1, momentum=0.9)
    text = program(tx, params)
    assert text.count("jaxcnn_sgd_float32") == 1
    assert " copy(" not in text
    assert " fusion(" not in text
    with forms.prefer("xla"):
        assert "jaxcnn" not in program(tx, params)


def test_outside_of_jit_nothing_is_compiled_for_an_optimizer():
    tx, params = optim.adam(0.1), drawn(0, dtype="float32")
    assert tx.whole(params, tx.init(params), params) is None


def test_number_types_side_by_side_are_left_to_optax(float64):
    tx = optim.sgd(0.1, momentum=0.9)
    params = {"a": jnp.ones(3, "float32"), "b": jnp.ones(3, "float64")}
    assert "jaxcnn_sgd" not in program(tx, params)
    new, _ = optim.step(tx, params, tx.init(params), params)
    assert [leaf.dtype.name for leaf in new.values()] == ["float32", "float64"]


def test_other_transformations_are_updated():
    params = drawn(0, dtype="float32")
    tx = optax.chain(optax.clip(0.5), optim.sgd(0.1, momentum=0.9))
    state = tx.init(params)
    close(optim.step(tx, params, state, params), by_update(tx, params, state, params))


def test_only_arrays_that_fit_are_stepped_at_once():
    """Beside others the library would read and write beyond the arrays."""
    tx = optim.sgd(0.1, momentum=0.9)
    params = {"w": jnp.ones(6)}
    for other in (jnp.ones(7), jnp.ones(5), jnp.ones((6, 1)), jnp.ones(())):
        for gradients, slot in ((other, params["w"]), (params["w"], other)):
            given = {"w": gradients}, (optax.EmptyState(), optax.TraceState({"w": slot}))
            state = (*given[1], tx.init(params)[-1])
            assert jax.jit(lambda g, s: whole(tx, g, s, params))(given[0], state) is None
    state = tx.init(params)
    assert jax.jit(lambda g: whole(tx, {"w": g, "v": g}, state, params))(params["w"]) is None
    assert jax.jit(lambda g: whole(tx, {"w": g}, state, {"w": 1.0}))(params["w"]) is None


def whole(tx, gradients, state, params):
    """Return None if a whole step is not taken."""
    done = tx.whole(gradients, state, params)
    return done and done[0]


@pytest.mark.parametrize("name", ["sgd", "adam", "adagrad"])
def test_settings_of_any_type(name, float64):
    settings = {"weight_decay": jnp.float64(0.1), "maximize": np.bool_(True)}
    if name == "sgd":
        settings |= {"momentum": np.array(0.9), "nesterov": 1}
    if name == "adam":
        settings |= {"betas": (np.float64(0.8), jnp.float64(0.9)), "amsgrad": 1}
    tx, params, gradients = optim.create(name, 0.1, **settings), drawn(0), drawn(1)
    state = tx.init(params)
    assert f"jaxcnn_{name}_float64" in program(tx, params)
    step = jax.jit(lambda g, s, w: optim.step(tx, g, s, w))
    close(step(gradients, state, params), by_update(tx, gradients, state, params))


@pytest.mark.parametrize("name", MAPPED)
def test_an_infinite_parameter_without_decay_stays_one(name):
    tx = optim.create(name, 0.1, **(MAPPED[name] | {"weight_decay": 0.0}))
    params = {"w": jnp.array([jnp.inf, 1.0])}
    step = jax.jit(lambda g, s, w: optim.step(tx, g, s, w))
    gradients, state = {"w": jnp.ones(2)}, tx.init(params)
    found = step(gradients, state, params)
    assert found[0]["w"][0] == jnp.inf
    close(found, by_update(tx, gradients, state, params), 1e-6)
    mapped = jax.jit(jax.vmap(step))(*jax.tree.map(lambda x: x[None], (gradients, state, params)))
    assert mapped[0]["w"][0, 0] == jnp.inf


def test_a_mapped_step_waits_for_all_gradients():
    tx, params = optim.sgd(0.1, momentum=0.9), drawn(0, (2,), "float32")
    state = jax.vmap(tx.init)(params)
    step = jax.jit(jax.vmap(lambda g, s, w: optim.step(tx, g, s, w)))
    assert step.lower(params, state, params).as_text().count("custom_call @jaxcnn_hold") == 1


def test_a_transformation_is_copied_and_changed_as_any_other():
    tx, params = optim.sgd(0.1, momentum=0.9), drawn(0, dtype="float32")
    for copied in (copy.copy(tx), copy.deepcopy(tx)):
        assert "jaxcnn_sgd_float32" in program(copied, params)
    other = tx._replace(update=optax.identity().update)
    state = other.init(params)
    close(optim.step(other, params, state, params), by_update(other, params, state, params))
    assert jax.tree.map(lambda function: function, tx).whole is None
