"""`plateau` against `ReduceLROnPlateau`: every state, NaN and infinite metrics included."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from jaxcnn import schedules

UPDATES = 200
SETTINGS = [
    {},
    {"patience": 0},
    {"patience": 1, "threshold": 0.1, "min_lr": 1e-3},
    {"patience": 2, "factor": 0.5, "cooldown": 3},
    {"patience": 0, "factor": 0.7, "cooldown": 1, "eps": 1e-2},
    {"patience": 3, "factor": 0.0, "threshold": 0.0, "min_lr": 0.02},
    {"patience": 0, "factor": 0.3, "threshold": 1.5, "eps": 0.0},
    {"patience": 1, "factor": 0.9, "min_lr": 0.5},
]


def metrics(kind):
    rng = np.random.default_rng(0)
    if kind == "walk":
        return rng.normal(size=UPDATES).cumsum()
    values = 3 * np.exp(-np.arange(UPDATES) / 30) + 0.1 * rng.normal(size=UPDATES)
    if kind == "broken":
        values[[0, 20, 21, 100]] = np.nan
        values[[40, 150]] = np.inf, -np.inf
    return values


def states(plateau, values):
    """Return the state after every metric, from one jitted scan."""

    @jax.jit
    def scan(state, values):
        def step(state, metric):
            state = plateau.update(state, metric)
            return state, state

        return jax.lax.scan(step, state, values)[1]

    return scan(plateau.init(), jnp.asarray(values))


def torchs(rate, arguments, values):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(()))], rate)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, **arguments)
    found = []
    for value in values:
        optimizer.step()
        scheduler.step(value)
        (group,) = optimizer.param_groups
        counters = scheduler.num_bad_epochs, scheduler.cooldown_counter
        found.append((group["lr"], scheduler.best, *counters))
    return list(zip(*found, strict=True))


@pytest.mark.parametrize("arguments", SETTINGS, ids=str)
@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("threshold_mode", ["rel", "abs"])
@pytest.mark.parametrize("kind", ["walk", "falling", "broken"])
def test_every_state_is_torchs(arguments, mode, threshold_mode, kind, float64):
    arguments = arguments | {"mode": mode, "threshold_mode": threshold_mode}
    want = torchs(0.1, arguments, metrics(kind))
    got = states(schedules.plateau(0.1, **arguments), metrics(kind))
    assert got.learning_rate.dtype == got.best.dtype == jnp.float64
    for field, values in zip(got, want, strict=True):
        np.testing.assert_array_equal(field, values)


def test_the_cases_reduce_hold_and_cool_down():
    """What the comparison above covers: a grid that never reduces would show nothing."""
    seen = [
        torchs(0.1, arguments | {"mode": mode, "threshold_mode": "rel"}, metrics("falling"))
        for arguments, mode in itertools.product(SETTINGS, ["min", "max"])
    ]
    lowest = [min(rates) for rates, *_ in seen]
    assert any(rate < 1e-5 for rate in lowest) and any(rate == 0.1 for rate in lowest)
    assert any(abs(rate - 1e-3) < 1e-9 for rate in lowest) and 0.02 in lowest
    assert any(max(cooldowns) > 0 for *_, cooldowns in seen)


def test_float32():
    arguments = {"patience": 2, "factor": 0.3, "cooldown": 2}
    values = metrics("falling").astype(np.float32)
    rates, best, bad, cooldown = torchs(0.1, arguments, values.astype(float))
    got = states(schedules.plateau(0.1, **arguments), values)
    assert got.learning_rate.dtype == got.best.dtype == jnp.float32
    np.testing.assert_allclose(got.learning_rate, rates, rtol=1e-6)
    np.testing.assert_array_equal(got.best, best)
    np.testing.assert_array_equal(got.bad_epochs, bad)
    np.testing.assert_array_equal(got.cooldown, cooldown)


def test_a_saved_state_goes_on():
    """The state is arrays only, of constant shape and dtype: it may be stored at any epoch."""
    plateau = schedules.plateau(0.1, patience=1, factor=0.5, cooldown=2)
    values = metrics("walk").astype(np.float32)
    want = states(plateau, values)
    state = schedules.PlateauState(*[np.asarray(field[99]) for field in want])
    kinds = [(field.shape, field.dtype) for field in plateau.init()]
    assert kinds == [(field.shape, field.dtype) for field in state]
    for value in values[100:]:
        state = plateau.update(state, float(value))
    for field, wanted in zip(state, want, strict=True):
        np.testing.assert_array_equal(field, wanted[-1])


def test_updates_map():
    """Several runs' plateaus at once, as train states are mapped over seeds."""
    plateau = schedules.plateau(0.1, patience=0, factor=0.5)
    state = jax.vmap(lambda _: plateau.init())(jnp.arange(3))
    for row in jnp.array([[1.0, 1.0, jnp.nan], [2.0, 0.5, 1.0], [3.0, 0.4, 2.0]]):
        state = jax.vmap(plateau.update)(state, row)
    np.testing.assert_allclose(state.learning_rate, [0.025, 0.1, 0.025], rtol=1e-6)
    np.testing.assert_allclose(state.best, [1.0, 0.4, 1.0], rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mode": "least"}, "plateau: mode must be one of min, max, got 'least'"),
        ({"threshold_mode": "log"}, "plateau: threshold_mode must be one of rel, abs, got 'log'"),
        ({"factor": 1.0}, r"plateau: factor must be in \[0, 1\), got 1.0"),
        ({"factor": -0.1}, r"plateau: factor must be in \[0, 1\), got -0.1"),
        ({"patience": -1}, "plateau: patience must be an integer >= 0, got -1"),
        ({"cooldown": 1.5}, "plateau: cooldown must be an integer >= 0, got 1.5"),
        ({"min_lr": -1}, "plateau: min_lr must be >= 0, got -1"),
        ({"eps": -1}, "plateau: eps must be >= 0, got -1"),
        ({"learning_rate": -1}, "plateau: learning_rate must be >= 0, got -1"),
    ],
)
def test_errors_name_the_argument(arguments, message):
    with pytest.raises(ValueError, match=message):
        schedules.plateau(**({"learning_rate": 0.1} | arguments))


