"""L-BFGS with `torch.optim.LBFGS`'s arguments and values: data and pure functions.

Liu and Nocedal, "On the limited memory BFGS method for large scale optimization", 1989. It is no
`optax.GradientTransformation`: a step evaluates the loss many times. `optax.lbfgs` takes one
iteration an update, keeps 10 pairs and searches the line in another way.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree

from jaxcnn.optim.lbfgs_state import LbfgsState, direction, remember
from jaxcnn.optim.line_search import Evaluate, dot, strong_wolfe
from jaxcnn.optim.transform import Value, check_not_negative

LineSearch = Literal["strong_wolfe"]


class _Here(NamedTuple):
    """Where a step has come to."""

    x: jax.Array
    loss: jax.Array
    gradient: jax.Array
    t: jax.Array
    evals: jax.Array
    carry: Any


class _Run(NamedTuple):
    """A step between two iterations."""

    here: _Here
    state: LbfgsState
    iterations: jax.Array
    running: jax.Array


@dataclass(frozen=True)
class Lbfgs:
    """`torch.optim.LBFGS`'s arguments, for its two pure functions; see `lbfgs`."""

    learning_rate: Value
    max_iter: int
    max_eval: int
    tolerance_grad: float
    tolerance_change: float
    history_size: int
    line_search_fn: LineSearch | None

    def init(self, params: Any) -> LbfgsState:
        """Return the state before the first step.

        Args:
            params: a tree of arrays of one floating dtype.

        Raises:
            ValueError: no parameters, or of other or several dtypes.
        """
        x, _ = _flatten(params)
        count, scalar = jnp.zeros((), jnp.int32), jnp.zeros((), x.dtype)
        rows = jnp.zeros((self.history_size, x.size), x.dtype)
        return LbfgsState(
            step=count,
            func_evals=count,
            n_iter=count,
            stored=count,
            old_dirs=rows,
            old_stps=rows,
            ro=rows[:, 0],
            d=jnp.zeros_like(x),
            t=scalar,
            H_diag=jnp.ones_like(scalar),
            prev_flat_grad=jnp.zeros_like(x),
            prev_loss=scalar,
        )

    def step(
        self, loss: Callable[..., Any], params: Any, state: LbfgsState, carry: Any = None
    ) -> tuple[Any, LbfgsState, jax.Array, Any]:
        """Minimize a loss by up to max_iter iterations; jittable.

        Args:
            loss: torch's closure: params -> () float; with a carry (params, carry) -> (() float,
                carry). It is evaluated just as often as torch does, line search included.
            params: as `init` took.
            state: of `init` or of the last step.
            carry: what every evaluation changes, in their order, as running statistics of batch
                norm or a key of dropout; a tree of arrays, whose structure, shapes and dtypes the
                loss keeps. None for none.

        Returns:
            New parameters, new state, the loss at the given parameters in their dtype, the carry
            after the last evaluation, which need not be at the new parameters; nor is torch's.

        Raises:
            ValueError: parameters that `init` would not take, a state of other parameters or
                another history_size, a carry that the loss changes in structure, shape or dtype.
        """
        x, unravel = _flatten(params)
        if state.old_dirs.shape != (self.history_size, x.size) or state.d.dtype != x.dtype:
            raise ValueError(
                f"lbfgs: state must be of {x.size} {x.dtype} parameters and a history_size of "
                f"{self.history_size}, got old_dirs of {state.old_dirs.shape} {state.d.dtype}"
            )
        carry = jax.tree.map(jnp.asarray, carry)
        closure = loss if carry is not None else lambda params, carry: (loss(params), carry)

        def value(x: jax.Array, carry: Any) -> tuple[jax.Array, Any]:
            found, new = closure(unravel(x), carry)
            if _form(new) != _form(carry):
                raise ValueError(
                    f"lbfgs: loss must return a carry like {_form(carry)}, got {_form(new)}"
                )
            return found.astype(x.dtype), new

        def evaluate(x: jax.Array, carry: Any) -> tuple[jax.Array, jax.Array, Any]:
            (found, carry), gradient = jax.value_and_grad(value, has_aux=True)(x, carry)
            return found, gradient, carry

        first_loss, gradient, carry = evaluate(x, carry)
        here = _Here(x, first_loss, gradient, state.t, jnp.ones((), jnp.int32), carry)
        rate = self.learning_rate
        rate = jnp.asarray(rate(state.step) if callable(rate) else rate, x.dtype)
        run = lax.while_loop(
            lambda run: run.running,
            lambda run: self._iterate(evaluate, rate, run),
            _Run(here, state, jnp.zeros((), jnp.int32), ~self._optimal(gradient)),
        )
        here = run.here
        state = run.state._replace(
            step=run.state.step + 1, func_evals=run.state.func_evals + here.evals
        )
        return unravel(here.x), state, first_loss, here.carry

    def _iterate(self, evaluate: Evaluate, rate: jax.Array, run: _Run) -> _Run:
        """Run one iteration: direction, step length, and whether another one follows."""
        start, iterations = run.here, run.iterations + 1
        loss, gradient = start.loss, start.gradient
        state = remember(run.state, gradient)
        d = direction(state, gradient)
        size = 1 / jnp.sum(jnp.abs(gradient))
        # torch's min(1., size) is 1 where size is NaN
        t = jnp.where((state.n_iter == 0) & (size < 1), size, 1.0) * rate
        gtd = dot(gradient, d)
        stuck = gtd > -self.tolerance_change

        def move(here: _Here) -> _Here:
            if self.line_search_fn is None:
                moved = here._replace(x=here.x + here.t * d)
                # torch leaves out the evaluation that only another iteration would need
                return lax.cond(iterations < self.max_iter, look, lambda here: here, moved)
            f, g, t, evals, carry = strong_wolfe(
                lambda t, carry: evaluate(here.x + t * d, carry),
                here.t,
                d,
                loss,
                gradient,
                gtd,
                here.carry,
                tolerance_change=self.tolerance_change,
                max_ls=self.max_eval - here.evals,
            )
            return _Here(here.x + t * d, f, g, t, here.evals + evals, carry)

        def look(here: _Here) -> _Here:
            f, g, carry = evaluate(here.x, here.carry)
            return here._replace(loss=f, gradient=g, evals=here.evals + 1, carry=carry)

        here = lax.cond(stuck, lambda here: here, move, start._replace(t=t))
        ended = (
            stuck
            | (iterations == self.max_iter)
            | (here.evals >= self.max_eval)
            | self._optimal(here.gradient)
            | (jnp.max(jnp.abs(d * here.t)) <= self.tolerance_change)
            | (jnp.abs(here.loss - loss) < self.tolerance_change)
        )
        state = state._replace(
            n_iter=state.n_iter + 1, d=d, t=here.t, prev_flat_grad=gradient, prev_loss=loss
        )
        return _Run(here, state, iterations, ~ended)

    def _optimal(self, gradient: jax.Array) -> jax.Array:
        return jnp.max(jnp.abs(gradient)) <= self.tolerance_grad


