"""Show over- and underfitting, and what closes the gap between training and test.

    python scripts/compare_regularization.py --out results
    python scripts/compare_regularization.py --recipe cifar10-overfit --data folder:PATH

One network is trained on few examples several times: as the recipe has it, so that it overfits;
with augmentation, dropout, penalties or early stopping; and at a learning rate too low to learn,
so that it underfits. The accuracy and the loss on the training examples that the table shows are
those of the trained network in evaluation mode, as the test's are. The curves of training are means
over every epoch of what is trained on: with dropout, augmentation, smoothed labels and penalties.

Writes regularization.png (accuracy against epoch, a panel a variant), regularization-loss.png,
regularization.json and, below runs/, every variant's run folder; repeated, it goes on where it
stopped.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import tyro
from _cli import run

from jaxcnn import canvas, data, log, runs, tables
from jaxcnn.evaluate import evaluate
from jaxcnn.files import write_atomically
from jaxcnn.recipes import RECIPES, Settings, load_data

# Name -> the settings that are other than the recipe's.
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "augmentation": {"augment": "random_crop(padding=4), random_horizontal_flip"},
    "dropout": {"dropout": 0.5},
    "weight decay": {"weight_decay": 0.05},
    "L1 penalty": {"l1": 0.001},
    "label smoothing": {"label_smoothing": 0.1},
    # Its own validation split: the test set must not say when to stop.
    "early stopping": {"early_stopping": 3, "early_stopping_metric": "loss", "validation": 0.2},
    "learning rate too low": {"learning_rate": 2e-5},
}
# Digits are not mirrored; those of `digits` have 8x8 pixels, too few to move them by whole ones.
AUGMENT = {
    "digits": "random_affine(degrees=10, translate=(0.08, 0.08), scale=(0.9, 1.1), "
    "interpolation='bilinear')",
    "mnist": "random_crop(padding=3)",
}

PLAIN = "plain"
METRICS = {"accuracy": "accuracy (%)", "loss": "loss"}
HEADINGS = (
    "variant",
    "changed",
    "epochs",
    "train accuracy %",
    "test accuracy %",
    "gap",
    "train loss",
    "test loss",
    "loss gap",
)
_COLUMNS = 4


class Variant(NamedTuple):
    """One variant's run.

    Attributes:
        name: a key of `VARIANTS`.
        changed: the settings that are other than the recipe's.
        rows: of its metrics.jsonl.
        train: loss and accuracy (0..1) on the training examples, of the trained network in
            evaluation mode.
        test: the same on the test split.
    """

    name: str
    changed: dict[str, Any]
    rows: list[dict[str, Any]]
    train: dict[str, float]
    test: dict[str, float]

    def gap(self, metric: str) -> float:
        """Return how much worse the test is than the training examples; below 0 it is better."""
        sign = 1 if metric == "accuracy" else -1
        return sign * (self.train[metric] - self.test[metric])

    def curve(self, kind: str, metric: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the epochs and the values, accuracies in per cent, of the rows of a kind."""
        points = [(r["epoch"], r[metric]) for r in self.rows if r["kind"] == kind]
        epochs, values = np.array(points, np.float64).reshape(-1, 2).T
        return epochs, _shown(metric, canvas.gaps(values))


def main(
    recipe: Literal[tuple(RECIPES)] = "digits-overfit",  # pyright: ignore
    data_source: Annotated[str | None, tyro.conf.arg(name="data")] = None,
    examples: int | None = None,
    epochs: int | None = None,
    augment: str | None = None,
    only: tuple[str, ...] = (),
    seed: int = 0,
    out: Path = Path("."),
    cache_dir: Path | None = None,
    tfds_dir: Path | None = None,
) -> None:
    """Show over- and underfitting, and what closes the gap between training and test.

    Args:
        recipe: what the variants change.
        data_source: data source by name or as KIND:PATH; by default the recipe's own.
        examples: train on so many examples only; by default as many as the recipe.
        epochs: passes over the training set; by default as many as the recipe.
        augment: what the variant with augmentation does; by default it moves digits a little, and
            moves and mirrors other images.
        only: leave out all variants but these.
        seed: decides the initial weights, the order of the examples and all that is random.
        out: the folder of the pictures.
        cache_dir: where decoded images are kept; by default the user's cache folder.
        tfds_dir: TFDS's data folder; by default $TFDS_DATA_DIR or ~/tensorflow_datasets.
    """
    if unknown := [name for name in only if name not in VARIANTS]:
        raise ValueError(f"--only: no {', '.join(unknown)}; known: {', '.join(VARIANTS)}")
    settings = RECIPES[recipe][1]
    settings = replace(
        settings,
        data=data_source or settings.data,
        examples=examples or settings.examples,
        epochs=epochs or settings.epochs,
        seed=seed,
    )
    augment = augment or AUGMENT.get(settings.data.split(":")[0])
    found = []
    for name in VARIANTS:
        if not only or name in only:
            log.say(f"{name}:")
            folder = out / "runs" / name.replace(" ", "-")
            changed = changes(name, augment)
            dataset = load_data(
                replace(settings, **changed), cache_dir=cache_dir, tfds_dir=tfds_dir
            )
            found.append(train(name, changed, settings, dataset, folder))
    log.say(table(found), sys.stdout)
    note = f"{settings.network}, {settings.examples or 'all'} examples of {settings.data}"
    for metric, file in {"accuracy": "regularization", "loss": "regularization-loss"}.items():
        draw(found, metric, out / f"{file}.png", title=f"{note}, seed {seed}")
    record = {"recipe": recipe, "run": note, "variants": [v._asdict() for v in found]}
    write_atomically(out / "regularization.json", f"{json.dumps(record)}\n".encode())
    log.say(f"written to {out}: regularization.png, regularization-loss.png, regularization.json")


