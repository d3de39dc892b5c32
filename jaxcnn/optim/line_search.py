"""A line search for the strong Wolfe conditions, step by step that of `torch.optim.LBFGS`.

Cubic interpolation after Nocedal and Wright, "Numerical Optimization", 2006, ch. 3.5, as ported to
PyTorch from Mark Schmidt's minFunc. Where PyTorch branches, arrays are selected here, so that the
search can be jitted and mapped; the function is evaluated just as often and at the same points.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

Evaluate = Callable[[jax.Array, Any], tuple[jax.Array, jax.Array, Any]]
"""(step length (), carry) -> value (), gradient (N,), carry."""


class _Point(NamedTuple):
    """A point of the line: step length (), value (), gradient (N,), slope along the line ()."""

    t: jax.Array
    f: jax.Array
    g: jax.Array
    gtd: jax.Array


class _Search(NamedTuple):
    """The search between two evaluations."""

    t: jax.Array
    """Where to evaluate next."""
    before: _Point
    """The last point, for the bracket."""
    bracket: _Point
    """Two points, of a leading axis of 2; of no meaning before `zooming`."""
    low: jax.Array
    """Which of them is the lower one."""
    zooming: jax.Array
    insufficient: jax.Array
    """Whether the last trial came too close to an end of the bracket."""
    running: jax.Array
    evals: jax.Array
    carry: Any


def strong_wolfe(
    evaluate: Evaluate,
    t: jax.Array,
    d: jax.Array,
    f: jax.Array,
    g: jax.Array,
    gtd: jax.Array,
    carry: Any = None,
    *,
    c1: float = 1e-4,
    c2: float = 0.9,
    tolerance_change: float = 1e-9,
    max_ls: int | jax.Array = 25,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array, Any]:
    """Find a step length t with f(t) <= f + c1 t gtd and |slope at t| <= c2 |gtd|.

    `torch.optim.lbfgs._strong_wolfe`, jittable. Where PyTorch's raises, as with t = 0
    (ZeroDivisionError), this goes on with NaN until max_ls.

    Args:
        evaluate: the function along the line, with a carry that every evaluation hands to the next.
        t: (), the first step length to try, > 0. All scalars are of the vectors' dtype.
        d: (N,), the direction.
        f: (), the value at 0.
        g: (N,), the gradient at 0.
        gtd: (), g d, the slope at 0, < 0.
        carry: any tree of arrays, None for none.
        c1: of the sufficient decrease, in (0, c2).
        c2: of the slope, in (c1, 1).
        tolerance_change: a bracket in which no parameter moves so much is not refined.
        max_ls: evaluations after the first, >= 0.

    Returns:
        Value, gradient and step length of the best point found, () int32 evaluations, the carry.
    """
    d_norm = jnp.max(jnp.abs(d))
    start = _Point(jnp.zeros_like(t), f, g, gtd)

    def advance(s: _Search) -> _Search:
        f_new, g_new, carry = evaluate(s.t, s.carry)
        new = _Point(s.t, f_new, g_new, dot(g_new, d))
        iteration = s.evals  # torch's ls_iter is one behind the evaluations
        too_high = new.f > f + c1 * new.t * gtd
        is_flat = jnp.abs(new.gtd) <= -c2 * gtd

        exhausted = iteration >= max_ls
        beyond = too_high | ((iteration > 1) & (new.f >= s.before.f))
        found = ~exhausted & ~beyond & is_flat
        closed = exhausted | beyond | is_flat | (new.gtd >= 0)
        left = _select(exhausted, start, _select(found, new, s.before))

        refined, low, accepted = _refine(s.bracket, s.low, new, too_high, is_flat)
        bracket = _select(s.zooming, refined, _pair(left, new))
        low = jnp.where(s.zooming, low, _lower(bracket))
        done = jnp.where(s.zooming, accepted, found)
        small = jnp.abs(bracket.t[1] - bracket.t[0]) * d_norm < tolerance_change
        zooming = s.zooming | closed
        inside, insufficient = _trial(bracket, s.insufficient)
        return _Search(
            t=jnp.where(zooming, inside, _extrapolate(s.before, new)),
            before=new,
            bracket=bracket,
            low=low,
            zooming=zooming,
            insufficient=zooming & insufficient,
            running=~zooming | ~(done | small | (iteration >= max_ls)),
            evals=s.evals + 1,
            carry=carry,
        )

    false = jnp.zeros((), bool)
    zero = jnp.zeros((), jnp.int32)
    end = lax.while_loop(
        lambda s: s.running,
        advance,
        _Search(t, start, _pair(start, start), zero, false, false, ~false, zero, carry),
    )
    best = _at(end.bracket, end.low)
    return best.f, best.g, best.t, end.evals, end.carry


def cubic_interpolate(
    x1: jax.Array,
    f1: jax.Array,
    g1: jax.Array,
    x2: jax.Array,
    f2: jax.Array,
    g2: jax.Array,
    bounds: tuple[jax.Array, jax.Array] | None = None,
) -> jax.Array:
    """Return the minimum, within bounds, of the cubic through two points with given slopes.

    `torch.optim.lbfgs._cubic_interpolate`: the middle of the bounds where the cubic has none.

    Args:
        x1: the first point; all arguments have one shape and dtype.
        f1: the value there.
        g1: the slope there.
        x2: the second point, other than x1.
        f2: the value there.
        g2: the slope there.
        bounds: least and greatest result; None is the two points.
    """
    ascending = x1 <= x2
    if bounds is None:
        bounds = jnp.where(ascending, x1, x2), jnp.where(ascending, x2, x1)
    least, greatest = bounds
    d1 = g1 + g2 - 3 * (f1 - f2) / (x1 - x2)
    square = d1 * d1 - g1 * g2
    d2 = jnp.sqrt(jnp.maximum(square, 0))
    forth = x2 - (x2 - x1) * ((g2 + d2 - d1) / (g2 - g1 + 2 * d2))
    back = x1 - (x1 - x2) * ((g1 + d2 - d1) / (g1 - g2 + 2 * d2))
    minimum = jnp.where(ascending, forth, back)
    inside = _smaller(_larger(minimum, least), greatest)
    return jnp.where(square >= 0, inside, (least + greatest) / 2)


def dot(a: jax.Array, b: jax.Array) -> jax.Array:
    """Return the inner product of two vectors in full precision, on a GPU too."""
    return jnp.vdot(a, b, precision=lax.Precision.HIGHEST)


def _refine(
    bracket: _Point, low: jax.Array, new: _Point, too_high: jax.Array, is_flat: jax.Array
) -> tuple[_Point, jax.Array, jax.Array]:
    """Return the bracket with a new point in it, its lower point, and whether that one will do."""
    lower, higher = _at(bracket, low), _at(bracket, 1 - low)
    rejected = too_high | (new.f >= lower.f)
    turned = ~is_flat & (new.gtd * (higher.t - lower.t) >= 0)
    other = _select(rejected, new, _select(turned, lower, higher))
    best = _select(rejected, lower, new)
    first = low == 0
    refined = _select(first, _pair(best, other), _pair(other, best))
    return refined, jnp.where(rejected, _lower(refined), low), ~rejected & is_flat


def _extrapolate(before: _Point, new: _Point) -> jax.Array:
    """Return the next step length while the line falls: 1.01 to 10 times as far."""
    bounds = new.t + 0.01 * (new.t - before.t), new.t * 10
    return cubic_interpolate(before.t, before.f, before.gtd, new.t, new.f, new.gtd, bounds)


def _trial(bracket: _Point, insufficient: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the next step length in a bracket, and whether it comes too close to an end.

    The second time, or on an end, it is kept a tenth of the bracket away from it.
    """
    t, f, _, gtd = bracket
    trial = cubic_interpolate(t[0], f[0], gtd[0], t[1], f[1], gtd[1])
    top, bottom = _larger(t[0], t[1]), _smaller(t[0], t[1])
    eps = 0.1 * (top - bottom)
    close = _smaller(top - trial, trial - bottom) < eps
    moved = close & (insufficient | (trial >= top) | (trial <= bottom))
    near_top = jnp.abs(trial - top) < jnp.abs(trial - bottom)
    inner = jnp.where(near_top, top - eps, bottom + eps)
    return jnp.where(moved, inner, trial), close & ~moved


def _lower(bracket: _Point) -> jax.Array:
    return jnp.where(bracket.f[0] <= bracket.f[1], 0, 1).astype(jnp.int32)


def _pair(first: _Point, second: _Point) -> _Point:
    return jax.tree.map(lambda a, b: jnp.stack([a, b]), first, second)


def _at(bracket: _Point, position: jax.Array) -> _Point:
    return jax.tree.map(lambda both: both[position], bracket)


def _select(condition: jax.Array, chosen: _Point, other: _Point) -> _Point:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), chosen, other)


# Python's min and max, which PyTorch calls here: they keep the first of two where one is NaN.


def _larger(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.where(b > a, b, a)


def _smaller(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.where(b < a, b, a)
