"""Name what is on images, with a trained run or with weights that others trained.

    python scripts/predict.py RUN IMAGE...
    python scripts/predict.py WEIGHTS IMAGE...
    python scripts/predict.py RUN FOLDER --recursive --skip-corrupt --csv predictions.csv

WEIGHTS is a .pth, .pt, .safetensors or .npz file under PyTorch's keys, as torchvision's; a folder
in place of an image stands for all images in it. Prints for every image the most probable classes
with their probabilities; --csv writes the same as a table, whole or not at all.
"""

import csv
import io
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import _weights
import jax
import jax.numpy as jnp
import numpy as np
import tyro
from _cli import run

from jaxcnn import imagenet, models, runs
from jaxcnn.data import DataError, read_image
from jaxcnn.data.folder import image_parts, walk
from jaxcnn.files import write_atomically
from jaxcnn.recipes import stored_shape


class Classifier(NamedTuple):
    """What a run or a weights file says about images."""

    image_shape: tuple[int, int, int]
    crop: float
    class_names: tuple[str, ...]
    predict: Callable[[np.ndarray], jax.Array]  # (B, H, W, C) uint8 -> (B, num_classes)


def main(
    source: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN|WEIGHTS")],
    images: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="IMAGE...")],
    /,
    top: int | None = None,
    batch_size: int = 64,
    checkpoint: Literal["best", "latest"] | None = None,
    network: str | None = None,
    classes: Path | None = None,
    normalization: Literal["imagenet", "symmetric", "none"] | None = None,
    crop: float | None = None,
    csv_file: Annotated[Path | None, tyro.conf.arg(name="csv")] = None,
    recursive: bool = False,
    skip_corrupt: bool = False,
) -> None:
    """Name what is on images.

    Args:
        source: a run folder, or a file of weights under PyTorch's keys.
        images: image files that Pillow reads, or folders of them; resized and cropped to the
            network's input.
        top: classes to print for each image; by default 3 of a run's, 5 of a weights file's.
        batch_size: images a step.
        checkpoint: which of a run's checkpoints; best by default.
        network: a weights file's network; found from its keys by default.
        classes: a file of a weights file's class names, one a line; by default ImageNet's 1,000,
            and numbers for another number of classes.
        normalization: what a weights file was trained with; by default imagenet for torchvision's
            networks, symmetric for the others and, if asked for, for torchvision's own googlenet
            weights (its transform_input).
        crop: share of the shorter side that is looked at, of a weights file; by default 0.875 for
            torchvision's networks, 1 for the others.
        csv_file: file to write: a line for each image with its path, then the most probable class
            and its probability, the second one, ...
        recursive: look for images in the folders of a folder too.
        skip_corrupt: leave out damaged images and name them on standard error, instead of ending
            with an error at the first.
    """
    if not images:
        raise ValueError("name at least one image file")
    is_run = source.is_dir() or not (source.is_file() or source.suffix in _weights.SUFFIXES)
    top = (3 if is_run else 5) if top is None else top
    for option, value in {"--top": top, "--batch-size": batch_size}.items():
        if value < 1:
            raise ValueError(f"{option} must be at least 1, got {value}")
    if csv_file is not None and csv_file.is_dir():
        raise ValueError(f"--csv {csv_file} is a folder, expected a file to write")
    of_weights = {
        "network": network,
        "classes": classes,
        "normalization": normalization,
        "crop": crop,
    }
    foreign = of_weights if is_run else {"checkpoint": checkpoint}
    if given := ", ".join(f"--{key}" for key, value in foreign.items() if value is not None):
        kind = "run folder" if is_run else "weights file"
        raise ValueError(f"{source} is a {kind}, which takes no {given}")
    classifier = of_run(source, checkpoint or "best") if is_run else of_file(source, **of_weights)
    paths = list_images(images, recursive=recursive)
    decoded = read_images(paths, classifier, skip_corrupt=skip_corrupt)
    top = min(top, len(classifier.class_names))
    rows = []
    while batch := list(islice(decoded, batch_size)):
        # Filled up to one size, so that the network is compiled once.
        pixels = np.zeros((min(batch_size, len(paths)), *classifier.image_shape), np.uint8)
        pixels[: len(batch)] = [image for _, image in batch]
        probabilities = jax.device_get(classifier.predict(pixels))[: len(batch)]
        for (path, _), row in zip(batch, probabilities, strict=True):
            best = np.argsort(-row, kind="stable")[:top]
            named = [(classifier.class_names[k], row[k]) for k in best]
            print(f"{path}: {', '.join(f'{name} {100 * p:.1f} %' for name, p in named)}")
            rows.append([str(path), *(cell for name, p in named for cell in (name, str(p)))])
    if not rows:
        raise ValueError(f"none of the {len(paths)} images can be read")
    if csv_file is not None:
        write_csv(csv_file, rows, top)


