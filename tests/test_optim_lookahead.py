"""Slow weights beside a loop of torch's that keeps and copies them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from optim_steps import TORCH, double_scalars

from jaxcnn import optim

OPTIONS = {"sgd": {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}, "adam": {}}


def gradient(w, noise):
    return noise + 3 * w


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize(
    ("every", "decay", "power"), [(1, 0.5, 0), (3, 0.9, 3.0), (4, 1.0, 0), (2, 0.0, 1.0)]
)
def test_steps_are_torchs(name, every, decay, power, float64):
    start, noise = np.random.default_rng(0).normal(size=(2, 5))
    w = torch.nn.Parameter(torch.tensor(start))
    slow = w.detach().clone()
    with double_scalars():
        optimizer = TORCH[name]([w], lr=0.05, foreach=False, **OPTIONS[name])
        for step in range(1, 15):
            w.grad = gradient(w.detach(), torch.tensor(noise))
            optimizer.step()
            if step % every == 0:
                slow.lerp_(w.detach(), 1 - decay * min(step / 10, 1) ** power)
                w.data.copy_(slow)

    growing = optim.growing_decay(decay, 10, power)
    tx = optim.lookahead(optim.create(name, 0.05, **OPTIONS[name]), every=every, decay=growing)
    params = {"w": jnp.asarray(start)}
    state = tx.init(params)
    for _ in range(14):
        updates, state = tx.update(jax.tree.map(gradient, params, {"w": noise}), state, params)
        params = optax.apply_updates(params, updates)
    np.testing.assert_allclose(params["w"], w.detach(), rtol=1e-12)
    np.testing.assert_allclose(state.slow["w"], slow, rtol=1e-12)


def test_at_last_the_slow_weights_are_left():
    tx = optim.lookahead(optax.sgd(0.1), every=3, decay=0.5, last=4)
    params = jnp.asarray([1.0, -2.0])
    state, before = tx.init(params), params
    for step in range(1, 6):
        updates, state = tx.update(jnp.ones(2), state, params)
        params = optax.apply_updates(params, updates)
        if step == 3:
            before = params
        if step == 4:
            np.testing.assert_array_equal(params, before)
            np.testing.assert_array_equal(state.slow, before)
    np.testing.assert_allclose(params, before - 0.1, rtol=1e-6)


def test_what_stays_keeps_its_bits():
    w = jnp.asarray(np.random.default_rng(0).normal(size=1000), jnp.float32)
    tx = optim.lookahead(optax.set_to_zero(), every=1, decay=0.77)
    updates, state = tx.update(w, tx.init(w), w)
    np.testing.assert_array_equal(updates, jnp.zeros_like(w))
    np.testing.assert_array_equal(state.slow, w)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: optim.lookahead(optax.identity(), every=0, decay=0.5), "every must be .* got 0"),
        (lambda: optim.lookahead(optax.identity(), every=1, decay=1.5), "decay .* got 1.5"),
        (lambda: optim.growing_decay(-0.1, 5), "decay must be in .* got -0.1"),
        (lambda: optim.growing_decay(0.1, 0), "steps must be at least 1, got 0"),
        (lambda: optim.growing_decay(0.1, 5, float("nan")), "power must be .* got nan"),
        (lambda: optim.lookahead(optax.identity(), every=1, decay=0.5).update({}, None), "got N"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=f"lookahead: .*{message}"):
        call()
