"""Optimizers under a plateau against torch's under `ReduceLROnPlateau`, epoch after epoch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from optim_steps import TORCH, double_scalars, problem

from jaxcnn import optim, schedules

PLATEAU = {"patience": 0, "factor": 0.5, "cooldown": 1, "min_lr": 1e-3}
# Falls, stays, rises: the learning rate is lowered four times.
METRICS = [3.0, 2.0, 2.0, 2.5, 2.6, 1.0, 1.5, 1.5, 1.5, 1.5]
EPOCH = 5  # steps


def run_torch(name, start, noise, **arguments):
    parameters = {key: torch.nn.Parameter(torch.tensor(value)) for key, value in start.items()}
    optimizer = TORCH[name](parameters.values(), lr=0.1, foreach=False, **arguments)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, **PLATEAU)
    rates = []
    for epoch, metric in enumerate(METRICS):
        rates.append(optimizer.param_groups[0]["lr"])
        for step in range(epoch * EPOCH, (epoch + 1) * EPOCH):
            for key, parameter in parameters.items():
                parameter.grad = torch.tensor(noise[key][step]) + parameter.detach().tanh()
            optimizer.step()
        scheduler.step(metric)
    return {key: p.detach().numpy() for key, p in parameters.items()}, rates


def run_ours(tx, start, noise):
    params = {key: jnp.asarray(value) for key, value in start.items()}
    state, rates = tx.init(params), []

    @jax.jit
    def step(params, state, noise):
        gradients = jax.tree.map(lambda n, w: n + jnp.tanh(w), noise, params)
        return optim.step(tx, gradients, state, params)

    for epoch, metric in enumerate(METRICS):
        rates.append(optim.plateau_rate(state))
        for i in range(epoch * EPOCH, (epoch + 1) * EPOCH):
            params, state = step(params, state, {key: n[i] for key, n in noise.items()})
        state = optim.observe(state, metric)
    assert step._cache_size() == 1, "a plateau must not compile the step again"
    return params, rates


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("sgd", {"momentum": 0.9, "weight_decay": 0.1}),
        ("adamw", {}),
        ("asgd", {"t0": 10.0}),
        ("rprop", {}),
        ("adagrad", {"lr_decay": 0.1}),
    ],
)
def test_every_step_takes_the_plateaus_rate(name, arguments, float64):
    start, noise, _ = problem(name, steps=EPOCH * len(METRICS))
    plateau = schedules.plateau(0.1, **PLATEAU)
    got, rates = run_ours(optim.create(name, plateau, **arguments), start, noise)
    with double_scalars():
        want, torchs_rates = run_torch(name, start, noise, **arguments)
    assert len(set(torchs_rates)) == 5, "a case whose rate never falls shows nothing"
    np.testing.assert_array_equal(rates, torchs_rates)
    for key, value in want.items():
        np.testing.assert_allclose(got[key], value, rtol=1e-11, atol=1e-12)


def test_groups_follow_the_metric_each_with_its_own_rate(float64):
    start, noise, _ = problem("sgd", steps=EPOCH * len(METRICS))
    plateau = schedules.plateau(0.1, **PLATEAU)
    slower = schedules.plateau(0.01, **PLATEAU)
    tx = optim.groups("sgd", plateau, [("bias", {"learning_rate": slower})], momentum=0.5)
    got, _ = run_ours(tx, start, noise)

    parameters = {key: torch.nn.Parameter(torch.tensor(value)) for key, value in start.items()}
    groups = [{"params": [parameters["kernel"]]}, {"params": [parameters["bias"]], "lr": 0.01}]
    optimizer = torch.optim.SGD(groups, 0.1, momentum=0.5)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, **PLATEAU)
    for epoch, metric in enumerate(METRICS):
        for step in range(epoch * EPOCH, (epoch + 1) * EPOCH):
            for key, parameter in parameters.items():
                parameter.grad = torch.tensor(noise[key][step]) + parameter.detach().tanh()
            optimizer.step()
        scheduler.step(metric)
    for key, parameter in parameters.items():
        np.testing.assert_allclose(got[key], parameter.detach(), rtol=1e-11, atol=1e-12)


def test_the_optimizers_own_state_converts_under_a_plateau(float64):
    start, noise, _ = problem("adam", steps=3)
    params = {"fc": {"bias": jnp.asarray(start["bias"])}}
    tx = optim.create("adam", schedules.plateau(0.1))
    _, state = tx.update({"fc": {"bias": jnp.asarray(noise["bias"][0])}}, tx.init(params), params)
    groups = [{"params": ["fc.bias"], "lr": 0.1}]
    converted = optim.to_torch("adam", state, groups)
    back = optim.from_torch(converted, tx.init(params), ["fc.bias"])
    jax.tree.map(np.testing.assert_array_equal, back, state)


def test_a_state_without_a_plateau_is_refused():
    state = optim.create("sgd", 0.1).init({"w": jnp.ones(2)})
    for use in (lambda: optim.observe(state, 1.0), lambda: optim.plateau_rate(state)):
        with pytest.raises(ValueError, match="opt_state: no plateau in it"):
            use()
