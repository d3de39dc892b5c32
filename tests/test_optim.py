import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

from jaxcnn import optim, schedules

GRID = [
    {"momentum": m, "weight_decay": d, "nesterov": n}
    for m, d, n in itertools.product([0.0, 0.5, 0.9], [0.0, 5e-4, 0.1], [False, True])
    if m or not n
]


def run_torch(start, gradients, arguments, gamma):
    parameter = torch.nn.Parameter(torch.from_numpy(start.copy()))
    optimizer = torch.optim.SGD([parameter], lr=0.1, **arguments)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma)
    values, buffers = [], []
    for gradient in gradients:
        # tanh has a stable minimum, so that rounding is not amplified over 100 steps.
        parameter.grad = torch.from_numpy(gradient) + parameter.detach().tanh()
        optimizer.step()
        scheduler.step()
        values.append(parameter.detach().numpy().copy())
        buffer = optimizer.state[parameter].get("momentum_buffer")
        buffers.append(None if buffer is None else buffer.numpy().copy())
    return values, buffers


@pytest.mark.parametrize("arguments", GRID, ids=str)
@pytest.mark.parametrize("gamma", [1.0, 0.98])
def test_sgd_steps_as_torch(arguments, gamma, float64):
    rng = np.random.default_rng(0)
    start, gradients = rng.normal(size=(5, 3)), rng.normal(size=(100, 5, 3))
    values, buffers = run_torch(start, gradients, arguments, gamma)
    schedule = schedules.create("exponential", 0.1, gamma=gamma)
    tx = optim.create("sgd", schedule, **arguments)

    @jax.jit
    def step(parameter, state, gradient):
        updates, state = tx.update(gradient + jnp.tanh(parameter), state, parameter)
        return optax.apply_updates(parameter, updates), state

    parameter = jnp.asarray(start)
    state = tx.init(parameter)
    for gradient, value, buffer in zip(gradients, values, buffers, strict=True):
        parameter, state = step(parameter, state, gradient)
        np.testing.assert_allclose(parameter, value, rtol=1e-12, atol=1e-13)
        traces = [s.trace for s in state if isinstance(s, optax.TraceState)]
        assert len(traces) == (buffer is not None)
        if traces:
            np.testing.assert_allclose(traces[0], buffer, rtol=1e-12, atol=1e-13)


def test_errors_name_the_argument():
    for arguments, message in [
        ({"name": "sdg", "learning_rate": 0.1}, "unknown optimizer 'sdg'; known: sgd"),
        ({"name": "sgd", "learning_rate": -1}, "learning_rate must be >= 0, got -1"),
        (
            {"name": "sgd", "learning_rate": 1, "beta": 2},
            "'sgd' takes momentum, .*nesterov; got beta",
        ),
        ({"name": "sgd", "learning_rate": 1, "nesterov": True}, "nesterov needs a momentum"),
        ({"name": "sgd", "learning_rate": 1, "momentum": -0.5}, "momentum .* got -0.5"),
    ]:
        with pytest.raises(ValueError, match=message):
            optim.create(**arguments)
