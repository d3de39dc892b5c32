"""Evaluate a trained run on its test set or on other data.

    python scripts/evaluate.py runs/digits-cnn-20260101-120000
    python scripts/evaluate.py RUN --data folder:DIR --checkpoint latest --out DIR

Prints loss, accuracy and the accuracy of every class; writes evaluation.json, the confusion matrix
and the worst mistakes.
"""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import tyro
from _cli import run

from jaxcnn import results, runs
from jaxcnn.recipes import load_data


def main(
    workdir: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")],
    /,
    data_source: Annotated[str | None, tyro.conf.arg(name="data")] = None,
    checkpoint: Literal["best", "latest"] = "best",
    out: Path | None = None,
    eval_batch_size: int = 500,
    workers: int = 0,
    cache_dir: Path | None = None,
    tfds_dir: Path | None = None,
) -> None:
    """Evaluate a trained run.

    Args:
        workdir: the run folder.
        data_source: data source by name or as KIND:PATH; by default the run's own.
        checkpoint: which of the run's checkpoints.
        out: folder for the pictures; by default the run folder, with --data RUN/evaluation.
        eval_batch_size: examples a step.
        workers: processes that decode image files, where the data are streamed.
        cache_dir: where decoded images are kept; by default the user's cache folder.
        tfds_dir: TFDS's data folder; by default $TFDS_DATA_DIR or ~/tensorflow_datasets.
    """
    trained = runs.load(workdir, checkpoint)
    settings = trained.settings
    # Of the training set nothing is wanted, nor has other data to have the examples for it.
    wanted = replace(settings, data=data_source or settings.data, validation=0.0, examples=None)
    dataset = load_data(wanted, cache_dir=cache_dir, tfds_dir=tfds_dir)
    if dataset.class_names != trained.class_names:
        raise ValueError(
            f"{dataset.source} has classes {', '.join(dataset.class_names)}; "
            f"the run was trained on {', '.join(trained.class_names)}"
        )
    out = out or (workdir / "evaluation" if data_source else workdir)
    result = results.picture(
        workdir, trained, dataset, out, eval_batch_size=eval_batch_size, workers=workers
    )
    width = max(map(len, trained.class_names))
    for name, accuracy in zip(trained.class_names, result["class_accuracy"], strict=True):
        print(f"{name:{width}}  {100 * accuracy:6.2f} %")
    print(
        f"{settings.title} on {dataset.source}: {len(result['labels'])} test images, "
        f"loss {result['loss']:.4f}, accuracy {100 * result['accuracy']:.2f} %; written to {out}"
    )


if __name__ == "__main__":
    run(main)
