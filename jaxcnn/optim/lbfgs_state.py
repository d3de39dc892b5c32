"""What L-BFGS remembers of the past, and the direction that follows from it.

Pairs of vectors are kept in rows that are overwritten in turn, where PyTorch shifts lists.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxcnn.optim.line_search import dot


class LbfgsState(NamedTuple):
    """What L-BFGS remembers, under torch's names; N elements of all parameters in one vector.

    Vectors and float scalars have the parameters' dtype, counts are () int32. Before the first
    iteration everything is 0, but for H_diag = 1.
    """

    step: jax.Array
    """Calls of `Lbfgs.step` done, which torch does not count; learning rate schedules do."""
    func_evals: jax.Array
    """Evaluations of the loss."""
    n_iter: jax.Array
    """Iterations."""
    stored: jax.Array
    """Pairs stored so far; the k-th, from 0, is in row k % history_size of the three below."""
    old_dirs: jax.Array
    """(history_size, N), changes of the gradient."""
    old_stps: jax.Array
    """(history_size, N), changes of the parameters."""
    ro: jax.Array
    """(history_size,), 1 over their inner products."""
    d: jax.Array
    """(N,), the last direction."""
    t: jax.Array
    """(), the last step length along it."""
    H_diag: jax.Array
    """(), the scale of the first approximation of the inverse Hessian."""
    prev_flat_grad: jax.Array
    """(N,), the gradient at the start of the last iteration."""
    prev_loss: jax.Array
    """(), the loss there."""


def remember(state: LbfgsState, gradient: jax.Array) -> LbfgsState:
    """Store the last iteration's change of the gradient, where the curvature along it is > 0."""
    y = gradient - state.prev_flat_grad
    s = state.d * state.t
    ys = dot(y, s)
    kept = (state.n_iter > 0) & (ys > 1e-10)
    row = state.stored % state.ro.size

    def put(rows, new):
        return rows.at[row].set(jnp.where(kept, new, rows[row]))

    return state._replace(
        stored=state.stored + kept.astype(jnp.int32),
        old_dirs=put(state.old_dirs, y),
        old_stps=put(state.old_stps, s),
        ro=put(state.ro, 1 / ys),
        H_diag=jnp.where(kept, ys / dot(y, y), state.H_diag),
    )


def direction(state: LbfgsState, gradient: jax.Array) -> jax.Array:
    """Return minus the approximate inverse Hessian times the gradient, by two loops over pairs."""
    history_size = state.ro.size
    count = jnp.minimum(state.stored, history_size)

    def backward(i, found):
        q, al = found
        row = (state.stored - 1 - i) % history_size
        a = dot(state.old_stps[row], q) * state.ro[row]
        return q - a * state.old_dirs[row], al.at[row].set(a)

    def forward(i, r):
        row = (state.stored - count + i) % history_size
        b = dot(state.old_dirs[row], r) * state.ro[row]
        return r + (al[row] - b) * state.old_stps[row]

    q, al = lax.fori_loop(0, count, backward, (-gradient, jnp.zeros_like(state.ro)))
    return lax.fori_loop(0, count, forward, q * state.H_diag)