def list_images(paths: Sequence[Path], *, recursive: bool = False) -> list[Path]:
    """Return the images at the paths, of a folder all in it, sorted by name, without hidden ones.

    Args:
        paths: files and folders.
        recursive: take the images in folders of a folder too.

    Raises:
        FileNotFoundError: no such path.
        ValueError: a folder without images.
    """
    found = []
    for path in paths:
        if path.is_dir():
            inside = walk(path)[0] if recursive else [f.name for f in path.iterdir() if f.is_file()]
            found += [path.joinpath(*parts) for parts in image_parts(str(path), inside)]
        elif path.exists():
            found.append(path)
        else:
            raise FileNotFoundError(f"{path}: no such file")
    return found


def read_images(
    paths: Sequence[Path], classifier: Classifier, *, skip_corrupt: bool
) -> Iterator[tuple[Path, np.ndarray]]:
    """Yield the paths with their images as the classifier wants them, (H, W, C) uint8.

    Raises:
        DataError: a damaged image, unless these are left out and named on standard error.
    """
    for path in paths:
        try:
            yield path, read_image(path, classifier.image_shape, crop=classifier.crop)
        except DataError as error:
            if not skip_corrupt:
                raise
            print(f"left out: {error}", file=sys.stderr)


def write_csv(path: Path, rows: Sequence[Sequence[str]], top: int) -> None:
    """Write image, class and probability, class_2, probability_2, ... `class_top` as RFC 4180.

    In UTF-8, with a heading, lines ended by CR LF; the file is whole or not there.
    """
    ranks = ["", *(f"_{rank}" for rank in range(2, top + 1))]
    heading = ["image", *(f"{name}{rank}" for rank in ranks for name in ("class", "probability"))]
    text = io.StringIO(newline="")
    csv.writer(text).writerows([heading, *rows])
    write_atomically(path, text.getvalue().encode())


def of_run(workdir: Path, checkpoint: str) -> Classifier:
    """Load a run's classifier, see `runs.load`."""
    trained = runs.load(workdir, checkpoint)

    def predict(pixels: np.ndarray) -> jax.Array:
        batch = {"images": pixels, "labels": np.zeros(len(pixels), np.int32)}
        return trained.run.eval_step(trained.state, batch)["probabilities"]

    # What was stored larger than the network's input is cropped to its centre by the step.
    return Classifier(stored_shape(trained.settings), 1.0, trained.class_names, predict)


def of_file(
    path: Path,
    *,
    network: str | None,
    classes: Path | None,
    normalization: str | None,
    crop: float | None,
) -> Classifier:
    """Load a weights file's classifier; None is what `main` documents as default.

    Raises:
        ValueError: weights that do not fit, or as many class names as there are not classes.
    """
    name, _, model, variables = _weights.load(path, network)
    preprocess = _weights.make_preprocess(name, normalization)
    variables = jax.tree.map(
        lambda leaf: leaf.astype(jnp.float32) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf,
        variables,
    )

    @jax.jit
    def predict(variables: dict, pixels: jax.Array) -> jax.Array:
        return jax.nn.softmax(model.apply(variables, preprocess(pixels), train=False))

    return Classifier(
        models.input_shape(name),
        (0.875 if _weights.for_imagenet(name) else 1.0) if crop is None else crop,
        read_class_names(classes, model.num_classes),
        lambda pixels: predict(variables, pixels),
    )


def read_class_names(path: Path | None, num_classes: int) -> tuple[str, ...]:
    """Return a file's class names, one a line, or the default ones where `path` is None.

    Raises:
        OSError: no such file.
        ValueError: not `num_classes` names.
    """
    if path is not None:
        names = tuple(path.read_text(encoding="utf-8").splitlines())
        if len(names) != num_classes or not all(name.strip() for name in names):
            raise ValueError(f"{path}: expected {num_classes} names, one a line, got {len(names)}")
        return names
    if num_classes == len(imagenet.class_names()):
        return imagenet.class_names()
    return tuple(map(str, range(num_classes)))


if __name__ == "__main__":
    run(main)
