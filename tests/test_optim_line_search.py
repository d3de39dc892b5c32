"""The line search alone against torch's, on functions of one variable of every kind."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from optim_steps import double_scalars
from torch.optim.lbfgs import _cubic_interpolate, _strong_wolfe

from jaxcnn.optim.line_search import cubic_interpolate, strong_wolfe

CASES = 300
NUMBER = st.floats(-10, 10, allow_subnormal=False).map(lambda x: round(x, 3))


def line(module, c, t):
    """Return value and slope: a parabola, a wave near 0, a kink and a log, by the coefficients."""
    z, wave, sign = t - c[1], module.exp(-t * t / 20), module.where(t > c[1], 1.0, -1.0)
    f = (
        c[0] * z * z
        + c[2] * wave * module.sin(3 * t)
        + c[3] * abs(z)
        + c[4] * module.log(1 + t * t)
    )
    slope = wave * (3 * module.cos(3 * t) - t / 10 * module.sin(3 * t))
    return f, 2 * c[0] * z + c[2] * slope + c[3] * sign + 2 * c[4] * t / (1 + t * t)


def draw():
    """Return rows of coefficients, first step, max_ls and tolerance, all falling at 0.

    All rise in the end: far out a falling one is a line, whose cubic has no minimum but rounding's.
    """
    rng = np.random.default_rng(0)
    rows = []
    while len(rows) < CASES:
        c = rng.normal(size=5) * rng.choice([0, 1, 3], size=5)
        c[[0, 3, 4]] = abs(c[[0, 3, 4]]) + [0.01, 0, 0]
        if line(np, c, np.float64(0))[1] < -1e-3:
            t = 10 ** rng.uniform(-3, 1.5)
            rows.append([*c, t, rng.choice([0, 1, 2, 4, 10, 25]), rng.choice([1e-9, 1e-2])])
    return np.array(rows)


def torchs(row):
    """Return value, slope, step length and evaluations, and where torch evaluated."""
    seen = []

    def evaluate(x, t, d):
        seen.append(float(t))
        f, g = line(np, row[:5], np.float64(float(x + t * d)))
        return float(f), torch.tensor([g])

    x, d = torch.zeros(1), torch.ones(1)
    f, g = line(np, row[:5], np.float64(0))
    g = torch.tensor([g])
    f, g, t, evals = _strong_wolfe(
        evaluate,
        x,
        float(row[5]),
        d,
        float(f),
        g,
        g.dot(d),
        max_ls=int(row[6]),
        tolerance_change=row[7],
    )
    return [f, float(g), float(t), evals], seen


def ours(row):
    c = row[:5]
    zero = jnp.zeros(())

    def evaluate(t, carry):
        count, seen = carry
        f, g = line(jnp, c, t)
        return f, g[None], (count + 1, seen.at[count].set(t))

    f, g = line(jnp, c, zero)
    carry = jnp.zeros((), jnp.int32), jnp.zeros(27)
    f, g, t, evals, (count, seen) = strong_wolfe(
        evaluate,
        row[5],
        jnp.ones(1),
        f,
        g[None],
        g,
        carry,
        max_ls=row[6].astype(jnp.int32),
        tolerance_change=row[7],
    )
    return jnp.stack([f, g[0], t]), evals, count, seen


def test_search_evaluates_where_torchs_does(float64):
    rows = draw()
    got = jax.jit(jax.vmap(ours))(jnp.asarray(rows))
    with double_scalars():
        for row, values, evals, count, seen in zip(rows, *map(np.asarray, got), strict=True):
            (*wanted, wanted_evals), points = torchs(row)
            assert evals == count == wanted_evals == len(points)
            np.testing.assert_allclose(seen[:count], points, rtol=1e-11, atol=1e-13)
            np.testing.assert_allclose(values, wanted, rtol=1e-11, atol=1e-13)
    assert set(range(1, 6)) < set(np.asarray(got[1]).tolist())


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_search_ends_on_a_loss_that_is_no_number(bad):
    """torch keeps asking at finite points where the loss is NaN, at NaN where it is infinite."""
    first, count = 0.5, 7

    def theirs(x, t, d):
        return bad, torch.tensor([1.0])

    g = torch.tensor([-1.0])
    f, _, t, evals = _strong_wolfe(theirs, g, first, -g, 1.0, g, -g.dot(g), max_ls=count)
    got = strong_wolfe(
        lambda t, carry: (jnp.asarray(bad), jnp.ones(1), carry),
        jnp.asarray(first),
        jnp.ones(1),
        jnp.ones(()),
        -jnp.ones(1),
        -jnp.ones(()),
        max_ls=count,
    )
    assert got[3] == evals
    np.testing.assert_array_equal([got[0], got[2]], [f, t])


@jax.jit
def interpolated(points, bounds):
    return cubic_interpolate(*points), cubic_interpolate(*points, bounds=bounds)


@settings(deadline=None, max_examples=300)
@given(st.lists(NUMBER, min_size=8, max_size=8))
def test_interpolation_is_torchs(numbers):
    x1, f1, g1, x2, f2, g2, *bounds = numbers
    if x1 == x2:
        return  # torch divides by 0
    bounds.sort()
    with jax.enable_x64(True), double_scalars():
        tensors = [torch.tensor(v) for v in (x1, f1, g1, x2, f2, g2)]
        wanted = [_cubic_interpolate(*tensors, bounds=own) for own in (None, tuple(bounds))]
        if not all(map(torch.isfinite, map(torch.as_tensor, wanted))):
            return
        points = [jnp.asarray(v) for v in (x1, f1, g1, x2, f2, g2)]
        got = interpolated(points, tuple(map(jnp.asarray, bounds)))
    np.testing.assert_allclose(got, [float(v) for v in wanted], rtol=1e-9, atol=1e-9)
