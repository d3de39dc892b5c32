"""Parameter groups: other settings for some parameters, as torch.optim's groups."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from optim_steps import TORCH, double_scalars

from jaxcnn import optim, schedules, weights

SHAPES = {
    "conv1": {"kernel": (3, 3, 2, 4), "bias": (4,)},
    "bn1": {"scale": (4,), "bias": (4,)},
    "fc": {"kernel": (5, 3), "bias": (3,)},
}
PLAIN = [{"weight_decay": 0.0}, {"lr": 0.05, "weight_decay": 0.3}, {}]
ALL = {
    "sgd": {"momentum": 0.9, "weight_decay": 0.1},
    "adamw": {"weight_decay": 0.1},
    "nadam": {"weight_decay": 0.1},
    "rmsprop": {"weight_decay": 0.1, "momentum": 0.9},
    "asgd": {"weight_decay": 0.1},
}


def draw(seed):
    rng = np.random.default_rng(seed)
    draws = lambda shape: jnp.asarray(rng.normal(size=shape))  # noqa: E731
    return jax.tree.map(draws, SHAPES, is_leaf=lambda node: isinstance(node, tuple))


@pytest.mark.parametrize("name", ALL)
def test_groups_step_as_torchs(name, float64):
    params, noise = draw(0), draw(1)
    start = weights.to_torch({"params": params})
    fixed = weights.to_torch({"params": noise})
    parameters = {key: torch.nn.Parameter(torch.tensor(value)) for key, value in start.items()}
    sorted_out = {0: [], 1: [], 2: []}
    for key, parameter in parameters.items():
        plain = key.endswith("bias") or key.startswith("bn")
        sorted_out[0 if plain else 1 if key.startswith("fc") else 2].append(parameter)
    groups = [{"params": sorted_out[i], **PLAIN[i]} for i in range(3)]
    with double_scalars():
        optimizer = TORCH[name](groups, lr=0.1, foreach=False, **ALL[name])
        scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
        for _ in range(20):
            for key, parameter in parameters.items():
                parameter.grad = torch.tensor(fixed[key]) + parameter.detach().tanh()
            optimizer.step()
            scheduler.step()

    rates = [schedules.create("exponential", rate, gamma=0.9) for rate in (0.1, 0.05)]
    tx = optim.groups(
        name,
        rates[0],
        [
            (optim.NORMS_AND_BIASES, {"weight_decay": 0.0}),
            (r"fc\..*", {"learning_rate": rates[1], "weight_decay": 0.3}),
        ],
        **ALL[name],
    )

    def step(_, carry):
        params, state = carry
        gradients = jax.tree.map(lambda w, n: n + jnp.tanh(w), params, noise)
        updates, state = tx.update(gradients, state, params)
        return optax.apply_updates(params, updates), state

    end, _ = jax.jit(lambda: jax.lax.fori_loop(0, 20, step, (params, tx.init(params))))()
    got = weights.to_torch({"params": end})
    for key, parameter in parameters.items():
        want = parameter.detach().numpy()
        np.testing.assert_allclose(got[key], want, rtol=1e-11, atol=1e-13, err_msg=key)


def test_norms_and_biases():
    tx = optim.groups("adamw", 0.1, [(optim.NORMS_AND_BIASES, {"weight_decay": 0.0})])
    params = jax.tree.map(jnp.ones_like, draw(0))
    updates, _ = tx.update(jax.tree.map(jnp.zeros_like, params), tx.init(params), params)
    decayed = {key for key, value in weights.to_torch({"params": updates}).items() if value.any()}
    assert decayed == {"conv1.weight", "fc.weight"}


def test_a_pattern_must_decide():
    params = draw(0)
    for patterns, idle in [
        ([(r"conv2\..*", {})], r"conv2\\\\\."),
        ([("bias", {})], "'bias'"),  # it must match the whole path
        ([(r"fc\..*", {}), (r"fc\.bias", {})], r"fc\\\\\.bias"),  # the first has taken it
    ]:
        tx = optim.groups("sgd", 0.1, patterns)
        with pytest.raises(ValueError, match=f"sgd: no parameter is left for .*{idle}"):
            tx.init(params)


def test_errors_name_the_argument():
    for patterns, message in [
        ([("(", {})], r"sgd: bad pattern '\('"),
        ([(".*", {"beta": 1})], "'sgd' takes .*; got beta"),
        ([(".*", {"weight_decay": -1.0})], "sgd: weight_decay must be >= 0, got -1"),
        ([(".*", {"learning_rate": -1.0})], "learning_rate must be >= 0, got -1"),
    ]:
        with pytest.raises(ValueError, match=message):
            optim.groups("sgd", 0.1, patterns)
