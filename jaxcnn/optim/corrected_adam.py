"""Adam with Nesterov's momentum (NAdam) and Adam with a rectified step (RAdam).

Dozat 2016; Liu et al. 2020, arXiv:1908.03265.
"""

import math

import jax
import jax.numpy as jnp
import optax

from jaxcnn.optim.transform import (
    Value,
    bias_correction,
    check_betas,
    check_not_negative,
    elementwise,
    lerp,
    zeros,
)


def nadam(
    learning_rate: Value = 2e-3,
    *,
    betas: tuple[Value, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    momentum_decay: float = 4e-3,
    decoupled_weight_decay: bool = False,
    maximize: bool = False,
) -> optax.GradientTransformation:
    """Build `torch.optim.NAdam`, whose momentum grows: mu_t = b1 (1 - 0.96^(t momentum_decay) / 2).

    w -= lr ((1 - mu_t) / (1 - p_t) g + mu_{t+1} / (1 - p_{t+1}) m) / (sqrt(v / (1 - b2^t)) + eps),
    p_t the product of mu_1 to mu_t (`optax.nadam` has a constant momentum instead). PyTorch keeps
    the product in its default dtype, here it has the parameter's.

    Args:
        learning_rate: a number >= 0 or a schedule.
        betas: decays of the moments m and v, in [0, 1); the first may be a schedule.
        eps: >= 0.
        weight_decay: >= 0.
        momentum_decay: >= 0.
        decoupled_weight_decay: take lr weight_decay w from w instead of adding weight_decay w to
            the gradient.
        maximize: step along the gradient.

    Raises:
        ValueError: betas outside [0, 1), a negative eps, weight decay or momentum decay.
    """
    check_betas("nadam", betas)
    check_not_negative("nadam", eps=eps, weight_decay=weight_decay, momentum_decay=momentum_decay)
    beta2 = betas[1]

    def rule(g, w, arrays, now):
        mu, mu_next = (
            now.momentum * (1 - 0.5 * jnp.power(0.96, t * momentum_decay))
            for t in (now.t, now.t + 1)
        )
        product = arrays["mu_product"] * mu
        m = lerp(arrays["exp_avg"], g, 1 - now.momentum)
        v = lerp(arrays["exp_avg_sq"], g * g, 1 - beta2)
        scale = jnp.sqrt(v / bias_correction(beta2, now.t)) + eps
        ahead = (1 - mu) / (1 - product) * g + mu_next / (1 - product * mu_next) * m
        new = {"exp_avg": m, "exp_avg_sq": v, "mu_product": product}
        return -now.lr * (ahead / scale), new

    slots = {
        "exp_avg": zeros,
        "exp_avg_sq": zeros,
        "mu_product": lambda w, lr: jnp.ones((), w.dtype),
    }
    return elementwise(
        "nadam",
        learning_rate,
        slots,
        rule,
        momentum=betas[0],
        weight_decay=weight_decay,
        decoupled=decoupled_weight_decay,
        maximize=maximize,
    )


def radam(
    learning_rate: Value = 1e-3,
    *,
    betas: tuple[Value, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    decoupled_weight_decay: bool = False,
    maximize: bool = False,
) -> optax.GradientTransformation:
    """Build `torch.optim.RAdam`: Adam's step times a rectification r_t, SGD's while there is none.

    w -= lr m / (1 - b1^t) (r_t sqrt(1 - b2^t) / (sqrt(v) + eps), or 1 while rho_t <= 5):
    eps is added before the correction, and the threshold itself is not rectified (`optax.radam`
    does both otherwise).

    Args:
        learning_rate: a number >= 0 or a schedule.
        betas: decays of the moments m and v, in [0, 1); the first may be a schedule.
        eps: >= 0.
        weight_decay: >= 0.
        decoupled_weight_decay: take lr weight_decay w from w instead of adding weight_decay w to
            the gradient.
        maximize: step along the gradient.

    Raises:
        ValueError: betas outside [0, 1), a negative eps or weight decay.
    """
    check_betas("radam", betas)
    check_not_negative("radam", eps=eps, weight_decay=weight_decay)
    beta2 = betas[1]
    most = 2 / (1 - beta2) - 1  # rho_t grows towards it

    def rectified(v, t):
        rho = _averaged_steps(beta2, t)
        above = jnp.maximum(rho, 5)  # no root of a negative number in the branch not taken
        ratio = (above - 4) * (above - 2) * most / ((most - 4) * (most - 2) * above)
        factor = jnp.sqrt(ratio * bias_correction(beta2, t)) / (jnp.sqrt(v) + eps)
        return jnp.where(rho > 5, factor, 1)

    def rule(g, w, arrays, now):
        m = lerp(arrays["exp_avg"], g, 1 - now.momentum)
        v = lerp(arrays["exp_avg_sq"], g * g, 1 - beta2)
        delta = -now.lr / bias_correction(now.momentum, now.t) * m
        if most > 5:
            delta = delta * rectified(v, now.t)
        return delta, {"exp_avg": m, "exp_avg_sq": v}

    return elementwise(
        "radam",
        learning_rate,
        {"exp_avg": zeros, "exp_avg_sq": zeros},
        rule,
        momentum=betas[0],
        weight_decay=weight_decay,
        decoupled=decoupled_weight_decay,
        maximize=maximize,
    )


def _averaged_steps(beta: float, t: jax.Array) -> jax.Array:
    """Return rho_t = 2 / (1 - beta) - 1 - 2 t beta^t / (1 - beta^t) for a beta in (0, 1).

    The terms, 1999 and 1993 for 0.999 and t = 6, nearly cancel: in float32 the formula loses four
    digits. For small x = -t log(beta) their difference is therefore taken from the series
    x / (e^x - 1) = 1 - x / 2 + x^2 / 12 - x^4 / 720 + x^6 / 30240 - x^8 / 1209600 + ...
    """
    rate = -math.log(beta)
    most = 2 / (1 - beta) - 1
    x = rate * t
    y = x * x
    series = y * (1 / 12 + y * (-1 / 720 + y * (1 / 30240 + y * (-1 / 1209600 + y / 47900160))))
    near = (most - 2 / rate) + (t - 2 / rate * series)
    return jnp.where(x < 0.25, near, most - 2 * t / jnp.expm1(x))
