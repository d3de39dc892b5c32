"""What a trained run shows: its evaluation in numbers and pictures, its weights as a file.

RUN/evaluation.json  the best checkpoint on the test set
RUN/best.safetensors the best weights under PyTorch's keys
RUN/*.png            curves, confusion matrix, calibration, most confident mistakes
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxcnn import log, plot, plot_evaluation, weights
from jaxcnn.data import Arrays, Dataset, Files, read_image
from jaxcnn.data.readers import Workers
from jaxcnn.evaluate import evaluate, measure, ranks
from jaxcnn.files import write_atomically
from jaxcnn.metrics import Calibration, macro
from jaxcnn.runs import Trained


def picture(
    workdir: Path,
    trained: Trained,
    dataset: Dataset,
    out: Path,
    *,
    eval_batch_size: int = 500,
    workers: Workers = None,
    top: int | None = None,
    bins: int = 15,
) -> dict[str, Any]:
    """Evaluate a loaded run on a data set's test split and picture the result.

    Writes `evaluation.json` and, where Matplotlib is installed, `curves.png`, `confusion.png`,
    `calibration.png` and `mistakes.png` into `out`.

    Args:
        workdir: the run folder.
        trained: what `jaxcnn.runs.load` returned for it.
        dataset: has the run's classes.
        out: folder to write to.
        eval_batch_size: examples a step.
        workers: what decodes files, as `jaxcnn.fit.fit` takes it.
        top: largest k of the top-k accuracies, by default as `jaxcnn.evaluate.ranks` says.
        bins: of the calibration, at least 1.

    Returns:
        What `jaxcnn.evaluate.evaluate` and `measure` return.

    Raises:
        ValueError: `top` or `bins` is out of range.
    """
    ranks(len(trained.class_names), top)  # before the work, not after it
    step, state = trained.run.eval_step, trained.state
    result = evaluate(step, state, dataset.test, eval_batch_size, workers=workers)
    result |= measure(result, top=top, bins=bins)
    summary = summarize(result, dataset, trained.class_names)
    text = json.dumps(summary, indent=2, allow_nan=False)
    write_atomically(out / "evaluation.json", f"{text}\n".encode())
    if plot.available():
        kind, colon, place = dataset.source.partition(":")
        title = f"{trained.settings.title} on {kind}{colon}{Path(place).name}"
        if (workdir / "metrics.jsonl").exists():
            plot.curves({workdir.name: log.read_metrics(workdir)}, out / "curves.png", title=title)
        names, matrix = trained.class_names, result["confusion"]
        plot_evaluation.confusion_matrix(matrix, names, out / "confusion.png", title=title)
        plot_evaluation.reliability(result["calibration"], out / "calibration.png", title=title)
        shown = result["mistakes"]
        plot_evaluation.mistakes(
            _images(dataset.test, shown),
            result["labels"][shown],
            result["predictions"][shown],
            result["probabilities"][shown, result["predictions"][shown]],
            names,
            out / "mistakes.png",
            title=title,
        )
    return result


def summarize(
    result: dict[str, Any], dataset: Dataset, class_names: tuple[str, ...]
) -> dict[str, Any]:
    """Return the content of `evaluation.json`: plain values, None for what is not defined.

    Args:
        result: what `jaxcnn.evaluate.evaluate` and `measure` returned for the test split.
        dataset: whose test split it is.
        class_names: a name for each class.
    """
    each = result["per_class"]
    measures = {name: getattr(each, name) for name in ("precision", "recall", "f1")}
    split = dataset.test
    return {
        "data": dataset.source,
        "split": "test",
        "examples": len(result["labels"]),
        "loss": result["loss"],
        "accuracy": result["accuracy"],
        "top_k": {str(k): accuracy for k, accuracy in result["top_k"].items()},
        **{f"macro_{name}": _number(macro(values)) for name, values in measures.items()},
        "brier": result["brier"],
        "calibration": _bins(result["calibration"]),
        "classes": {
            name: {
                "support": int(each.support[k]),
                **{key: _number(values[k]) for key, values in measures.items()},
            }
            for k, name in enumerate(class_names)
        },
        "mistakes": [
            {
                "index": int(i),
                "true": class_names[result["labels"][i]],
                "predicted": class_names[result["predictions"][i]],
                "confidence": float(result["probabilities"][i, result["predictions"][i]]),
                **({"file": split.paths[i]} if isinstance(split, Files) else {}),
            }
            for i in result["mistakes"]
        ],
    }


def export(workdir: Path, trained: Trained) -> None:
    """Write the loaded weights under PyTorch's keys to `best.safetensors` in the run folder."""
    variables = {"params": trained.state.params, "batch_stats": trained.state.batch_stats}
    weights.save(workdir / "best.safetensors", variables)


def _bins(calibration: Calibration) -> dict[str, Any]:
    edges, count, confidence, accuracy, ece, mce = calibration
    return {
        "ece": ece,
        "mce": mce,
        "bins": [
            {
                "above": float(edges[b]),
                "up_to": float(edges[b + 1]),
                "examples": int(count[b]),
                "confidence": _number(confidence[b]),
                "accuracy": _number(accuracy[b]),
            }
            for b in range(len(count))
        ],
    }


def _number(value: float) -> float | None:
    """Return a plain float, None for NaN, which JSON has not."""
    return None if math.isnan(value) else float(value)


def _images(split: Arrays | Files, indices: np.ndarray) -> np.ndarray:
    if isinstance(split, Arrays):
        return np.asarray(split.images)[indices]
    images = [read_image(split.paths[i], split.image_shape) for i in indices]
    return np.stack(images) if images else np.zeros((0, *split.image_shape), np.uint8)


def over_seeds(accuracies: Mapping[int, float], workdir: Path) -> dict[str, Any]:
    """Write what runs of several seeds reached to `results.json` of the folder that holds them.

    Args:
        accuracies: seed -> test accuracy in [0, 1], of at least two seeds.
        workdir: the folder.

    Returns:
        `seeds` (seed as text -> accuracy), `mean` and `deviation` (the sample's, of N - 1).
    """
    values = list(accuracies.values())
    summary = {
        "seeds": {str(seed): value for seed, value in accuracies.items()},
        "mean": float(np.mean(values)),
        "deviation": float(np.std(values, ddof=1)),
    }
    text = json.dumps(summary, indent=2)
    write_atomically(workdir / "results.json", f"{text}\n".encode())
    return summary
