"""Documented training runs by name; how settings become data, a network, an optimizer and steps.

A recipe is a `Settings`; every field can be overridden from the command line, and all of them are
written into the run's `config.json`. Documented results are in the recipes' descriptions; what was
measured is in the README.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxcnn import data, models
from jaxcnn.data.dataset import divide
from jaxcnn.optimization import make_optimizer, make_schedule
from jaxcnn.schedules import Plateau
from jaxcnn.settings import Settings
from jaxcnn.train import make_eval_step, make_train_step

RECIPES: dict[str, tuple[str, Settings]] = {
    "digits-cnn": (
        "cnn_mnist on scikit-learn's 1,797 handwritten digits; embedded, needs no download",
        Settings("cnn_mnist", "digits", 20, 64, 0.01, momentum=0.9),
    ),
    "mnist-mlp": (
        "mlp_mnist on MNIST",
        Settings("mlp_mnist", "mnist", 5, 100, 0.01, momentum=0.9),
    ),
    "mnist-cnn": (
        "cnn_mnist on MNIST; documented: 98 % after 5 epochs",
        Settings("cnn_mnist", "mnist", 5, 100, 0.01, momentum=0.9),
    ),
    "cifar10-alexnet": (
        "alexnet_cifar on CIFAR-10; documented: 71 % after 20 epochs",
        Settings("alexnet_cifar", "cifar10", 20, 64, 0.1),
    ),
    "cifar10-vgg": (
        "vgg_cifar on CIFAR-10; documented: 77 % after 20 epochs",
        Settings("vgg_cifar", "cifar10", 20, 64, 0.1),
    ),
    "cifar10-googlenet": (
        "googlenet_cifar on CIFAR-10 at 96x96; documented: about as the VGG after 20 epochs",
        Settings("googlenet_cifar", "cifar10", 20, 64, 0.01),
    ),
    "cifar10-resnet": (
        "resnet_cifar on CIFAR-10 at 96x96; documented: 80 % after 20 epochs",
        Settings("resnet_cifar", "cifar10", 20, 64, 0.01),
    ),
    "cifar10-densenet": (
        "densenet_cifar on CIFAR-10 at 96x96; documented: 83 % after 20 epochs",
        Settings("densenet_cifar", "cifar10", 20, 64, 0.01),
    ),
    # Documented with TensorFlow's resize_with_pad, which keeps the aspect ratio and pads with
    # zeros: for MNIST's square images it pads nothing and is the plain bilinear resize.
    "mnist-resnet18-keras": (
        "resnet18_keras on MNIST at 224x224 (resize_with_pad, which pads no square image), "
        "20 % of the training set held out; 3 epochs",
        Settings("resnet18_keras", "mnist", 3, 128, 0.01, validation=0.2),
    ),
}


@dataclass(frozen=True)
class Run:
    """What settings become: a network, its optimizer and its jitted steps."""

    model: Any
    tx: optax.GradientTransformation
    schedule: optax.Schedule | Plateau
    input_shape: tuple[int, int, int]
    train_step: Callable
    eval_step: Callable


def load_data(
    settings: Settings, *, cache_dir: Path | None = None, tfds_dir: Path | None = None
) -> data.Dataset:
    """Load the data that settings name, divided as they say.

    Args:
        settings: a recipe's, possibly overridden.
        cache_dir: where decoded images are kept; None is the user's cache folder.
        tfds_dir: TFDS's data folder; None is $TFDS_DATA_DIR or ~/tensorflow_datasets.

    Raises:
        ValueError: an unknown network or source, a bad value, or damaged data.
        FileNotFoundError: the data are not there.
        ImportError: a TFDS set without TensorFlow Datasets.
    """
    dataset = data.load(
        settings.data,
        _input_shape(settings),
        seed=settings.split_seed,
        holdout=settings.holdout,
        cache_dir=cache_dir,
        stream=settings.stream,
        tfds_dir=tfds_dir,
    )
    return divide(
        dataset,
        seed=settings.split_seed,
        validation=settings.validation,
        examples=settings.examples,
    )


def build(settings: Settings, *, num_classes: int, steps_per_epoch: int = 1) -> Run:
    """Build the network, the optimizer and the steps that settings describe.

    Args:
        settings: a recipe's, possibly overridden.
        num_classes: classes of the data.
        steps_per_epoch: optimizer steps an epoch, for schedules that move on once an epoch.

    Raises:
        ValueError: an unknown name, a bad value, or an argument that the optimizer or the schedule
            does not take.
    """
    schedule = make_schedule(settings, steps_per_epoch)
    tx = make_optimizer(settings, schedule)
    model = _create(settings, num_classes)
    input_shape = _input_shape(settings)
    _check_size(model, input_shape, settings)
    preprocess = data.make_preprocess(input_shape, normalization=settings.normalization)
    return Run(
        model=model,
        tx=tx,
        schedule=schedule,
        input_shape=input_shape,
        train_step=make_train_step(model, tx, preprocess=preprocess),
        eval_step=make_eval_step(model, preprocess=preprocess),
    )


def _create(settings: Settings, num_classes: int) -> Any:
    options = settings.given("attention")
    if options and not hasattr(models.create(settings.network), "attention"):
        able = [name for name in models.names() if hasattr(models.create(name), "attention")]
        raise ValueError(
            f"attention={settings.attention!r}: {settings.network} has no place for it; "
            f"{', '.join(able)} have"
        )
    return models.create(settings.network, num_classes=num_classes, **options)


def _input_shape(settings: Settings) -> tuple[int, int, int]:
    height, width, channels = models.input_shape(settings.network)
    if settings.image_size is None:
        return height, width, channels
    if settings.image_size < 1:
        raise ValueError(f"image_size must be at least 1, got {settings.image_size}")
    return settings.image_size, settings.image_size, channels


def _check_size(model: Any, input_shape: tuple[int, int, int], settings: Settings) -> None:
    """Raise a ValueError unless images of the size give the parameters of the documented one."""

    def parameters(shape: tuple[int, int, int]) -> Any:
        images = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
        init = partial(model.init, train=False)
        return jax.tree.map(jnp.shape, jax.eval_shape(init, jax.random.key(0), images))

    documented = models.input_shape(settings.network)
    if input_shape != documented and parameters(input_shape) != parameters(documented):
        raise ValueError(
            f"image_size={settings.image_size}: {settings.network} is a network for "
            f"{documented[0]}x{documented[1]} images; another size gives it other parameters"
        )
