"""Train a network and its PyTorch twin side by side on real data, and picture both loss curves.

    python scripts/compare_training.py cifar10-alexnet --data folder:cifar10.tar.xz

Both start from the same weights and see the same batches in the same order, at a recipe's learning
rate, momentum and weight decay, in float32 and in float64. Writes a picture and a JSON of the
losses of every step.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tyro
from _cli import run

from jaxcnn import data, log, plot
from jaxcnn.files import write_atomically
from jaxcnn.recipes import RECIPES, Settings, load_data
from parity import harness
from parity.trajectory import recipe_pair


def main(
    recipe: Annotated[Literal[tuple(RECIPES)], tyro.conf.Positional],  # pyright: ignore
    /,
    data_source: Annotated[str | None, tyro.conf.arg(name="data")] = None,
    epochs: int = 1,
    examples: int | None = None,
    dtypes: tuple[Literal["float64", "float32"], ...] = ("float64", "float32"),
    seed: int = 0,
    out: Path = Path("compare_training.png"),
    cache_dir: Path | None = None,
    tfds_dir: Path | None = None,
) -> None:
    """Train a network and its PyTorch twin side by side on real data.

    Args:
        recipe: whose network, data, batch size and optimizer arguments to use.
        data_source: data source by name or as KIND:PATH; by default the recipe's own.
        epochs: passes over the training set.
        examples: train on so many examples only, drawn evenly per class.
        dtypes: the precisions to train in.
        seed: decides the twin's initial weights and the order of the examples.
        out: the picture; the losses go beside it as .json.
        cache_dir: where decoded images are kept; by default the user's cache folder.
        tfds_dir: TFDS's data folder; by default $TFDS_DATA_DIR or ~/tensorflow_datasets.
    """
    settings = RECIPES[recipe][1]
    settings = replace(settings, data=data_source or settings.data, examples=examples)
    if epochs < 1:
        raise ValueError(f"--epochs must be at least 1, got {epochs}")
    dataset = load_data(settings, cache_dir=cache_dir, tfds_dir=tfds_dir)
    losses = {}
    for dtype in dtypes:
        losses |= _train(settings, dataset, epochs, dtype, seed)
    names = list(losses)
    for i in range(0, len(names), 2):
        torch_loss, jax_loss = losses[names[i]], losses[names[i + 1]]
        log.say(
            f"{names[i]} and {names[i + 1]}: {len(torch_loss)} steps, largest difference of the "
            f"loss {np.max(np.abs(np.subtract(torch_loss, jax_loss))):.3g}, last losses "
            f"{torch_loss[-1]:.6f} and {jax_loss[-1]:.6f}"
        )
    text = json.dumps({"recipe": recipe, "data": dataset.source, "seed": seed, "losses": losses})
    write_atomically(out.with_suffix(".json"), f"{text}\n".encode())
    title = f"{settings.network}, epochs: {epochs}, batch: {settings.batch_size}"
    plot.loss_comparison(losses, out, title=title)
    log.say(f"written to {out} and {out.with_suffix('.json')}")


def _train(
    settings: Settings, dataset: data.Dataset, epochs: int, dtype: str, seed: int
) -> dict[str, list[float]]:
    """Return the losses of every step of the PyTorch twin and of the network."""
    pair, steps = recipe_pair(settings, dataset, epochs=epochs, dtype=dtype, seed=seed)
    advance, _ = harness.training(
        pair,
        learning_rate=settings.learning_rate,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
        nesterov=settings.nesterov,
        gamma=1.0,
    )
    found: dict[str, list[float]] = {f"PyTorch {dtype}": [], f"jaxcnn {dtype}": []}
    for epoch in range(epochs):
        with log.progress(
            steps, epoch=epoch + 1, epochs=epochs, batch_size=settings.batch_size
        ) as bar:
            for i in range(steps):
                got, want = advance(epoch * steps + i)
                found[f"PyTorch {dtype}"].append(float(want))
                found[f"jaxcnn {dtype}"].append(float(got))
                bar.update(1, loss=float(got))
    return found


if __name__ == "__main__":
    run(main)
