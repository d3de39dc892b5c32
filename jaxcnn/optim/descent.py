"""Descent along the gradient itself: SGD with momentum, and averaged SGD."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxcnn.optim.held import held
from jaxcnn.optim.stepping import Stepping, own, take
from jaxcnn.optim.transform import Value, check_not_negative, elementwise, lerp, zeros


def sgd(
    learning_rate: Value = 1e-3,
    *,
    momentum: Value = 0.0,
    dampening: float = 0.0,
    weight_decay: float = 0.0,
    nesterov: bool = False,
    maximize: bool = False,
) -> optax.GradientTransformation:
    """Build `torch.optim.SGD`: b = momentum b + (1 - dampening) g; w -= lr b.

    g is the gradient + weight_decay w: the decay is coupled, added before the momentum, as PyTorch
    does and `optax.sgd` leaves to the caller. The first buffer is the first g, undamped. The
    learning rate multiplies outside the buffer.

    Args:
        learning_rate: a number >= 0 or a schedule.
        momentum: a number >= 0, or a schedule whose values are above 0.
        dampening: share of g that is kept out of the buffer; without momentum it does nothing.
        weight_decay: >= 0.
        nesterov: step by g + momentum b.
        maximize: step along the gradient.

    Raises:
        ValueError: a negative momentum or weight decay; nesterov without momentum or with
            dampening.
    """
    check_not_negative("sgd", momentum=momentum, weight_decay=weight_decay)
    if nesterov and momentum == 0:
        raise ValueError("sgd: nesterov needs a momentum above 0, got 0")
    if nesterov and dampening != 0:
        raise ValueError(f"sgd: nesterov needs dampening 0, got {dampening}")
    if callable(momentum) or (momentum and dampening):
        return _damped(learning_rate, momentum, dampening, weight_decay, nesterov, maximize)
    scaled = optax.scale_by_learning_rate(learning_rate)
    parts = [
        optax.add_decayed_weights(weight_decay) if weight_decay else optax.identity(),
        held(optax.trace(momentum, nesterov)) if momentum else optax.identity(),
        scaled,
    ]
    chain = optax.chain(optax.scale(-1.0), *parts) if maximize else optax.chain(*parts)

    def advance(g, w, slots, numbers):
        rate, momentum, _ = numbers
        g = -g if maximize else g
        g = g + weight_decay * w if weight_decay else g
        new = [g + momentum * buffer for buffer in slots]
        if new:
            g = g + momentum * new[0] if nesterov else new[0]
        return -rate * g, new

    def whole(gradients: Any, state: Any, params: Any) -> tuple[Any, Any] | None:
        *before, traced, schedule = state
        buffers = [traced.trace] if momentum else []
        if not own(params, gradients, *buffers):
            return None
        dtype = jax.tree.leaves(params)[0].dtype
        minus, schedule = scaled.update(jnp.ones((), dtype), schedule)
        settings = {"weight_decay": weight_decay, "nesterov": nesterov, "maximize": maximize}
        numbers = (-jnp.asarray(minus), momentum, 0)
        params, new = take("sgd", settings, advance, numbers, gradients, params, buffers)
        traced = traced._replace(trace=new[0]) if momentum else traced
        return params, (*before, traced, schedule)

    return Stepping(*chain, whole)


def _damped(
    learning_rate: Value,
    momentum: Value,
    dampening: float,
    weight_decay: float,
    nesterov: bool,
    maximize: bool,
) -> optax.GradientTransformation:
    """Build what `optax.trace` cannot do: a damped buffer, a momentum that changes."""

    def rule(g, w, arrays, now):
        buffer = now.momentum * arrays["momentum_buffer"] + (1 - dampening) * g
        buffer = jnp.where(now.t == 1, g, buffer)
        step = g + now.momentum * buffer if nesterov else buffer
        return -now.lr * step, {"momentum_buffer": buffer}

    return elementwise(
        "sgd",
        learning_rate,
        {"momentum_buffer": zeros},
        rule,
        momentum=momentum,
        weight_decay=weight_decay,
        maximize=maximize,
    )


def asgd(
    learning_rate: Value = 1e-2,
    *,
    lambd: float = 1e-4,
    alpha: float = 0.75,
    t0: float = 1e6,
    weight_decay: float = 0.0,
    maximize: bool = False,
) -> optax.GradientTransformation:
    """Build `torch.optim.ASGD` (Polyak and Juditsky 1992): w -= eta (g + lambd w), ax averages w.

    eta and mu are of the step before: eta = lr / (1 + lambd lr t)^alpha, at first the learning
    rate, so that a schedule acts one step late, as in PyTorch; mu = 1 / max(1, t - t0), and
    ax += mu (w - ax). Nothing reads the average but the caller, in the state's slot `ax`. PyTorch
    keeps eta and mu in its default dtype, here they have the parameter's.

    Args:
        learning_rate: a number >= 0 or a schedule.
        lambd: decay of the parameters.
        alpha: power of the decay of eta.
        t0: step at which the averaging starts.
        weight_decay: >= 0, coupled.
        maximize: step along the gradient.

    Raises:
        ValueError: a negative weight decay.
    """
    check_not_negative("asgd", weight_decay=weight_decay)

    def rule(g, w, arrays, now):
        eta, mu, ax = arrays["eta"], arrays["mu"], arrays["ax"]
        delta = -eta * (lambd * w + g)
        moved = w + delta
        return delta, {
            "eta": now.lr / (1 + lambd * now.lr * now.t) ** alpha,
            "mu": 1 / jnp.maximum(now.t - t0, 1),
            "ax": jnp.where(mu == 1, moved, lerp(ax, moved, mu)),
        }

    slots = {
        # A copy each: one array for all parameters could not be donated with the state.
        "eta": lambda w, lr: jnp.array(lr, w.dtype, copy=True),
        "mu": lambda w, lr: jnp.ones((), w.dtype),
        "ax": zeros,
    }
    return elementwise(
        "asgd", learning_rate, slots, rule, weight_decay=weight_decay, maximize=maximize
    )