def changes(name: str, augment: str | None) -> dict[str, Any]:
    """Return a variant's changed settings, with another augmentation where it has one."""
    changed = VARIANTS[name]
    return changed | {"augment": augment} if augment and "augment" in changed else changed


def train(
    name: str, changed: dict[str, Any], settings: Settings, dataset: data.Dataset, folder: Path
) -> Variant:
    """Train the recipe with changed settings into a run folder, or go on with what is there.

    Raises:
        KeyboardInterrupt: the training was interrupted; its folder goes on another time.
    """
    result = runs.train(
        replace(settings, **changed),
        dataset,
        folder,
        resume=(folder / "checkpoints/latest").is_dir(),
    )
    if result["interrupted"]:
        raise KeyboardInterrupt
    trained = runs.load(folder, "latest")
    ends = []
    for split in (dataset.train, dataset.test):
        result = evaluate(trained.run.eval_step, trained.state, split, 500)
        ends.append({metric: result[metric] for metric in METRICS})
    rows = [row for row in log.read_metrics(folder) if row["kind"] in ("train", "eval")]
    return Variant(name, changed, rows, *ends)


def table(found: Sequence[Variant]) -> str:
    """Format accuracy, loss and their gaps, a row a variant."""
    rows = []
    for variant in found:
        cells = [variant.name, said(variant.changed), str(len(variant.curve("train", "loss")[0]))]
        for metric, digits in (("accuracy", 1), ("loss", 3)):
            values = variant.train[metric], variant.test[metric], variant.gap(metric)
            cells += [f"{_shown(metric, value):.{digits}f}" for value in values]
        rows.append(cells)
    return tables.text(HEADINGS, rows, right=HEADINGS[2:])


def said(changed: Mapping[str, Any]) -> str:
    """Say changed settings as a list: `l1=0.001`."""
    return ", ".join(f"{name}={value}" for name, value in changed.items())


def draw(found: Sequence[Variant], metric: str, path: Path, *, title: str | None = None) -> None:
    """Draw training's and the test's curves of a metric against the epoch, a panel a variant.

    Dots at the end are the training examples in evaluation mode; the thin gray curve in the other
    panels is the plain variant's test curve. All panels have the same axes; that of the loss is
    logarithmic where a panel spans more than a decade.

    Args:
        found: one or more variants.
        metric: "accuracy" or "loss".
        path: the PNG.
        title: above the picture.

    Raises:
        ModuleNotFoundError: Matplotlib is not installed.
    """
    columns = min(_COLUMNS, len(found))
    lines = -(-len(found) // columns)
    figure = canvas.make_figure(max(2.6 * columns, 5), 2.2 * lines + 1, title)
    grid = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
    for axes in grid.flat[len(found) :]:
        axes.set_axis_off()
    plain = next((v for v in found if v.name == PLAIN), None)
    for index, (axes, variant) in enumerate(zip(grid.flat, found, strict=False)):
        lowest = index + columns >= len(found)
        ylabel = "" if index % columns else METRICS[metric]
        canvas.finish(axes, "epoch" if lowest else "", ylabel)
        if plain is not None and variant is not plain:
            axes.plot(*plain.curve("eval", metric), color=canvas.GRAY, lw=0.8, alpha=0.7)
        for colour, kind in enumerate(("train", "eval")):
            axes.plot(*variant.curve(kind, metric), color=canvas.colour(colour), lw=1.6)
        ends = variant.curve("train", metric)[0][-1], _shown(metric, variant.train[metric])
        axes.plot(*ends, "o", color=canvas.colour(0), ms=4, clip_on=False, zorder=3)
        if metric == "loss":
            canvas.log_axis(axes, least=10, quantile=0)
        axes.tick_params(labelsize=8, length=2, labelbottom=lowest)
        gap = f"gap {_shown(metric, variant.gap(metric)):.{1 if metric == 'accuracy' else 2}f}"
        axes.set_title(f"{variant.name}: {gap}", fontsize=9, loc="left", parse_math=False)
    key = "dot: training examples in evaluation mode    gray: test, plain"
    canvas.legend(figure, ["training", "test (validation where there is one)"], key)
    canvas.save(figure, path)


def _shown(metric: str, value: Any) -> Any:
    return 100 * value if metric == "accuracy" else value


if __name__ == "__main__":
    run(main)
