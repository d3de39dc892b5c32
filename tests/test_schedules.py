"""Schedules by name: what they take, what they refuse, and that they are pure functions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from torch_schedules import CLASSES, COSINES, CYCLES, DECAYS, RATE, RESTARTS

from jaxcnn import schedules

ONE_OF_EACH = {
    "exponential": {"gamma": 0.9},
    "step": {"step_size": 2, "gamma": 0.7},
    "multi_step": {"milestones": [2, 4]},
    "constant_lr": {"total_iters": 3},
    "linear": {},
    "polynomial": {"power": 2.0},
    "cosine_annealing": {"T_max": 4},
    "cosine_annealing_warm_restarts": {"T_0": 1, "T_mult": 2},
    "cyclic": {"max_lr": 0.5, "step_size_up": 2, "mode": "triangular2"},
    "one_cycle": {"total_steps": 6, "three_phase": True},
}


def test_every_schedule_is_compared_with_torch():
    compared = {name for name, _ in DECAYS + COSINES + RESTARTS + CYCLES}
    # A plateau follows a metric: tests/test_schedules_plateau.py.
    known = set(schedules.SCHEDULES) - {"constant", "plateau"}
    assert compared == set(CLASSES) == set(ONE_OF_EACH) == known


def test_constant_is_constant():
    schedule = schedules.create("constant", 0.25, steps_per_epoch=3)
    assert {float(schedule(step)) for step in range(10)} == {0.25}


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_jitted_mapped_and_called_with_any_integer(name):
    schedule = schedules.create(name, RATE, steps_per_epoch=2, **ONE_OF_EACH[name])
    steps = np.arange(12, dtype=np.int32)
    want = [float(schedule(int(step))) for step in steps]
    for got in [
        [schedule(step) for step in steps],
        schedule(jnp.asarray(steps)),
        schedule(steps.reshape(3, 4)).reshape(12),
        jax.vmap(schedule)(steps),
        jax.jit(schedule)(steps),
        jax.lax.scan(lambda step, _: (step + 1, schedule(step)), 0, length=12)[1],
    ]:
        # Compiled as a whole, multiply-adds are rounded once.
        np.testing.assert_allclose(got, want, rtol=4e-7)
    assert jax.vmap(schedule)(steps).dtype == jnp.float32
    assert len(set(want)) > 1, "a case that never changes shows nothing"


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("cosine", {}, "unknown schedule 'cosine'; known: constant, constant_lr, cosine_annealing"),
        ("exponential", {}, "'exponential' needs gamma"),
        ("constant", {"gamma": 0.5}, "'constant' takes no arguments; got gamma"),
        ("constant", {"steps_per_epoch": 0}, "steps_per_epoch must be at least 1, got 0"),
        ("constant", {"learning_rate": -1}, "learning_rate must be >= 0, got -1"),
        ("exponential", {"gamma": 0}, "exponential: gamma must be above 0 and finite, got 0"),
        ("exponential", {"gamma": float("nan")}, "gamma must be above 0 and finite, got nan"),
        ("step", {"step_size": 0}, "step: step_size must be an integer >= 1, got 0"),
        ("step", {"step_size": 2.5}, "step: step_size must be an integer >= 1, got 2.5"),
        ("step", {"step_size": 2, "gamma": -1}, "step: gamma must be above 0 .* got -1"),
        ("multi_step", {"milestones": [3, -1]}, "every milestone must be an integer >= 0, got -1"),
        ("multi_step", {"milestones": [3, 0.5]}, "every milestone must be .* got 0.5"),
        ("multi_step", {"milestones": [], "gamma": 0}, "multi_step: gamma must be above 0"),
        ("constant_lr", {"factor": 1.5}, r"constant_lr: factor must be in \[0, 1\], got 1.5"),
        ("constant_lr", {"total_iters": -1}, "total_iters must be an integer >= 0, got -1"),
        ("linear", {"start_factor": 0}, "linear: start_factor must be above 0, got 0"),
        ("linear", {"start_factor": 1.1}, r"linear: start_factor must be in \[0, 1\], got 1.1"),
        ("linear", {"end_factor": -0.1}, r"linear: end_factor must be in \[0, 1\], got -0.1"),
        ("linear", {"total_iters": True}, "linear: total_iters must be an integer >= 0, got True"),
        ("polynomial", {"total_iters": -5}, "polynomial: total_iters must be an integer >= 0"),
        ("polynomial", {"power": -1.0}, "polynomial: power must be >= 0, got -1.0"),
        ("cosine_annealing", {"T_max": 0}, "T_max must be an integer >= 1, got 0"),
        ("cosine_annealing", {"T_max": 5, "eta_min": -1}, "eta_min must be >= 0, got -1"),
        ("cosine_annealing_warm_restarts", {"T_0": 0}, "T_0 must be an integer >= 1, got 0"),
        ("cosine_annealing_warm_restarts", {"T_0": 2, "T_mult": 1.5}, "T_mult must be an integer"),
        ("cosine_annealing_warm_restarts", {"T_0": 2, "eta_min": -1}, "eta_min must be >= 0"),
        ("cyclic", {}, "'cyclic' needs max_lr"),
        ("cyclic", {"max_lr": 1, "step_size_up": 0}, "step_size_up must be an integer >= 1"),
        ("cyclic", {"max_lr": 1, "step_size_down": -1}, "step_size_down must be an integer >= 0"),
        ("cyclic", {"max_lr": 1, "mode": "square"}, "mode must be one of .*range, got 'square'"),
        ("cyclic", {"max_lr": 1, "scale_mode": "epoch"}, "scale_mode must be one of cycle, iter"),
        ("cyclic", {"max_lr": 1, "gamma": 0}, "cyclic: gamma must be above 0 and finite, got 0"),
        ("one_cycle", {}, "one_cycle: needs total_steps or epochs, got neither"),
        ("one_cycle", {"total_steps": 0}, "total_steps must be an integer >= 1, got 0"),
        ("one_cycle", {"epochs": 1.5}, "epochs must be an integer >= 1, got 1.5"),
        ("one_cycle", {"total_steps": 9, "pct_start": 2}, r"pct_start must be in \[0, 1\], got 2"),
        (
            "one_cycle",
            {"total_steps": 9, "anneal_strategy": "exp"},
            "one of cos, linear, got 'exp'",
        ),
        ("one_cycle", {"total_steps": 9, "div_factor": 0}, "div_factor must be above 0, got 0"),
        ("one_cycle", {"total_steps": 9, "final_div_factor": -1}, "final_div_factor .* got -1"),
        ("one_cycle", {"total_steps": 10, "pct_start": 0.1}, r"must not be 1, got 0.1 \* 10"),
    ],
)
def test_errors_name_the_argument(name, arguments, message):
    with pytest.raises(ValueError, match=message):
        schedules.create(name, **({"learning_rate": RATE} | arguments))


def test_lambda_lr_wants_a_function():
    with pytest.raises(ValueError, match="lambda_lr: lr_lambda must be a function .* got 0.5"):
        schedules.lambda_lr(RATE, 1, lr_lambda=0.5)
