"""Documented training runs by name, and their data.

A recipe is a `Settings`; every field can be overridden from the command line, and all of them are
written into the run's `config.json`. Documented results are in the recipes' descriptions; what was
measured is in the README.
"""

from pathlib import Path

from jaxcnn import data
from jaxcnn.assembly import input_shape
from jaxcnn.data.dataset import divide
from jaxcnn.settings import Settings

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
    "digits-overfit": (
        "mlp_mnist on 100 handwritten digits, which it learns by heart; see what augmentation, "
        "dropout or weight decay change",
        Settings("mlp_mnist", "digits", 100, 20, 0.01, momentum=0.9, examples=100),
    ),
    "cifar10-overfit": (
        "alexnet_cifar on 1,000 images of CIFAR-10, which it learns by heart",
        Settings("alexnet_cifar", "cifar10", 60, 50, 0.01, momentum=0.9, examples=1000),
    ),
    # Keller Jordan, 2024, arXiv:2404.00498 (airbench94). There the sum of the losses is minimised,
    # with the learning rate 11.5 and the weight decay 0.0153 of 1,024 examples, both free of the
    # momentum's 1 + 1 / (1 - 0.85) = 23 / 3 steps a gradient: of the mean, 11.5 / (23 / 3) = 1.5
    # and, for PyTorch's SGD, 0.0153 / 11.5. The decay of the slow weights is 0.95^5, cubed in time.
    # An epoch more than there (9.9), for images are mirrored at random, not in turns.
    "cifar10-94": (
        "airbench94 on CIFAR-10, as its speed records are made; documented: 94 % after 9.9 epochs",
        Settings(
            "airbench94",
            "cifar10",
            11,
            1024,
            1.5,
            momentum=0.85,
            nesterov=True,
            weight_decay=0.0153 / 11.5,
            lr_factors=r".*norm\d\.bias=64",
            lookahead="every=5, decay=0.774, power=3, epochs=11",
            schedule="one_cycle",
            schedule_args="epochs=11, pct_start=0.23, anneal_strategy='linear', div_factor=5, "
            "final_div_factor=2.857, cycle_momentum=False",
            drop_last=True,
            normalization="dataset",
            whiten="whiten",
            freeze=r"whiten\.kernel|.*norm\d\.scale",
            freeze_later=r"whiten\.bias",
            freeze_at=3,
            augment="random_horizontal_flip, random_crop(padding=2, padding_mode='reflect')",
            label_smoothing=0.2,
            views="mirrored and shifted",
        ),
    ),
    "cats-dogs": (
        "resnet18 on cats and dogs, to be started from ImageNet's weights with --init; documented: "
        "87 % after 25 epochs",
        Settings(
            "resnet18",
            "cats_vs_dogs",
            25,
            32,
            0.001,
            momentum=0.9,
            schedule="step",
            gamma=0.1,
            schedule_args="step_size=7",
            normalization="imagenet",
            stored_size=256,
            augment="random_resized_crop, random_horizontal_flip",
        ),
    ),
    # Documented with TensorFlow's resize_with_pad, which keeps the aspect ratio and pads with
    # zeros: for MNIST's square images it pads nothing and is the plain bilinear resize.
    "mnist-resnet18-keras": (
        "resnet18_keras on MNIST at 224x224 (resize_with_pad, which pads no square image), "
        "20 % of the training set held out; 3 epochs",
        Settings("resnet18_keras", "mnist", 3, 128, 0.01, validation=0.2),
    ),
}


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
        stored_shape(settings),
        seed=settings.split_seed,
        holdout=settings.holdout,
        cache_dir=cache_dir,
        stream=settings.stream,
        skip_corrupt=settings.skip_corrupt,
        tfds_dir=tfds_dir,
    )
    _check_stored(settings, dataset)
    return divide(
        dataset,
        seed=settings.split_seed,
        validation=settings.validation,
        examples=settings.examples,
    )


def stored_shape(settings: Settings) -> tuple[int, int, int]:
    """Return what image files are decoded to, (height, width, channels): the input, or more.

    Raises:
        ValueError: a stored size smaller than the network's input.
    """
    height, width, channels = input_shape(settings)
    size = settings.stored_size
    if size is None:
        return height, width, channels
    if size < max(height, width):
        raise ValueError(
            f"stored_size={size}: expected at least the network's input, {height}x{width}"
        )
    return size, size, channels


def _check_stored(settings: Settings, dataset: data.Dataset) -> None:
    """Raise a ValueError where a stored size is asked of data that have a size of their own."""
    train = dataset.train
    if settings.stored_size is None or not isinstance(train, data.Arrays):
        return
    if train.images.shape[1:] != stored_shape(settings):
        height, width = train.images.shape[1:3]
        raise ValueError(
            f"stored_size={settings.stored_size}: the images of {settings.data} have a size of "
            f"their own, {height}x{width}; expected None"
        )
