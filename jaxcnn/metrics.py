"""What predictions are worth, in pure NumPy: top-k, precision and recall, calibration, mistakes.

Everywhere `probabilities` is (N, K), floats in 0..1 whose rows add up to 1, as softmax gives them,
and `labels` is (N,), integers in 0..K-1, the true classes; N and K are at least 1. The prediction
is the most probable class; among equal probabilities the lower class comes first.
"""

from typing import NamedTuple

import numpy as np


class PerClass(NamedTuple):
    """Precision, recall and F1 of every class, each (K,) float64 in 0..1, and its images.

    Attributes:
        precision: share of the images called k that are of class k; NaN where none is called k.
        recall: share of the images of class k that are called k; NaN where there is none.
        f1: 2 TP / (2 TP + FP + FN), which is precision's and recall's harmonic mean; NaN where no
            image is of class k and none is called k.
        support: (K,) int64, how many images of class k there are.
    """

    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray
    support: np.ndarray


class Calibration(NamedTuple):
    """How far confidence is from accuracy, in B bins of equal width over 0..1.

    Attributes:
        edges: (B + 1,) float64; bin b holds what lies above edges[b] and not above edges[b + 1].
        count: (B,) int64, examples in each bin.
        confidence: (B,) float64, their mean confidence; NaN in an empty bin.
        accuracy: (B,) float64, the share of them that is right; NaN in an empty bin.
        ece: the expected calibration error, |accuracy - confidence| weighted with the count.
        mce: the maximum calibration error, the largest |accuracy - confidence|.
    """

    edges: np.ndarray
    count: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray
    ece: float
    mce: float


def top_k_accuracy(probabilities: np.ndarray, labels: np.ndarray, k: int) -> float:
    """Return the share of examples whose class is among the `k` most probable, 0..1.

    As sklearn.metrics.top_k_accuracy_score, but for ties, of which there the higher class wins.

    Args:
        probabilities: (N, K), see the module.
        labels: (N,), see the module.
        k: 1 to K.

    Raises:
        ValueError: shapes or values are others, or `k` is out of range.
    """
    probabilities, labels = _checked("top_k_accuracy", probabilities, labels)
    if not 1 <= k <= probabilities.shape[1]:
        raise ValueError(f"top_k_accuracy: k={k}: expected 1 to {probabilities.shape[1]} classes")
    truth = np.take_along_axis(probabilities, labels[:, None], axis=1)
    earlier = np.arange(probabilities.shape[1]) < labels[:, None]
    before = (probabilities > truth) | (earlier & (probabilities == truth))
    return float(np.mean(before.sum(axis=1) < k))


def confusion(labels: np.ndarray, predictions: np.ndarray, num_classes: int) -> np.ndarray:
    """Count (true class, predicted class) pairs: (num_classes, num_classes) int64.

    Args:
        labels: (N,) integers in 0..num_classes-1.
        predictions: (N,) integers in 0..num_classes-1.
        num_classes: K.
    """
    pairs = labels.astype(np.int64) * num_classes + predictions
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def per_class(matrix: np.ndarray) -> PerClass:
    """Compute every class' precision, recall, F1 and support from a confusion matrix.

    As sklearn.metrics.precision_recall_fscore_support with zero_division=nan.

    Args:
        matrix: (K, K) integers >= 0, what `confusion` returns.

    Raises:
        ValueError: the matrix is not square.
    """
    matrix = np.asarray(matrix)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"per_class: matrix has shape {matrix.shape}, expected (K, K)")
    right, called, support = np.diag(matrix), matrix.sum(axis=0), matrix.sum(axis=1)
    with np.errstate(invalid="ignore"):
        f1 = 2 * right / (called + support)
        return PerClass(right / called, right / support, f1, support)


def macro(values: np.ndarray) -> float:
    """Return the mean of a measure over the classes that have one, NaN where none has.

    Args:
        values: (K,) floats, NaN for the classes to leave out, as in `PerClass`.
    """
    values = np.asarray(values)[~np.isnan(values)]
    return float(values.mean()) if len(values) else float("nan")