def lbfgs(
    learning_rate: Value = 1.0,
    *,
    max_iter: int = 20,
    max_eval: int | None = None,
    tolerance_grad: float = 1e-7,
    tolerance_change: float = 1e-9,
    history_size: int = 100,
    line_search_fn: LineSearch | None = None,
) -> Lbfgs:
    """Build `torch.optim.LBFGS`, whose defaults these are.

    All is computed in the parameters' dtype. torch keeps losses, and the step lengths that are
    Python numbers, in float64: with float32 parameters steps differ by float32's rounding.

    Args:
        learning_rate: the step length, or the first one that the line search tries: a number >= 0
            or a schedule of the calls of `Lbfgs.step` done. The very first iteration takes
            min(1, 1 / |g|_1) times as much.
        max_iter: iterations a step, >= 1.
        max_eval: evaluations a step after which no iteration begins, >= 1; None is
            max_iter * 5 // 4. A line search may go over it by one.
        tolerance_grad: end the step where no element of the gradient is larger, >= 0.
        tolerance_change: end the step where no parameter moves by more, the loss changes by less,
            or the slope along the direction is above -tolerance_change; >= 0.
        history_size: pairs of vectors kept, >= 1.
        line_search_fn: None for steps of a fixed length, or "strong_wolfe".

    Raises:
        ValueError: a bad value.
    """
    check_not_negative(
        "lbfgs",
        learning_rate=learning_rate,
        tolerance_grad=tolerance_grad,
        tolerance_change=tolerance_change,
    )
    if max_eval is None:
        max_eval = max_iter * 5 // 4
    for argument, value in [
        ("max_iter", max_iter),
        ("max_eval", max_eval),
        ("history_size", history_size),
    ]:
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"lbfgs: {argument} must be an integer >= 1, got {value!r}")
    if line_search_fn not in (None, "strong_wolfe"):
        raise ValueError(
            f"lbfgs: line_search_fn must be None or 'strong_wolfe', got {line_search_fn!r}"
        )
    return Lbfgs(
        learning_rate,
        max_iter,
        max_eval,
        tolerance_grad,
        tolerance_change,
        history_size,
        line_search_fn,
    )


def _flatten(params: Any) -> tuple[jax.Array, Callable[[jax.Array], Any]]:
    """Return the parameters as one vector (N,), and what turns such a vector into their tree."""
    dtypes = {jnp.result_type(leaf) for leaf in jax.tree.leaves(params)}
    if len(dtypes) != 1 or not jnp.issubdtype(next(iter(dtypes)), jnp.floating):
        found = ", ".join(sorted(map(str, dtypes))) or "no parameters"
        raise ValueError(f"lbfgs: params must be of one floating dtype, got {found}")
    return ravel_pytree(params)


def _form(carry: Any) -> Any:
    return jax.tree.map(lambda leaf: f"{leaf.dtype}{list(leaf.shape)}", carry)
