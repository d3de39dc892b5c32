"""Steps divided by the root of summed or averaged squares: Adagrad, Adadelta, RMSprop."""

import jax.numpy as jnp
import optax

from jaxcnn.optim.transform import Value, check_not_negative, elementwise, lerp, zeros


def adagrad(
    learning_rate: Value = 1e-2,
    *,
    lr_decay: float = 0.0,
    weight_decay: float = 0.0,
    initial_accumulator_value: float = 0.0,
    eps: float = 1e-10,
    maximize: bool = False,
) -> optax.GradientTransformation:
    """Build `torch.optim.Adagrad`: s += g^2; w -= lr / (1 + (t - 1) lr_decay) g / (sqrt(s) + eps).

    Duchi et al. 2011. `optax.adagrad` starts the sum at 0.1 and adds eps under the root.

    Args:
        learning_rate: a number >= 0 or a schedule.
        lr_decay: >= 0.
        weight_decay: >= 0, coupled.
        initial_accumulator_value: where the sum starts, >= 0.
        eps: >= 0, added outside the root.
        maximize: step along the gradient.

    Raises:
        ValueError: a negative argument.
    """
    check_not_negative(
        "adagrad",
        lr_decay=lr_decay,
        weight_decay=weight_decay,
        initial_accumulator_value=initial_accumulator_value,
        eps=eps,
    )

    def rule(g, w, arrays, now):
        total = arrays["sum"] + g * g
        lr = now.lr / (1 + (now.t - 1) * lr_decay)
        return -lr * (g / (jnp.sqrt(total) + eps)), {"sum": total}

    options = {"weight_decay": weight_decay, "maximize": maximize}
    return elementwise(
        "adagrad",
        learning_rate,
        {"sum": lambda w, lr: jnp.full_like(w, initial_accumulator_value)},
        rule,
        own=("adagrad", {"lr_decay": lr_decay, "eps": eps, **options}),
        **options,
    )


def adadelta(
    learning_rate: Value = 1.0,
    *,
    rho: float = 0.9,
    eps: float = 1e-6,
    weight_decay: float = 0.0,
    maximize: bool = False,
) -> optax.GradientTransformation:
    """Build `torch.optim.Adadelta`: d = sqrt(a + eps) / sqrt(v + eps) g; w -= lr d.

    v averages g^2, a averages d^2, which enters the next step. Zeiler 2012, arXiv:1212.5701.

    Args:
        learning_rate: a number >= 0 or a schedule.
        rho: decay of both averages, in [0, 1].
        eps: >= 0, added under the roots.
        weight_decay: >= 0, coupled.
        maximize: step along the gradient.

    Raises:
        ValueError: rho outside [0, 1], a negative eps or weight decay.
    """
    check_not_negative("adadelta", eps=eps, weight_decay=weight_decay)
    if not 0 <= rho <= 1:
        raise ValueError(f"adadelta: rho must be in [0, 1], got {rho}")

    def rule(g, w, arrays, now):
        square = lerp(arrays["square_avg"], g * g, 1 - rho)
        below = square + eps
        moved = lerp(arrays["acc_delta"], (arrays["acc_delta"] + eps) * (g / below * g), 1 - rho)
        if rho == 0:  # a is d^2, and the quotient below 0 / 0 where g is 0
            delta = jnp.sign(g) * jnp.sqrt(moved)
        else:
            # (a + eps) / (v + eps) by way of the new a: XLA on a CPU copies an old array that two
            # results need, and keeps a root or quotient that they share.
            ratio = (moved + rho * eps) / (rho * below + (1 - rho) * (g * g))
            delta = g * jnp.sqrt(ratio)
        return -now.lr * delta, {"square_avg": square, "acc_delta": moved}

    return elementwise(
        "adadelta",
        learning_rate,
        {"square_avg": zeros, "acc_delta": zeros},
        rule,
        weight_decay=weight_decay,
        maximize=maximize,
    )


def rmsprop(
    learning_rate: Value = 1e-2,
    *,
    alpha: float = 0.99,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    momentum: Value = 0.0,
    centered: bool = False,
    maximize: bool = False,
) -> optax.GradientTransformation:
    """Build `torch.optim.RMSprop`: b = momentum b + g / (sqrt(v) + eps); w -= lr b.

    Hinton's lecture 6e; centered: Graves 2013, arXiv:1308.0850. The learning rate multiplies
    outside the buffer and eps is added outside the root (`optax.rmsprop` does both inside).

    Args:
        learning_rate: a number >= 0 or a schedule.
        alpha: decay of the averages, >= 0.
        eps: >= 0.
        weight_decay: >= 0, coupled.
        momentum: a number >= 0, or a schedule whose values are above 0.
        centered: divide by the root of the variance, v less the square of the average gradient.
        maximize: step along the gradient.

    Raises:
        ValueError: a negative argument.
    """
    check_not_negative(
        "rmsprop", alpha=alpha, eps=eps, weight_decay=weight_decay, momentum=momentum
    )
    buffered = callable(momentum) or momentum > 0

    def rule(g, w, arrays, now):
        square = alpha * arrays["square_avg"] + (1 - alpha) * (g * g)
        new = {"square_avg": square}
        if centered:
            mean = new["grad_avg"] = lerp(arrays["grad_avg"], g, 1 - alpha)
            square = square - mean * mean
        step = g / (jnp.sqrt(square) + eps)
        if buffered:
            step = now.momentum * arrays["momentum_buffer"] + step
            new["momentum_buffer"] = step
        return -now.lr * step, new

    kept = {"square_avg": True, "grad_avg": centered, "momentum_buffer": buffered}
    return elementwise(
        "rmsprop",
        learning_rate,
        {slot: zeros for slot, used in kept.items() if used},
        rule,
        momentum=momentum,
        weight_decay=weight_decay,
        maximize=maximize,
    )
