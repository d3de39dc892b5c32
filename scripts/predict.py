"""Name what is on images, with a trained run.

    python scripts/predict.py RUN IMAGE...

Prints for every image the most probable classes with their probabilities.
"""

from pathlib import Path
from typing import Annotated, Literal

import jax
import numpy as np
import tyro
from _cli import run

from jaxcnn import runs
from jaxcnn.data import read_image


def main(
    workdir: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")],
    images: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="IMAGE...")],
    /,
    top: int = 3,
    checkpoint: Literal["best", "latest"] = "best",
    batch_size: int = 64,
) -> None:
    """Name what is on images.

    Args:
        workdir: the run folder.
        images: image files that Pillow reads; resized and cropped to the network's input.
        top: classes to print for each image.
        checkpoint: which of the run's checkpoints.
        batch_size: images a step.
    """
    if not images:
        raise ValueError("name at least one image file")
    for name, value in {"--top": top, "--batch-size": batch_size}.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    trained = runs.load(workdir, checkpoint)
    for start in range(0, len(images), batch_size):
        paths = images[start : start + batch_size]
        # Filled up to one size, so that the network is compiled once.
        pixels = np.zeros((min(batch_size, len(images)), *trained.run.input_shape), np.uint8)
        for i, path in enumerate(paths):
            pixels[i] = read_image(path, trained.run.input_shape)
        batch = {"images": pixels, "labels": np.zeros(len(pixels), np.int32)}
        probabilities = jax.device_get(trained.run.eval_step(trained.state, batch))["probabilities"]
        for path, row in zip(paths, probabilities[: len(paths)], strict=True):
            best = np.argsort(-row, kind="stable")[:top]
            named = ", ".join(f"{trained.class_names[k]} {100 * row[k]:.1f} %" for k in best)
            print(f"{path}: {named}")


if __name__ == "__main__":
    run(main)
