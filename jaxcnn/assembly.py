"""How settings become a network, an optimizer and jitted steps."""

import math
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxcnn import augment, data, models, transfer, whitening
from jaxcnn.features import HeadModel
from jaxcnn.losses import cross_entropy, l1_penalty, l2_penalty
from jaxcnn.optimization import make_optimizer, make_schedule
from jaxcnn.parameters import by_path
from jaxcnn.schedules import Plateau
from jaxcnn.settings import Settings
from jaxcnn.train import make_eval_step, make_train_step
from jaxcnn.views import VIEWS

Pixels = Sequence[Sequence[float]]
"""Mean and deviation of every channel, of pixels in [0, 1]."""


@dataclass(frozen=True)
class Run:
    """What settings become: a network, its optimizer and its jitted steps.

    Attributes:
        preprocess: stored or augmented images -> what the network sees.
        pixels: what `build` was given.
        later: (epochs, step): the step that trains after so many epochs, where other layers are
            frozen then; None without.
        on_features: the train and the evaluation step on cached features in place of images.
    """

    model: Any
    tx: optax.GradientTransformation
    schedule: optax.Schedule | Plateau
    input_shape: tuple[int, int, int]
    preprocess: Callable[[jax.Array], jax.Array]
    pixels: Pixels | None
    train_step: Callable
    eval_step: Callable
    later: tuple[int, Callable] | None = None
    on_features: tuple[Callable, Callable] | None = None


def build(
    settings: Settings,
    *,
    num_classes: int,
    steps_per_epoch: int = 1,
    pixels: Pixels | None = None,
) -> Run:
    """Build the network, the optimizer and the steps that settings describe.

    Args:
        settings: a recipe's, possibly overridden.
        num_classes: classes of the data.
        steps_per_epoch: optimizer steps an epoch, for schedules that move on once an epoch.
        pixels: mean and deviation of the data's channels, in [0, 1]; wanted with the normalization
            "dataset" only.

    Raises:
        ValueError: an unknown name, a bad value, settings that do not go together, or an argument
            that the optimizer or the schedule does not take.
    """
    # Of two learning rates the last layer's is shown: it is trained whatever is frozen.
    rate = settings.learning_rate if settings.lr_head is None else settings.lr_head
    schedule = make_schedule(replace(settings, learning_rate=rate), steps_per_epoch)
    model = _create(settings, num_classes)
    shape = input_shape(settings)
    _check_size(model, shape, settings)
    params = _parameters(model, shape)
    names = tuple(by_path(params))
    _check_start(settings, params)
    preprocess = data.make_preprocess(
        shape,
        normalization=_normalization(settings, pixels),
        center_crop=settings.stored_size is not None,
    )
    train = {
        "loss": partial(cross_entropy, label_smoothing=_share("label_smoothing", settings)),
        "penalty": make_penalty(settings, names),
        "precision": settings.precision,
        "norm_parts": _norm_parts(settings),
    }
    images = {"preprocess": preprocess, "augment": augment.create(settings.augment, shape)}

    def optimizer(later: bool) -> optax.GradientTransformation:
        parts = transfer.parts(settings, names, steps_per_epoch, later=later)
        return make_optimizer(settings, steps_per_epoch, parts, names)

    def step(tx: optax.GradientTransformation, later: bool) -> Callable:
        pattern = transfer.frozen_pattern(settings, names, later=later)
        if pattern is None:
            return make_train_step(model, tx, **train, **images)
        frozen = transfer.selector(pattern)
        kept = transfer.FrozenNorms(model, frozen) if settings.freeze_norms else model
        return make_train_step(kept, tx, **train, **images, frozen=frozen)

    tx, later, on_features = optimizer(False), None, None
    change = settings.freeze_at if settings.unfreeze_at is None else settings.unfreeze_at
    if change is not None:
        later = change, step(optimizer(True), later=True)
    if settings.cache_features:
        head = HeadModel(model, transfer.heads(settings.network)[-1], shape)
        frozen = transfer.selector(transfer.frozen_pattern(settings, names) or "")
        on_features = (
            make_train_step(head, tx, **train, frozen=frozen),
            make_eval_step(head, precision=settings.precision),
        )
    return Run(
        model=model,
        tx=tx,
        schedule=schedule,
        input_shape=shape,
        preprocess=preprocess,
        pixels=pixels,
        train_step=step(tx, later=False),
        eval_step=make_eval_step(
            model,
            preprocess=preprocess,
            precision=settings.precision,
            views=VIEWS[settings.views],
        ),
        later=later,
        on_features=on_features,
    )


