"""Learning rate and momentum of every step, against PyTorch's schedulers in a real loop.

Falling rates agree to 1e-14 of each value. Cosines and cycles agree to 1e-14 of the highest one:
PyTorch takes small values as a difference of large ones. Where its own rounding is larger than
that, the tolerance says so, and the exact value decides.
"""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch_schedules import (
    COSINES,
    CYCLES,
    DECAYS,
    RATE,
    RESTARTS,
    STEPS,
    closed_form,
    run,
    scheduled,
)

from jaxcnn import schedules

FALLING = {name for name, _ in DECAYS}
LOOP = {
    # After T_max PyTorch starts the product again from 1 - cos(pi / T_max), almost 0.
    "cosine_annealing": 1e-13,
    # The position in a cycle is what is left of 1 + epoch / length without its whole part.
    "cyclic": 2e-14,
}
# The argument pi epoch / T_max is rounded, in units of the periods passed: 75 in one of the cases.
CLOSED_FORM = {"cosine_annealing": 3e-14}


def assert_near(name, got, want, tolerance):
    if name in FALLING:
        np.testing.assert_allclose(got, want, rtol=tolerance, atol=0)
    else:
        np.testing.assert_allclose(got, want, rtol=0, atol=tolerance * max(want))


@pytest.mark.parametrize(("name", "arguments"), DECAYS + COSINES + RESTARTS + CYCLES, ids=str)
@pytest.mark.parametrize("steps_per_epoch", [1, pytest.param(7, marks=pytest.mark.slow)])
def test_every_step_is_that_of_torchs_loop(name, arguments, steps_per_epoch, float64):
    schedule = schedules.create(name, RATE, steps_per_epoch=steps_per_epoch, **arguments)
    rates, momenta = run(*scheduled(name, arguments), steps_per_epoch=steps_per_epoch)
    got = jax.jit(schedule)(jnp.arange(STEPS))
    assert got.dtype == jnp.float64
    assert_near(name, got, rates, LOOP.get(name, 1e-14))
    if isinstance(schedule, schedules.Cycle):
        np.testing.assert_allclose(schedule.momentum(jnp.arange(STEPS)), momenta, rtol=2e-14)


@pytest.mark.parametrize(("name", "arguments"), DECAYS + COSINES, ids=str)
def test_every_step_is_that_of_torchs_closed_form(name, arguments, float64):
    got = schedules.create(name, RATE, **arguments)(jnp.arange(STEPS))
    assert_near(name, got, closed_form(name, arguments), CLOSED_FORM.get(name, 1e-14))


@pytest.mark.parametrize(("name", "arguments"), DECAYS + COSINES + RESTARTS + CYCLES, ids=str)
def test_float32_is_within_eight_ulps_of_torchs_float64(name, arguments):
    schedule = schedules.create(name, RATE, **arguments)
    if name in FALLING or name == "cosine_annealing":
        rates, momenta = closed_form(name, arguments), None
    else:
        rates, momenta = run(*scheduled(name, arguments))
    got = schedule(jnp.arange(STEPS))
    assert got.dtype == jnp.float32
    # Below 1e-37 float32 has no normal numbers.
    np.testing.assert_allclose(got, rates, rtol=8 * 2**-23, atol=1e-37)
    if isinstance(schedule, schedules.Cycle):
        # A momentum is max_momentum less something: small ones have its absolute accuracy.
        got, atol = schedule.momentum(jnp.arange(STEPS)), 8 * 2**-23 * max(momenta)
        np.testing.assert_allclose(got, momenta, rtol=0, atol=atol)


@pytest.mark.parametrize("name", ["constant_lr", "linear", "polynomial"])
def test_no_iterations_are_as_in_torchs_loop(name, float64):
    rates, _ = run(*scheduled(name, {"total_iters": 0}), steps=5)
    got = schedules.create(name, RATE, total_iters=0)
    np.testing.assert_allclose([float(got(step)) for step in range(5)], rates, rtol=1e-15)


def test_constant_lr_of_factor_0_ends_where_torch_divides_by_it(float64):
    optimizer, scheduler = scheduled("constant_lr", {"factor": 0.0, "total_iters": 2})
    with pytest.raises(ZeroDivisionError):
        run(optimizer, scheduler, steps=4)
    got = schedules.create("constant_lr", RATE, factor=0.0, total_iters=2)(jnp.arange(4))
    np.testing.assert_array_equal(got, [0, 0, RATE, RATE])


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (lambda epoch: 0.95**epoch, lambda epoch: 0.95 ** epoch.astype(float)),
        (lambda epoch: 1 / (1 + epoch), lambda epoch: 1 / (1 + epoch).astype(float)),
        (lambda epoch: [1, 0.5, 0.1][min(epoch // 9, 2)], None),
    ],
)
@pytest.mark.parametrize("steps_per_epoch", [1, 7])
def test_lambda_lr(theirs, ours, steps_per_epoch, float64):
    def by_table(epoch):
        return jnp.array([1, 0.5, 0.1])[jnp.minimum(epoch // 9, 2)]

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(()))], RATE)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, theirs)
    rates, _ = run(optimizer, scheduler, steps_per_epoch=steps_per_epoch)
    schedule = schedules.lambda_lr(RATE, steps_per_epoch, lr_lambda=ours or by_table)
    np.testing.assert_allclose(jax.jit(schedule)(jnp.arange(STEPS)), rates, rtol=1e-14, atol=0)


@pytest.mark.parametrize(("up", "down"), [(3, 0), (1, 1), (2, 5), (7, 3), (33, 4)])
def test_cyclic_is_exact_where_torch_is_not(up, down, float64):
    schedule = schedules.create("cyclic", 0.0, max_lr=1.0, step_size_up=up, step_size_down=down)
    steps = np.array([0, 1, up, up + down, 299, 123_456_789, 2**31 - 1])
    want = []
    for step in steps.tolist():
        position = step % (up + down)
        share = Fraction(position, up) if position <= up else Fraction(up + down - position, down)
        want.append(float(share))
    np.testing.assert_allclose(schedule(steps), want, rtol=3e-16, atol=0)


def test_cosine_annealing_is_exact_where_torch_is_not(float64):
    schedule = schedules.create("cosine_annealing", 0.1, T_max=2, eta_min=0.02)
    steps = 2**31 - 4 + np.arange(4)
    np.testing.assert_allclose(schedule(steps), [0.1, 0.06, 0.02, 0.06], rtol=3e-16, atol=0)


def test_warm_restarts_at_the_last_step(float64):
    """The last of the 31 cycles of 1, 2, 4, ... steps ends at step 2^31 - 2."""
    schedule = schedules.create("cosine_annealing_warm_restarts", 1.0, T_0=1, T_mult=2)
    steps = jnp.array([2**30 - 1, 2**30 - 1 + 2**29, 2**31 - 2, 2**31 - 1], jnp.int32)
    want = [1.0, 0.5, (np.pi / 2**31) ** 2, 1.0]
    np.testing.assert_allclose(schedule(steps), want, rtol=1e-15, atol=0)


def test_powers_of_many_epochs():
    """A gamma close to 1 decays as long as it takes, in float32 too."""
    schedule = schedules.create("exponential", 1.0, gamma=1 - 1e-8)
    got = schedule(jnp.array([10**6, 10**8, 2**31 - 1]))
    want = [(1 - 1e-8) ** count for count in (10**6, 10**8, 2**31 - 1)]
    np.testing.assert_allclose(got, want, rtol=4e-6, atol=0)
