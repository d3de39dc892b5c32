"""Evaluate a trained run on its test set or on other data.

    python scripts/evaluate.py runs/digits-cnn-20260101-120000
    python scripts/evaluate.py RUN --data folder:DIR --checkpoint latest --out DIR

Prints precision, recall and F1 of every class, loss, accuracy, top-k accuracy and the expected
calibration error; writes evaluation.json and as pictures the confusion matrix, the calibration and
the most confident mistakes.
"""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tyro
from _cli import run

from jaxcnn import metrics, results, runs, tables
from jaxcnn.recipes import load_data


def main(
    workdir: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")],
    /,
    data_source: Annotated[str | None, tyro.conf.arg(name="data")] = None,
    checkpoint: Literal["best", "latest"] = "best",
    out: Path | None = None,
    top: int | None = None,
    bins: int = 15,
    eval_batch_size: int = 500,
    workers: int | None = None,
    cache_dir: Path | None = None,
    tfds_dir: Path | None = None,
) -> None:
    """Evaluate a trained run.

    Args:
        workdir: the run folder.
        data_source: data source by name or as KIND:PATH; by default the run's own.
        checkpoint: which of the run's checkpoints.
        out: folder for the pictures; by default the run folder, with --data RUN/evaluation.
        top: k of the top-k accuracy; by default 5, of 3 to 5 classes 2.
        bins: of confidence, in which the calibration is measured.
        eval_batch_size: examples a step.
        workers: processes that decode image files, where the data are streamed; by default one a
            core, 0 takes threads.
        cache_dir: where decoded images are kept; by default the user's cache folder.
        tfds_dir: TFDS's data folder; by default $TFDS_DATA_DIR or ~/tensorflow_datasets.
    """
    if bins < 1:
        raise ValueError(f"--bins must be at least 1, got {bins}")
    trained = runs.load(workdir, checkpoint)
    settings, classes = trained.settings, len(trained.class_names)
    if top is not None and not 1 <= top <= classes:
        raise ValueError(f"--top must be at least 1 and at most {classes}, the classes, got {top}")
    # Of the training set nothing is wanted, nor has other data to have the examples for it.
    wanted = replace(settings, data=data_source or settings.data, validation=0.0, examples=None)
    dataset = load_data(wanted, cache_dir=cache_dir, tfds_dir=tfds_dir)
    if dataset.class_names != trained.class_names:
        raise ValueError(
            f"{dataset.source} has classes {', '.join(dataset.class_names)}; "
            f"the run was trained on {', '.join(trained.class_names)}"
        )
    out = out or (workdir / "evaluation" if data_source else workdir)
    options = {"eval_batch_size": eval_batch_size, "workers": workers, "top": top, "bins": bins}
    result = results.picture(workdir, trained, dataset, out, **options)
    print(class_table(trained.class_names, result["per_class"]))
    accuracies = {"accuracy": result["accuracy"]}
    accuracies |= {f"top-{k} accuracy": share for k, share in result["top_k"].items() if k > 1}
    accuracies |= {"ECE": result["calibration"].ece}
    shares = ", ".join(f"{name} {100 * share:.2f} %" for name, share in accuracies.items())
    print(
        f"{settings.title} on {dataset.source}: {len(result['labels'])} test images, "
        f"loss {result['loss']:.4f}, {shares}; written to {out}"
    )


def class_table(class_names: tuple[str, ...], each: metrics.PerClass) -> str:
    """Format a line for each class and, below, all images and the means over the classes."""
    measures = (each.precision, each.recall, each.f1)
    columns = [[*values, metrics.macro(values)] for values in measures]
    lines = zip(
        [*class_names, "all, mean"],
        [f"{count:,}" for count in (*each.support, each.support.sum())],
        *[["-" if np.isnan(v) else f"{100 * v:.2f} %" for v in column] for column in columns],
        strict=True,
    )
    right = ("images", "precision", "recall", "F1")
    return tables.text(("class", *right), list(lines), right=right, last_apart=True)


if __name__ == "__main__":
    run(main)