def brier_score(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean squared distance of the probabilities from the truth, 0 (best) to 2.

    The sum over all classes, averaged over the examples (G. Brier, 1950, Monthly Weather Review
    78); sklearn.metrics.brier_score_loss with scale_by_half=False.

    Args:
        probabilities: (N, K), see the module.
        labels: (N,), see the module.

    Raises:
        ValueError: shapes or values are others.
    """
    probabilities, labels = _checked("brier_score", probabilities, labels)
    apart = probabilities.astype(np.float64)
    apart[np.arange(len(labels)), labels] -= 1
    return float(np.mean(np.sum(apart**2, axis=1)))


def calibration(probabilities: np.ndarray, labels: np.ndarray, bins: int = 15) -> Calibration:
    """Compare confidence, the probability given to the prediction, with accuracy in bins of it.

    C. Guo, G. Pleiss, Y. Sun, K. Weinberger, On Calibration of Modern Neural Networks, 2017,
    arXiv:1706.04599: equal widths, open below and closed above.

    Args:
        probabilities: (N, K), see the module. Edges are rounded to their dtype: a confidence of
            0.2 in float32 lies on the edge at 0.2.
        labels: (N,), see the module.
        bins: how many, at least 1.

    Raises:
        ValueError: shapes or values are others, or `bins` is below 1.
    """
    probabilities, labels = _checked("calibration", probabilities, labels)
    if bins < 1:
        raise ValueError(f"calibration: bins={bins}: expected at least 1")
    confidences = probabilities.max(axis=1)
    right = (probabilities.argmax(axis=1) == labels).astype(np.float64)
    edges = np.arange(bins + 1) / bins  # rounded once; linspace gives 0.6000000000000001 of 5
    inner = edges[1:-1].astype(probabilities.dtype)  # a rounded softmax may exceed the last one
    places = np.searchsorted(inner, confidences, side="left")
    count = np.bincount(places, minlength=bins)
    with np.errstate(invalid="ignore"):
        confidence = np.bincount(places, confidences.astype(np.float64), bins) / count
        accuracy = np.bincount(places, right, bins) / count
    filled = count > 0
    gaps = np.abs(accuracy - confidence)[filled]
    ece = float(np.sum(gaps * count[filled]) / len(labels))
    return Calibration(edges, count, confidence, accuracy, ece, float(gaps.max()))


def confident_mistakes(
    probabilities: np.ndarray, labels: np.ndarray, predictions: np.ndarray, count: int
) -> np.ndarray:
    """Return the indices of the mistakes, the one whose prediction was most probable first.

    Args:
        probabilities: (N, K), see the module.
        labels: (N,), see the module.
        predictions: (N,) integers in 0..K-1.
        count: at most so many.

    Returns:
        (M,) int64, M <= count; empty where every prediction is right. Equally probable ones keep
        their order.
    """
    wrong = np.flatnonzero(labels != predictions)
    confidences = probabilities[wrong, predictions[wrong]]
    return wrong[np.argsort(-confidences, kind="stable")[:count]]


def _checked(
    function: str, probabilities: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return both as arrays, or raise a ValueError in the name of `function`."""
    probabilities, labels = np.asarray(probabilities), np.asarray(labels)
    if probabilities.ndim != 2 or not probabilities.size or probabilities.dtype.kind != "f":
        got = f"{probabilities.shape} {probabilities.dtype}"
        raise ValueError(f"{function}: probabilities are {got}, expected (N, K) floats, N, K >= 1")
    if labels.shape != probabilities.shape[:1] or labels.dtype.kind not in "iu":
        got, count = f"{labels.shape} {labels.dtype}", len(probabilities)
        raise ValueError(f"{function}: labels are {got}, expected ({count},) integers")
    # NaN is neither; a softmax in half precision may exceed 1 by its rounding.
    inside = (probabilities >= 0) & (probabilities <= 1.01)
    if not inside.all():
        value = probabilities[~inside][0]
        raise ValueError(f"{function}: probabilities hold {value}, expected values in 0..1")
    classes = probabilities.shape[1]
    if labels.min() < 0 or labels.max() >= classes:
        wrong = labels[(labels < 0) | (labels >= classes)][0]
        raise ValueError(f"{function}: label {wrong}, expected 0 to {classes - 1}")
    return probabilities, labels