def _create(settings: Settings, num_classes: int) -> Any:
    """Build the network with the options that settings give, which not every network has."""
    options = {}
    for setting, value in settings.given("attention", "dropout", "dropout2d").items():
        fields = (setting, "drop_rate") if setting == "dropout" else (setting,)
        able = {
            name: field
            for name in models.names()
            for field in fields
            if hasattr(models.create(name), field)
        }
        if settings.network not in able:
            raise ValueError(
                f"{setting}={value!r}: {settings.network} has no place for it; "
                f"{', '.join(able)} have"
            )
        options[able[settings.network]] = value
    return models.create(settings.network, num_classes=num_classes, **options)


def _normalization(
    settings: Settings, pixels: Pixels | None
) -> str | tuple[tuple[float, ...], tuple[float, ...]]:
    if settings.normalization != "dataset":
        return settings.normalization
    if pixels is None:
        raise ValueError("normalization='dataset': expected pixels, the data's mean and deviation")
    mean, std = pixels
    return tuple(mean), tuple(std)


def make_penalty(settings: Settings, names: Collection[str]) -> Callable[[Any], jax.Array] | None:
    """Return the L1 and L2 penalties that settings ask for, params -> (); None for none.

    Args:
        settings: of a run.
        names: the paths of all parameters.

    Raises:
        ValueError: a factor below 0, or a pattern that is bad or chooses nothing.
    """
    factors = settings.given("l1", "l2")
    for name, factor in factors.items():
        if not 0 <= factor < math.inf:
            raise ValueError(f"{name} must be finite and at least 0, got {factor}")
    if not factors:
        if settings.given("penalized"):
            raise ValueError(f"penalized={settings.penalized!r}: expected l1 or l2 with it")
        return None
    try:
        chosen = any(re.search(settings.penalized, name) for name in names)
    except re.error as error:
        raise ValueError(f"penalized={settings.penalized!r}: {error}") from error
    if not chosen:
        raise ValueError(f"penalized={settings.penalized!r} matches none of {', '.join(names)}")
    penalties = {"l1": l1_penalty, "l2": l2_penalty}

    def penalty(params: Any) -> jax.Array:
        terms = [f * penalties[name](params, settings.penalized) for name, f in factors.items()]
        return jnp.sum(jnp.stack(terms))

    return penalty


def _check_start(settings: Settings, params: Any) -> None:
    """Raise a ValueError where whitening or views do not go with the network or other settings."""
    if settings.views not in VIEWS:
        raise ValueError(f"views must be one of {', '.join(VIEWS)}, got {settings.views!r}")
    if settings.cache_features and settings.given("views"):
        raise ValueError(f"views={settings.views!r}: cached features are those of one view")
    if settings.whiten:
        whitening.check_layer(by_path(params), settings.whiten)
        if settings.init is not None:
            raise ValueError(f"whiten={settings.whiten!r}: the weights are those of init; not both")


def _norm_parts(settings: Settings) -> int:
    parts, batch = settings.norm_parts, settings.batch_size
    if parts < 1 or batch % parts:
        raise ValueError(f"norm_parts={parts}: expected a divisor of batch_size={batch}")
    return parts


def _share(name: str, settings: Settings) -> float:
    value = getattr(settings, name)
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must be in [0, 1], got {value}")
    return value


def _parameters(model: Any, shape: tuple[int, int, int]) -> Any:
    images = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    init = partial(model.init, train=False)
    return jax.eval_shape(init, jax.random.key(0), images)["params"]


def input_shape(settings: Settings) -> tuple[int, int, int]:
    """Return the size of what the network sees: (height, width, channels)."""
    height, width, channels = models.input_shape(settings.network)
    if settings.image_size is None:
        return height, width, channels
    if settings.image_size < 1:
        raise ValueError(f"image_size must be at least 1, got {settings.image_size}")
    return settings.image_size, settings.image_size, channels


def _check_size(model: Any, shape: tuple[int, int, int], settings: Settings) -> None:
    """Raise a ValueError unless images of the size give the parameters of the documented one."""

    def shapes(size: tuple[int, int, int]) -> Any:
        return jax.tree.map(jnp.shape, _parameters(model, size))

    documented = models.input_shape(settings.network)
    if shape != documented and shapes(shape) != shapes(documented):
        raise ValueError(
            f"image_size={settings.image_size}: {settings.network} is a network for "
            f"{documented[0]}x{documented[1]} images; another size gives it other parameters"
        )
