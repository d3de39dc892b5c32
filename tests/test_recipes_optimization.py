"""Optimizers and schedules from settings: every argument by name, and what is wrong with one."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxcnn import optim, schedules
from jaxcnn.recipes import Settings, build


def settings_of_digits(**changes):
    return Settings("mlp_mnist", "digits", 1, 64, 0.1, **changes)


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        (
            {"optimizer": "adam", "optimizer_args": "betas=(0.5, 0.9), amsgrad=True"},
            lambda rate: optim.adam(rate, betas=(0.5, 0.9), amsgrad=True),
        ),
        (
            {"optimizer": "rmsprop", "momentum": 0.5, "optimizer_args": "alpha=0.9"},
            lambda rate: optim.rmsprop(rate, momentum=0.5, alpha=0.9),
        ),
    ],
)
def test_every_argument_of_an_optimizer_can_be_written(changes, same):
    run = build(settings_of_digits(**changes), num_classes=10)
    params, gradient = {"w": jnp.ones(3)}, {"w": jnp.arange(3.0)}
    found = []
    for tx in (run.tx, same(0.1)):
        state = tx.init(params)
        for _ in range(2):
            updates, state = tx.update(gradient, state, params)
        found.append(updates["w"])
    np.testing.assert_array_equal(*found)


def test_every_argument_of_a_schedule_can_be_written():
    changes = {"schedule": "multi_step", "gamma": 0.5, "schedule_args": "milestones=[1, 3]"}
    run = build(settings_of_digits(**changes), num_classes=10, steps_per_epoch=2)
    np.testing.assert_allclose(
        [run.schedule(i) for i in (0, 1, 2, 5, 6)], 0.1 * 0.5 ** np.array([0, 0, 1, 1, 2])
    )


@pytest.mark.parametrize(("optimizer", "arguments"), [("sgd", ""), ("adamw", "betas=(0.1, 0.7)")])
def test_a_schedule_that_cycles_the_momentum_reaches_the_optimizer(optimizer, arguments):
    changes = {"optimizer": optimizer, "optimizer_args": arguments, "schedule": "one_cycle"}
    settings = settings_of_digits(**changes, schedule_args="epochs=2, pct_start=0.5")
    run = build(settings, num_classes=10, steps_per_epoch=4)
    cycle = schedules.one_cycle(0.1, 4, epochs=2, pct_start=0.5)
    if optimizer == "sgd":
        tx = optim.sgd(cycle, momentum=cycle.momentum)
    else:
        tx = optim.adamw(cycle, betas=(cycle.momentum, 0.7))
    params = {"w": jnp.ones(3)}
    states = [run.tx.init(params), tx.init(params)]
    for i in range(4):
        gradient = {"w": jnp.arange(3.0) + i}
        steps = [t.update(gradient, s, params) for t, s in zip((run.tx, tx), states, strict=True)]
        np.testing.assert_array_equal(steps[0][0]["w"], steps[1][0]["w"])
        states = [state for _, state in steps]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimizer_args": "betas"}, "optimizer_args must be NAME=VALUE, .* got 'betas'"),
        ({"optimizer_args": "momentum=1, momentum=2"}, "optimizer_args must be NAME=VALUE"),
        ({"optimizer_args": "0.5"}, "optimizer_args must be NAME=VALUE"),
        ({"optimizer_args": "**{'a': 1}"}, "optimizer_args must be NAME=VALUE"),
        ({"optimizer_args": ") + dict("}, "optimizer_args must be NAME=VALUE"),
        ({"schedule_args": "gamma=__import__('os')"}, "schedule_args must be .* literals"),
        ({"optimizer_args": "beta=1"}, "'sgd' takes momentum, .* got beta"),
        ({"optimizer_args": "momentum=0.5", "momentum": 0.9}, "momentum, which is given by"),
        ({"optimizer": "adam", "optimizer_args": "betas=3"}, "optimizer_args='betas=3': "),
        ({"schedule": "step"}, "schedule 'step' needs step_size"),
        (
            {"optimizer": "adagrad", "schedule": "cyclic", "schedule_args": "max_lr=1.0"},
            "cycles the momentum, which optimizer 'adagrad' has not",
        ),
        (
            {"optimizer": "lion", "schedule": "cyclic", "schedule_args": "max_lr=1.0"},
            "unknown optimizer 'lion'",
        ),
    ],
)
def test_bad_arguments_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        build(settings_of_digits(**changes), num_classes=10)