@pytest.mark.parametrize("epochs", [0, 7, 60])
def test_a_run_of_torch_goes_on_here_and_back(epochs, float64):
    arguments = {"patience": 1, "factor": 0.5, "cooldown": 2, "min_lr": 1e-3}
    values = metrics("walk")[:120]
    plateau = schedules.plateau(0.1, **arguments)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(()))], 0.1)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, **arguments)
    for value in values[:epochs]:
        optimizer.step()
        scheduler.step(value)
    state = plateau.from_torch(scheduler.state_dict())
    for value in values[epochs:]:
        state = plateau.update(state, value)
    rates, best, bad, cooldown = (column[-1] for column in torchs(0.1, arguments, values))
    assert [float(field) for field in state] == [rates, best, bad, cooldown]

    state = plateau.init()
    for value in values[:epochs]:
        state = plateau.update(state, value)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(()))], float(state.learning_rate))
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, **arguments)
    scheduler.load_state_dict(plateau.to_torch(state))
    assert scheduler.get_last_lr() == [float(state.learning_rate)]
    for value in values[epochs:]:
        optimizer.step()
        scheduler.step(value)
    assert [optimizer.param_groups[0]["lr"], scheduler.best] == [rates, best]
    assert [scheduler.num_bad_epochs, scheduler.cooldown_counter] == [bad, cooldown]


def test_a_scheduler_of_other_arguments_or_several_groups_is_refused():
    weights = [torch.nn.Parameter(torch.zeros(())) for _ in range(2)]
    optimizer = torch.optim.SGD([{"params": [w]} for w in weights], 0.1)
    several = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer).state_dict()
    with pytest.raises(ValueError, match="the scheduler of one group, got 2"):
        schedules.plateau(0.1).from_torch(several)
    other = torch.optim.lr_scheduler.ReduceLROnPlateau(
        torch.optim.SGD(weights, 0.1), patience=3, mode="max"
    ).state_dict()
    with pytest.raises(ValueError, match="has mode='max', patience=3, expected mode='min', "):
        schedules.plateau(0.1).from_torch(other)
