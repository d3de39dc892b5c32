"""Optimizers by `torch.optim`'s names, arguments and step-by-step values (PyTorch 2.13), on Optax.

An optimizer is a function of this module's table: `(learning_rate, **arguments)` ->
`optax.GradientTransformation`; its arguments are PyTorch's.
"""

from collections.abc import Callable

import optax

from jaxcnn import named


def sgd(
    learning_rate: float | optax.Schedule,
    *,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    nesterov: bool = False,
) -> optax.GradientTransformation:
    """Build `torch.optim.SGD`: g += wd w; b = momentum b + g; w -= lr b (nesterov: g + momentum b).

    The weight decay is coupled: it is added before the momentum, as PyTorch does and
    `optax.sgd` leaves to the caller; the first buffer is the first gradient; the learning rate
    multiplies outside the buffer.

    Raises:
        ValueError: a negative momentum or weight decay, or nesterov without momentum.
    """
    if momentum < 0 or weight_decay < 0:
        raise ValueError(
            f"sgd: momentum and weight_decay must be >= 0, got {momentum} and {weight_decay}"
        )
    if nesterov and momentum == 0:
        raise ValueError("sgd: nesterov needs a momentum above 0, got 0")
    return optax.chain(
        optax.add_decayed_weights(weight_decay) if weight_decay else optax.identity(),
        optax.trace(momentum, nesterov) if momentum else optax.identity(),
        optax.scale_by_learning_rate(learning_rate),
    )


OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {"sgd": sgd}


def create(
    name: str, learning_rate: float | optax.Schedule, **arguments
) -> optax.GradientTransformation:
    """Build an optimizer by name.

    Args:
        name: a key of `OPTIMIZERS`.
        learning_rate: a number >= 0, or a schedule from `jaxcnn.schedules`.
        **arguments: the optimizer's own, by PyTorch's names.

    Raises:
        ValueError: unknown name, an argument that the optimizer does not take, or a bad value.
    """
    if not callable(learning_rate) and learning_rate < 0:
        raise ValueError(f"learning_rate must be >= 0, got {learning_rate}")
    return named.build("optimizer", OPTIMIZERS, name, learning_rate, **arguments)
