"""Adam, with coupled and decoupled weight decay, and its forms for the maximum and for sparse rows.

Kingma and Ba 2015, arXiv:1412.6980; decoupled weight decay: Loshchilov and Hutter 2019,
arXiv:1711.05101; AMSGrad: Reddi et al. 2018.
"""

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


def adam(
    learning_rate: Value = 1e-3,
    *,
    betas: tuple[Value, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    amsgrad: bool = False,
    maximize: bool = False,
    decoupled_weight_decay: bool = False,
) -> optax.GradientTransformation:
    """Build `torch.optim.Adam`: w -= lr / (1 - b1^t) m / (sqrt(v / (1 - b2^t)) + eps).

    Args:
        learning_rate: a number >= 0 or a schedule.
        betas: decays of the moments m and v, in [0, 1); the first may be a schedule.
        eps: >= 0, added outside the root, after the correction of v.
        weight_decay: >= 0.
        amsgrad: take the largest v so far, before its correction (`optax.scale_by_amsgrad`
            corrects first).
        maximize: step along the gradient.
        decoupled_weight_decay: take lr weight_decay w from w instead of adding weight_decay w to
            the gradient.

    Raises:
        ValueError: betas outside [0, 1), a negative eps or weight decay.
    """
    return _adam(
        "adam",
        learning_rate,
        betas,
        eps,
        weight_decay,
        amsgrad,
        maximize,
        decoupled_weight_decay,
    )


def adamw(
    learning_rate: Value = 1e-3,
    *,
    betas: tuple[Value, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 1e-2,
    amsgrad: bool = False,
    maximize: bool = False,
) -> optax.GradientTransformation:
    """Build `torch.optim.AdamW`: `adam` with the weight decay decoupled.

    Args:
        learning_rate: a number >= 0 or a schedule; it multiplies the decay too.
        betas: decays of the moments, in [0, 1); the first may be a schedule.
        eps: >= 0.
        weight_decay: >= 0.
        amsgrad: take the largest second moment so far.
        maximize: step along the gradient; the decay still shrinks.

    Raises:
        ValueError: betas outside [0, 1), a negative eps or weight decay.
    """
    return _adam("adamw", learning_rate, betas, eps, weight_decay, amsgrad, maximize, True)


def _adam(
    name: str,
    learning_rate: Value,
    betas: tuple[Value, float],
    eps: float,
    weight_decay: float,
    amsgrad: bool,
    maximize: bool,
    decoupled: bool,
) -> optax.GradientTransformation:
    check_betas(name, betas)
    check_not_negative(name, eps=eps, weight_decay=weight_decay)
    beta2 = betas[1]

    def rule(g, w, arrays, now):
        m = lerp(arrays["exp_avg"], g, 1 - now.momentum)
        v = lerp(arrays["exp_avg_sq"], g * g, 1 - beta2)
        new = {"exp_avg": m, "exp_avg_sq": v}
        if amsgrad:
            v = new["max_exp_avg_sq"] = jnp.maximum(arrays["max_exp_avg_sq"], v)
        scale = jnp.sqrt(v) / jnp.sqrt(bias_correction(beta2, now.t)) + eps
        return -now.lr / bias_correction(now.momentum, now.t) * (m / scale), new

    slots = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")[: 3 if amsgrad else 2]
    options = {"weight_decay": weight_decay, "decoupled": decoupled, "maximize": maximize}
    return elementwise(
        name,
        learning_rate,
        dict.fromkeys(slots, zeros),
        rule,
        momentum=betas[0],
        own=("adam", {"beta2": beta2, "eps": eps, **options}),
        **options,
    )


def adamax(
    learning_rate: Value = 2e-3,
    *,
    betas: tuple[Value, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    maximize: bool = False,
) -> optax.GradientTransformation:
    """Build `torch.optim.Adamax`: u = max(b2 u, |g| + eps); w -= lr / (1 - b1^t) m / u.

    Args:
        learning_rate: a number >= 0 or a schedule.
        betas: decays of the mean m and the maximum u, in [0, 1); the first may be a schedule.
        eps: >= 0, added to the gradient's absolute value.
        weight_decay: >= 0, coupled.
        maximize: step along the gradient.

    Raises:
        ValueError: betas outside [0, 1), a negative eps or weight decay.
    """
    check_betas("adamax", betas)
    check_not_negative("adamax", eps=eps, weight_decay=weight_decay)

    def rule(g, w, arrays, now):
        m = lerp(arrays["exp_avg"], g, 1 - now.momentum)
        u = jnp.maximum(betas[1] * arrays["exp_inf"], jnp.abs(g) + eps)
        step = -now.lr / bias_correction(now.momentum, now.t)
        return step * (m / u), {"exp_avg": m, "exp_inf": u}

    return elementwise(
        "adamax",
        learning_rate,
        {"exp_avg": zeros, "exp_inf": zeros},
        rule,
        momentum=betas[0],
        weight_decay=weight_decay,
        maximize=maximize,
    )


def sparse_adam(
    learning_rate: Value = 1e-3,
    *,
    betas: tuple[Value, float] = (0.9, 0.999),
    eps: float = 1e-8,
    maximize: bool = False,
) -> optax.GradientTransformation:
    """Build `torch.optim.SparseAdam`: Adam on the rows that have a gradient.

    PyTorch takes sparse gradients, as an embedding's, and leaves the rows without one, their
    moments too, as they are. A gradient here is dense: a row that is 0 in all of g[i] counts as
    absent (in a vector every element is a row). The step counts all the same.
    eps is added to sqrt(v) before the correction: w -= lr sqrt(1 - b2^t) / (1 - b1^t) m /
    (sqrt(v) + eps).

    Args:
        learning_rate: a number > 0 or a schedule.
        betas: decays of the moments m and v, in [0, 1); the first may be a schedule.
        eps: > 0.
        maximize: step along the gradient.

    Raises:
        ValueError: betas outside [0, 1), an eps or a learning rate that is not above 0.
    """
    check_betas("sparse_adam", betas)
    for argument, value in {"learning_rate": learning_rate, "eps": eps}.items():
        if not callable(value) and not value > 0:
            raise ValueError(f"sparse_adam: {argument} must be > 0, got {value}")
    beta2 = betas[1]

    def rule(g, w, arrays, now):
        present = jnp.any(g != 0, axis=tuple(range(1, g.ndim)), keepdims=True)
        m = jnp.where(present, lerp(arrays["exp_avg"], g, 1 - now.momentum), arrays["exp_avg"])
        old = arrays["exp_avg_sq"]
        v = jnp.where(present, lerp(old, g * g, 1 - beta2), old)
        root = jnp.sqrt(bias_correction(beta2, now.t))
        step = -now.lr * root / bias_correction(now.momentum, now.t)
        delta = jnp.where(present, step * (m / (jnp.sqrt(v) + eps)), 0)
        return delta, {"exp_avg": m, "exp_avg_sq": v}

    return elementwise(
        "sparse_adam",
        learning_rate,
        {"exp_avg": zeros, "exp_avg_sq": zeros},
        rule,
        momentum=betas[0],
        maximize=maximize,
    )
