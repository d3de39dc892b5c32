"""What a trained run shows: its evaluation in numbers and pictures, its weights as a file.

RUN/evaluation.json  the best checkpoint on the test set
RUN/best.safetensors the best weights under PyTorch's keys
RUN/*.png            curves, confusion matrix, worst mistakes
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from jaxcnn import log, plot, weights
from jaxcnn.data import Arrays, Dataset, read_image
from jaxcnn.evaluate import confusion, evaluate, worst_mistakes
from jaxcnn.files import write_atomically
from jaxcnn.runs import Trained


def picture(
    workdir: Path,
    trained: Trained,
    dataset: Dataset,
    out: Path,
    *,
    eval_batch_size: int = 500,
    workers: int = 0,
) -> dict[str, Any]:
    """Evaluate a loaded run on a data set's test split and picture the result.

    Writes `evaluation.json` and, where Matplotlib is installed, `curves.png`, `confusion.png` and
    `mistakes.png` into `out`.

    Args:
        workdir: the run folder.
        trained: what `jaxcnn.runs.load` returned for it.
        dataset: has the run's classes.
        out: folder to write to.
        eval_batch_size: examples a step.
        workers: worker processes that decode files.

    Returns:
        What `jaxcnn.evaluate.evaluate` returns, and `class_accuracy` (K,), NaN for a class without
        examples.
    """
    step, state = trained.run.eval_step, trained.state
    result = evaluate(step, state, dataset.test, eval_batch_size, workers=workers)
    matrix = confusion(result["labels"], result["predictions"], len(trained.class_names))
    with np.errstate(invalid="ignore"):
        result["class_accuracy"] = np.diag(matrix) / matrix.sum(axis=1)
    summary = {
        "data": dataset.source,
        "split": "test",
        "examples": len(result["labels"]),
        "loss": result["loss"],
        "accuracy": result["accuracy"],
        "class_accuracy": {
            name: None if np.isnan(value) else float(value)
            for name, value in zip(trained.class_names, result["class_accuracy"], strict=True)
        },
    }
    text = json.dumps(summary, indent=2)
    write_atomically(out / "evaluation.json", f"{text}\n".encode())
    if plot.available():
        kind, colon, place = dataset.source.partition(":")
        title = f"{trained.settings.title} on {kind}{colon}{Path(place).name}"
        if (workdir / "metrics.jsonl").exists():
            plot.curves({workdir.name: log.read_metrics(workdir)}, out / "curves.png", title=title)
        plot.confusion_matrix(matrix, trained.class_names, out / "confusion.png", title=title)
        worst = worst_mistakes(result, 48)
        plot.mistakes(
            _images(dataset.test, worst),
            result["labels"][worst],
            result["predictions"][worst],
            result["probabilities"][worst].max(axis=1, initial=0),
            trained.class_names,
            out / "mistakes.png",
            title=title,
        )
    return result


def export(workdir: Path, trained: Trained) -> None:
    """Write the loaded weights under PyTorch's keys to `best.safetensors` in the run folder."""
    variables = {"params": trained.state.params, "batch_stats": trained.state.batch_stats}
    weights.save(workdir / "best.safetensors", variables)


def _images(split: Any, indices: np.ndarray) -> np.ndarray:
    if isinstance(split, Arrays):
        return np.asarray(split.images)[indices]
    images = [read_image(split.paths[i], split.image_shape) for i in indices]
    return np.stack(images) if images else np.zeros((0, *split.image_shape), np.uint8)
