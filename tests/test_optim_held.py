"""Steps held back until all gradients are there: values, `vmap`, what the program is spared."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxcnn import optim
from jaxcnn.layers import forms

pytestmark = pytest.mark.usefixtures("own_code")

SIZES = {"kernel": (40, 30), "bias": (30,)}


def drawn(seed, leading=(), dtype="float64"):
    rng = np.random.default_rng(seed)
    return {n: jnp.asarray(rng.normal(size=(*leading, *s)), dtype) for n, s in SIZES.items()}


def stepped(transform):
    def step(params, state, gradients):
        updates, state = transform.update(gradients, state, params)
        return optax.apply_updates(params, updates), state

    return step


@pytest.mark.parametrize("nesterov", [False, True])
def test_steps_are_those_of_xla(nesterov, float64):
    transform = optim.sgd(0.1, momentum=0.9, weight_decay=0.01, nesterov=nesterov)
    found = []
    for form in ("native", "xla"):
        params = drawn(0)
        state = transform.init(params)
        with forms.prefer(form):
            step = jax.jit(stepped(transform))
            for seed in range(1, 4):
                params, state = step(params, state, drawn(seed))
        found.append((params, state))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-14, atol=1e-15), *found)


def test_vmap(float64):
    transform = optim.sgd(0.1, momentum=0.9)
    params, gradients = drawn(0, (3,)), drawn(1, (3,))
    state = jax.vmap(transform.init)(params)
    step = stepped(transform)
    found = jax.jit(jax.vmap(step))(params, state, gradients)
    for i in range(3):
        one = jax.tree.map(lambda leaf, i=i: leaf[i], (params, state, gradients))
        wanted = jax.jit(step)(*one)
        picked = jax.tree.map(lambda leaf, i=i: leaf[i], found)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-14), picked, wanted)


def test_no_parameter_is_copied():
    """A gradient of two layers reads the second one's kernel, whose step replaces it."""
    transform = optim.sgd(0.1, momentum=0.9)
    params = {name: jnp.ones((30, 30)) for name in ("first", "second", "third")}

    def step(params, state, x):
        def loss(params):
            out = x
            for kernel in params.values():
                out = jnp.tanh(out @ kernel)
            return jnp.sum(out)

        return stepped(transform)(params, state, jax.grad(loss)(params))

    def program():
        jitted = jax.jit(step, donate_argnums=(0, 1))
        text = jitted.lower(params, transform.init(params), jnp.ones((4, 30))).compile().as_text()
        return text[text.index("ENTRY") :]  # without what is fused with other operations

    assert "jaxcnn_hold_float32" in program()
    assert " copy(" not in program()
    with forms.prefer("xla"):
        assert "jaxcnn_hold_float32" not in program()
        assert " copy(" in program()  # where XLA learns to do without, so can we


def test_outside_of_jit_there_is_no_call():
    transform = optim.sgd(0.1, momentum=0.9)
    params = drawn(0, dtype="float32")
    held, state = stepped(transform)(params, transform.init(params), params)
    np.testing.assert_allclose(held["bias"], params["bias"] * 0.9, rtol=1e-6)
    np.testing.assert_array_equal(state[1].trace["bias"], params["bias"])
