"""Evaluation of a whole test set: loss, accuracy, every prediction."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxcnn.data import Arrays, Files, eval_batches
from jaxcnn.train import Batch, Metrics, TrainState


def evaluate(
    eval_step: Callable[[TrainState, Batch], Metrics],
    state: TrainState,
    split: Arrays | Files,
    batch_size: int,
    *,
    workers: int = 0,
) -> dict[str, Any]:
    """Evaluate every example of a split once, in order.

    Args:
        eval_step: from `jaxcnn.train.make_eval_step`.
        state: the state to evaluate; unchanged.
        split: N examples.
        batch_size: examples a step; the last batch is filled up and masked.
        workers: worker processes that decode files.

    Returns:
        `loss` and `accuracy` (floats, means over the N examples), `labels` (N,) int32,
        `predictions` (N,) int32 and `probabilities` (N, K) float32.

    Raises:
        FloatingPointError: the mean loss is NaN or infinite.
    """
    outputs = []
    for batch in eval_batches(split, batch_size, workers=workers):
        # Only handles are kept: the device runs ahead, and everything is read once at the end.
        outputs.append((batch["labels"], batch["mask"], eval_step(state, batch)))
    outputs = jax.device_get(outputs)
    mask = np.concatenate([mask for _, mask, _ in outputs])
    labels = np.concatenate([labels for labels, _, _ in outputs])[mask]
    metrics = {
        name: np.concatenate([metrics[name] for _, _, metrics in outputs])[mask]
        for name in ("loss", "predictions", "probabilities")
    }
    loss = float(np.mean(metrics["loss"], dtype=np.float64))
    if not np.isfinite(loss):
        raise FloatingPointError(f"evaluation loss is {loss} over {len(labels)} examples")
    return {
        "loss": loss,
        "accuracy": float(np.mean(metrics["predictions"] == labels)),
        "labels": labels,
        "predictions": metrics["predictions"],
        "probabilities": metrics["probabilities"],
    }


def confusion(labels: np.ndarray, predictions: np.ndarray, num_classes: int) -> np.ndarray:
    """Count (true class, predicted class) pairs: (num_classes, num_classes) int64."""
    pairs = labels.astype(np.int64) * num_classes + predictions
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def worst_mistakes(result: dict[str, Any], count: int) -> np.ndarray:
    """Return the indices of the mistakes that gave the true class least, worst first.

    Args:
        result: what `evaluate` returned.
        count: at most so many.

    Returns:
        (M,) int64, M <= count; empty where every prediction is right.
    """
    wrong = np.flatnonzero(result["labels"] != result["predictions"])
    truth = result["probabilities"][wrong, result["labels"][wrong]]
    return wrong[np.argsort(truth, kind="stable")[:count]]
