"""Optimizers by name: the table that settings and scripts choose from."""

from collections.abc import Callable

import optax

from jaxcnn import named
from jaxcnn.optim.adam_family import adam, adamax, adamw, sparse_adam
from jaxcnn.optim.adaptive import adadelta, adagrad, rmsprop
from jaxcnn.optim.corrected_adam import nadam, radam
from jaxcnn.optim.descent import asgd, sgd
from jaxcnn.optim.on_plateau import on_plateau
from jaxcnn.optim.resilient import rprop
from jaxcnn.optim.transform import Value
from jaxcnn.schedules import Plateau

OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {
    "adadelta": adadelta,
    "adagrad": adagrad,
    "adam": adam,
    "adamax": adamax,
    "adamw": adamw,
    "asgd": asgd,
    "nadam": nadam,
    "radam": radam,
    "rmsprop": rmsprop,
    "rprop": rprop,
    "sgd": sgd,
    "sparse_adam": sparse_adam,
}


def create(name: str, learning_rate: Value | Plateau, **arguments) -> optax.GradientTransformation:
    """Build an optimizer by name.

    Args:
        name: a key of `OPTIMIZERS`.
        learning_rate: a number >= 0, or a schedule from `jaxcnn.schedules`. A `Plateau` is one
            whose learning rate is part of the optimizer's state; `observe` hands it the metric.
        **arguments: the optimizer's own, by PyTorch's names.

    Raises:
        ValueError: unknown name, an argument that the optimizer does not take, or a bad value.
    """
    if isinstance(learning_rate, Plateau):
        return on_plateau(learning_rate, lambda rate: create(name, rate, **arguments))
    if not callable(learning_rate) and not learning_rate >= 0:
        raise ValueError(f"learning_rate must be >= 0, got {learning_rate}")
    return named.build("optimizer", OPTIMIZERS, name, learning_rate, **arguments)
