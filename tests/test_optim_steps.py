"""100 steps of every optimizer over a grid of its arguments: parameters and states are torch's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from optim_steps import GRID, assert_equal_runs, create, problem, run_jax, run_torch

from jaxcnn import optim

CASES = [(name, arguments) for name, grid in GRID.items() for arguments in grid]
# The first is torch's defaults, the last has most arguments set.
FEW = [(name, grid[i]) for name, grid in GRID.items() for i in (0, len(grid) // 2, -1)]
# What only steps the other way, and every other of the rest, is left to slow runs, but for a few.
SLOW = [case for i, case in enumerate(CASES) if "maximize" in case[1] or i % 4 == 2]
MARKED = [
    pytest.param(*case, marks=pytest.mark.slow if case in SLOW and case not in FEW else ())
    for case in CASES
]
MOMENTUM = {
    "sgd": [{}, {"dampening": 0.3, "weight_decay": 0.1}, {"nesterov": True}],
    "rmsprop": [{}, {"centered": True}],
    "adam": [{}, {"amsgrad": True, "weight_decay": 0.1}],
    "adamw": [{}],
    "adamax": [{}],
    "nadam": [{}],
    "radam": [{}],
    "sparse_adam": [{}],
}


def label(value):
    return value if isinstance(value, str) else ",".join(f"{k}={v}" for k, v in value.items())


def test_the_grid_is_of_every_optimizer():
    assert set(GRID) == set(optim.OPTIMIZERS)
    assert len(CASES) >= 150


@pytest.mark.parametrize(("name", "arguments"), MARKED, ids=label)
def test_steps_as_torch(name, arguments, float64):
    data = problem(name)
    got = run_jax(create(name, arguments), *data)
    assert_equal_runs(got, run_torch(name, *data, **arguments))


@pytest.mark.parametrize(("name", "arguments"), FEW, ids=label)
def test_steps_as_torch_under_a_schedule(name, arguments, float64):
    data = problem(name)
    got = run_jax(create(name, arguments, gamma=0.97), *data)
    assert_equal_runs(got, run_torch(name, *data, gamma=0.97, **arguments))


@pytest.mark.parametrize("name", sorted(set(GRID) - {"sparse_adam"}))
def test_torchs_form_for_many_tensors_agrees(name, float64):
    data = problem(name)
    got = run_jax(create(name, GRID[name][-2]), *data)
    assert_equal_runs(got, run_torch(name, *data, foreach=True, **GRID[name][-2]))


@pytest.mark.parametrize(
    ("name", "arguments"), [(n, a) for n, grid in MOMENTUM.items() for a in grid], ids=label
)
def test_momentum_may_be_a_schedule(name, arguments, float64):
    def momentum(step):
        return 0.85 + 0.1 * abs(step % 20 - 10) / 10  # as CyclicLR's triangle

    def schedule(step):
        return 0.85 + 0.1 * jnp.abs(step % 20 - 10).astype(jnp.float64) / 10

    own = {"betas": (0.95, 0.999)} if name not in ("sgd", "rmsprop") else {"momentum": 0.95}
    cycled = {"betas": (schedule, 0.999)} if "betas" in own else {"momentum": schedule}
    data = problem(name)
    got = run_jax(create(name, {**arguments, **cycled}), *data)
    assert_equal_runs(got, run_torch(name, *data, cycle=momentum, **own, **arguments))


@pytest.mark.parametrize("name", GRID)
def test_zero_gradients(name, float64):
    start, noise, masks = problem(name, steps=5)
    masks = jax.tree.map(np.zeros_like, masks)
    got = run_jax(create(name, GRID[name][0]), start, noise, masks)
    assert_equal_runs(got, run_torch(name, start, noise, masks, **GRID[name][0]))


@pytest.mark.parametrize(("name", "arguments"), FEW, ids=label)
@pytest.mark.parametrize("x64", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_float32_stays_float32_and_near_torch(name, arguments, x64):
    data = problem(name, steps=20, dtype=np.float32)
    with jax.enable_x64(x64):
        values, states = run_jax(create(name, arguments, gamma=0.97), *data)
    for key in values:
        for slot, array in {"parameter": values[key], **states[key]}.items():
            assert array.dtype == (np.int32 if slot == "step" else np.float32), slot
    want = run_torch(name, *data, gamma=0.97, **arguments)
    assert_equal_runs((values, states), want, rtol=2e-5, atol=2e-6)
