"""Optimizers and schedules from settings: every argument by name, and what is wrong with one."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcnn import optim, schedules
from jaxcnn.assembly import build
from jaxcnn.optimization import for_its_optimizer
from jaxcnn.settings import Settings


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


def test_schedules_in_turn():
    changes = {"schedule": "linear, cosine_annealing", "schedule_milestones": "3"}
    text = "start_factor=0.1, total_iters=3; T_max=7, eta_min=0.01"
    run = build(settings_of_digits(**changes, schedule_args=text), num_classes=10)
    parts = [
        schedules.linear(0.1, 1, start_factor=0.1, total_iters=3),
        schedules.cosine_annealing(0.1, 1, T_max=7, eta_min=0.01),
    ]
    steps = jnp.arange(12)
    want = schedules.sequential(parts, [3])(steps)
    assert not isinstance(run.schedule, schedules.Plateau)
    np.testing.assert_array_equal(run.schedule(steps), want)
    assert len(set(want.tolist())) > 9


def test_norms_and_biases_may_go_without_weight_decay():
    params = {"bn1": {"scale": jnp.ones(2), "bias": jnp.ones(2)}, "conv1": {"kernel": jnp.ones(3)}}
    run = build(settings_of_digits(weight_decay=0.5, norm_decay=False), num_classes=10)
    still = jax.tree.map(jnp.zeros_like, params)
    updates, _ = run.tx.update(still, run.tx.init(params), params)
    assert not updates["bn1"]["scale"].any() and not updates["bn1"]["bias"].any()
    np.testing.assert_allclose(updates["conv1"]["kernel"], -0.1 * 0.5, rtol=1e-6)


def test_a_recipes_momentum_belongs_to_its_optimizer():
    recipe = settings_of_digits(momentum=0.9, nesterov=True)
    adam = for_its_optimizer(replace(recipe, optimizer="adam", weight_decay=0.1), recipe)
    assert (adam.momentum, adam.nesterov, adam.weight_decay) == (0.0, False, 0.1)
    rmsprop = for_its_optimizer(replace(recipe, optimizer="rmsprop"), recipe)
    assert (rmsprop.momentum, rmsprop.nesterov) == (0.9, False)
    for kept in (recipe, replace(recipe, optimizer="adam", momentum=0.5, nesterov=False)):
        assert for_its_optimizer(kept, recipe) == kept


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
        ({"schedule": "plateau", "schedule_args": "patience=-1"}, "plateau: patience must be"),
        ({"schedule": "linear", "schedule_milestones": "3"}, "schedule_milestones='3': .* is one"),
        (
            {"schedule": "linear, constant", "schedule_milestones": "a"},
            "schedule_milestones must be epochs divided by commas, got 'a'",
        ),
        ({"schedule": "linear, constant"}, "2 schedules need 1 milestones, got 0"),
        (
            {"schedule": "linear, constant", "schedule_args": "total_iters=2"},
            "expected 2 parts divided by semicolons, .* got 1",
        ),
        ({"schedule": "linear, step", "gamma": 0.5}, "gamma=0.5: 'linear, step' are several"),
        ({"schedule": "linear, plateau"}, "plateau cannot be one of several"),
        (
            {"schedule": "linear, one_cycle", "schedule_args": "; total_steps=9"},
            "one_cycle would cycle the momentum in its part",
        ),
        ({"optimizer": "rprop", "norm_decay": False}, "'rprop' takes .* got weight_decay"),
    ],
)
def test_bad_arguments_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        build(settings_of_digits(**changes), num_classes=10)
