"""The two cycles beyond their values over 300 steps: momentum, scale functions, the end."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from torch_schedules import RATE, STEPS, run, scheduled

from jaxcnn import schedules

CYCLIC = ("cyclic", {"max_lr": 0.5, "step_size_up": 20, "step_size_down": 30})
ONE_CYCLE = ("one_cycle", {"total_steps": 300})


@pytest.mark.parametrize(("name", "arguments"), [CYCLIC, ONE_CYCLE], ids=str)
@pytest.mark.parametrize("steps_per_epoch", [1, 7])
def test_momentum_is_torchs_beta1(name, arguments, steps_per_epoch, float64):
    arguments = arguments | {"base_momentum": 0.6, "max_momentum": 0.97}
    _, betas = run(*scheduled(name, arguments, adam=True), steps_per_epoch=steps_per_epoch)
    schedule = schedules.create(name, RATE, steps_per_epoch=steps_per_epoch, **arguments)
    got = jax.jit(schedule.momentum)(jnp.arange(STEPS))
    assert got.dtype == jnp.float64
    assert min(betas) < 0.9 < max(betas)
    np.testing.assert_allclose(got, betas, rtol=1e-14, atol=0)


@pytest.mark.parametrize(("name", "arguments"), [CYCLIC, ONE_CYCLE], ids=str)
def test_momentum_stays_out_where_told(name, arguments, float64):
    arguments = arguments | {"cycle_momentum": False}
    rates, momenta = run(*scheduled(name, arguments))
    schedule = schedules.create(name, RATE, **arguments)
    assert schedule.momentum is None and set(momenta) == {0.3}
    atol = 1e-14 * max(rates)
    np.testing.assert_allclose(schedule(jnp.arange(STEPS)), rates, rtol=0, atol=atol)


@pytest.mark.parametrize("scale_mode", ["cycle", "iterations"])
@pytest.mark.parametrize("mode", ["triangular", "exp_range"])
def test_scale_fn_replaces_the_mode(scale_mode, mode, float64):
    own = {"mode": mode, "gamma": 0.9, "scale_mode": scale_mode}
    theirs = own | {"scale_fn": lambda x: 1 / (1 + 0.1 * x)}
    ours = own | {"scale_fn": lambda x: 1 / (1 + 0.1 * x.astype(float))}
    name, arguments = CYCLIC
    rates, momenta = run(*scheduled(name, arguments | theirs))
    schedule = schedules.create(name, RATE, **arguments, **ours)
    assert isinstance(schedule, schedules.Cycle) and schedule.momentum is not None
    atol = 1e-14 * max(rates)
    np.testing.assert_allclose(schedule(jnp.arange(STEPS)), rates, rtol=0, atol=atol)
    np.testing.assert_allclose(schedule.momentum(jnp.arange(STEPS)), momenta, rtol=1e-14)


def test_scale_fn_makes_the_mode_free_and_not_the_scale_mode():
    schedules.create("cyclic", RATE, max_lr=1.0, mode="own", scale_fn=jnp.ones_like)
    with pytest.raises(ValueError, match="scale_mode must be one of cycle, iterations"):
        schedules.create("cyclic", RATE, max_lr=1.0, scale_fn=jnp.ones_like, scale_mode="own")


@pytest.mark.parametrize("three_phase", [False, True])
def test_one_cycle_of_epochs_moves_at_every_step(three_phase, float64):
    arguments = {"epochs": 30, "three_phase": three_phase}
    rates, _ = run(*scheduled("one_cycle", arguments | {"steps_per_epoch": 10}))
    got = schedules.create("one_cycle", RATE, steps_per_epoch=10, **arguments)(jnp.arange(STEPS))
    np.testing.assert_allclose(got, rates, rtol=0, atol=1e-14 * RATE)


@pytest.mark.parametrize("steps_per_epoch", [1, 4])
@pytest.mark.parametrize("strategy", ["cos", "linear"])
def test_one_cycle_beyond_its_end(steps_per_epoch, strategy):
    optimizer, scheduler = scheduled("one_cycle", {"total_steps": 5})
    with pytest.raises(ValueError, match="Tried to step 6 times"):
        run(optimizer, scheduler, steps=7)
    schedule = schedules.create(
        "one_cycle",
        RATE,
        steps_per_epoch=steps_per_epoch,
        total_steps=5,
        anneal_strategy=strategy,
    )
    assert isinstance(schedule, schedules.Cycle) and schedule.momentum is not None
    first_refused = 6 * steps_per_epoch
    for function, last in [(schedule, RATE / 25e4), (schedule.momentum, 0.95)]:
        steps = jnp.array([5 * steps_per_epoch - 1, first_refused - 1, first_refused, 10**6])
        np.testing.assert_allclose(jax.jit(function)(steps), [last] * 4, rtol=1e-6)
        np.testing.assert_allclose(function(first_refused - 1), last, rtol=1e-6)
        with pytest.raises(ValueError, match=f"must be below {first_refused}, got {first_refused}"):
            function(first_refused)


@pytest.mark.parametrize("pct_start", [0.0, 0.3])
@pytest.mark.parametrize("three_phase", [False, True])
def test_one_cycle_of_one_step_has_torchs_rate(pct_start, three_phase, float64):
    arguments = {"total_steps": 1, "pct_start": pct_start, "three_phase": three_phase}
    rates, momenta = run(*scheduled("one_cycle", arguments), steps=1)
    schedule = schedules.create("one_cycle", RATE, **arguments)
    np.testing.assert_allclose(schedule(0), rates[0], rtol=1e-11)
    np.testing.assert_allclose(schedule.momentum(0), momenta[0], rtol=1e-14)


def test_one_cycle_refuses_the_rise_by_which_torch_divides():
    with pytest.raises(ZeroDivisionError):
        scheduled("one_cycle", {"total_steps": 10, "pct_start": 0.1})
    with pytest.raises(ValueError, match=r"pct_start \* total_steps must not be 1"):
        schedules.create("one_cycle", RATE, total_steps=10, pct_start=0.1)
