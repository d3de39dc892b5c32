"""Schedules in sequence and multiplied, against `SequentialLR` and `ChainedScheduler`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch.optim.lr_scheduler import ChainedScheduler, SequentialLR
from torch_schedules import CLASSES, RATE, STEPS, run

from jaxcnn import schedules

WARM_UP = ("linear", {"start_factor": 0.1, "total_iters": 20})
SEQUENCES = [
    ([("exponential", {"gamma": 0.9})], []),
    ([WARM_UP, ("cosine_annealing", {"T_max": 280})], [20]),
    ([WARM_UP, ("cosine_annealing", {"T_max": 260, "eta_min": 1e-3})], [20]),
    ([WARM_UP, ("polynomial", {"total_iters": 200, "power": 2.0})], [20]),
    ([WARM_UP, ("multi_step", {"milestones": [0, 30, 60], "gamma": 0.3})], [20]),
    ([WARM_UP, ("cosine_annealing_warm_restarts", {"T_0": 10, "T_mult": 2})], [15]),
    ([("constant_lr", {"factor": 0.1, "total_iters": 8}), ("exponential", {"gamma": 0.97})], [10]),
    ([("constant_lr", {"factor": 0.1, "total_iters": 9}), ("step", {"step_size": 7})], [4]),
    (
        [
            WARM_UP,
            ("exponential", {"gamma": 0.95}),
            ("cosine_annealing_warm_restarts", {"T_0": 11}),
            ("constant_lr", {"factor": 0.5, "total_iters": 1000}),
        ],
        [20, 40, 200],
    ),
    ([WARM_UP, ("exponential", {"gamma": 0.9})], [0]),
    ([WARM_UP, ("exponential", {"gamma": 0.9}), ("step", {"step_size": 3})], [7, 7]),
    ([WARM_UP, ("exponential", {"gamma": 0.9})], [1000]),
]
PRODUCTS = [
    [("exponential", {"gamma": 0.9})],
    [("constant_lr", {"factor": 0.1, "total_iters": 20}), ("exponential", {"gamma": 0.9})],
    [WARM_UP, ("multi_step", {"milestones": [30, 60, 90], "gamma": 0.3})],
    [WARM_UP, ("step", {"step_size": 40}), ("polynomial", {"total_iters": 290, "power": 0.9})],
    [WARM_UP, ("cosine_annealing", {"T_max": 300})],
]


def sgd():
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(()))], RATE, momentum=0.3)


@pytest.mark.parametrize(("parts", "milestones"), SEQUENCES, ids=str)
@pytest.mark.parametrize("steps_per_epoch", [1, 7])
def test_sequential_is_torchs(parts, milestones, steps_per_epoch, float64):
    optimizer = sgd()
    schedulers = [CLASSES[name](optimizer, **arguments) for name, arguments in parts]
    scheduler = SequentialLR(optimizer, schedulers, milestones)
    rates, _ = run(optimizer, scheduler, steps_per_epoch=steps_per_epoch)
    schedule = schedules.sequential(
        [schedules.create(n, RATE, steps_per_epoch=steps_per_epoch, **a) for n, a in parts],
        milestones,
        steps_per_epoch=steps_per_epoch,
    )
    got = jax.jit(schedule)(jnp.arange(STEPS))
    assert got.dtype == jnp.float64
    np.testing.assert_allclose(got, rates, rtol=0, atol=1e-14 * max(rates))
    np.testing.assert_allclose(jax.vmap(schedule)(jnp.arange(STEPS)), got, rtol=1e-15)
    # A part that ends, as one_cycle does, must not be asked beyond its own steps.
    np.testing.assert_allclose(schedule(299), rates[299], rtol=0, atol=1e-14 * max(rates))


@pytest.mark.parametrize("steps_per_epoch", [1, 7])
def test_sequences_nest(steps_per_epoch):
    interval = {"steps_per_epoch": steps_per_epoch}
    first = schedules.create("linear", RATE, **interval)
    second = schedules.create("step", RATE, step_size=4, **interval)
    third = schedules.create("exponential", RATE, gamma=0.9, **interval)
    flat = schedules.sequential([first, second, third], [5, 20], **interval)
    inner = schedules.sequential([first, second], [5], **interval)
    nested = schedules.sequential([inner, third], [20], **interval)
    late = schedules.sequential([second, third], [15], **interval)
    later = schedules.sequential([first, late], [5], **interval)
    steps = jnp.arange(STEPS)
    np.testing.assert_allclose(nested(steps), flat(steps), rtol=1e-7)
    np.testing.assert_allclose(later(steps), flat(steps), rtol=1e-7)


def test_sequential_ends_a_one_cycle():
    cycle = schedules.create("one_cycle", RATE, total_steps=10)
    after = schedules.create("constant", 0.25)
    schedule = schedules.sequential([cycle, after], [10])
    assert float(schedule(9)) == pytest.approx(RATE / 25e4, rel=1e-6)
    assert float(schedule(50)) == 0.25


@pytest.mark.parametrize("parts", PRODUCTS, ids=str)
@pytest.mark.parametrize("steps_per_epoch", [1, 7])
def test_chained_is_torchs(parts, steps_per_epoch, float64):
    optimizer = sgd()
    scheduler = ChainedScheduler([CLASSES[name](optimizer, **a) for name, a in parts])
    rates, _ = run(optimizer, scheduler, steps_per_epoch=steps_per_epoch)
    (name, arguments), *others = parts
    schedule = schedules.chained(
        [schedules.create(name, RATE, steps_per_epoch=steps_per_epoch, **arguments)]
        + [schedules.create(n, 1.0, steps_per_epoch=steps_per_epoch, **a) for n, a in others]
    )
    got = jax.jit(schedule)(jnp.arange(STEPS))
    np.testing.assert_allclose(got, rates, rtol=0, atol=1e-14 * max(rates))


def test_float32():
    parts = [schedules.create("linear", RATE), schedules.create("constant", 0.5)]
    for schedule in [schedules.sequential(parts, [9]), schedules.chained(parts)]:
        assert schedule(jnp.arange(20)).dtype == jnp.float32


@pytest.mark.parametrize(
    ("count", "milestones", "message"),
    [
        (0, [], "sequential: needs at least one schedule, got none"),
        (2, [], "sequential: 2 schedules need 1 milestones, got 0"),
        (2, [-1], "sequential: every milestone must be an integer >= 0, got -1"),
        (3, [5, 4], r"sequential: milestones must ascend, got \[5, 4\]"),
    ],
)
def test_sequential_errors(count, milestones, message):
    parts = [schedules.create("constant", RATE)] * count
    with pytest.raises(ValueError, match=message):
        schedules.sequential(parts, milestones)


def test_other_errors():
    with pytest.raises(ValueError, match="steps_per_epoch must be an integer >= 1, got 0"):
        schedules.sequential([schedules.create("constant", RATE)], [], steps_per_epoch=0)
    with pytest.raises(ValueError, match="chained: needs at least one schedule, got none"):
        schedules.chained([])
