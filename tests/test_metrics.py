"""Measures of predictions against scikit-learn's, plain loops and cases computed by hand."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    brier_score_loss,
    confusion_matrix,
    precision_recall_fscore_support,
    top_k_accuracy_score,
)

from jaxcnn import metrics


def drawn(seed, count=200, classes=7, dtype=np.float64):
    """Draw labels and probabilities that favour them, of every confidence."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, count)
    logits = rng.normal(size=(count, classes))
    logits[np.arange(count), labels] += 1
    powers = np.exp(logits * rng.uniform(0.1, 5, (count, 1)))
    return (powers / powers.sum(axis=1, keepdims=True)).astype(dtype), labels


@pytest.mark.parametrize("k", range(1, 8))
def test_top_k_accuracy_is_scikit_learn_s(k):
    probabilities, labels = drawn(k)
    want = top_k_accuracy_score(labels, probabilities, k=k, labels=np.arange(7)) if k < 7 else 1
    assert metrics.top_k_accuracy(probabilities, labels, k) == want
    assert k == 7 or 0.3 < want < 1


def test_among_equal_probabilities_the_lower_class_comes_first():
    probabilities = np.full((4, 4), 0.25, np.float32)
    labels = np.arange(4)
    got = [metrics.top_k_accuracy(probabilities, labels, k) for k in (1, 2, 3, 4)]
    assert got == [0.25, 0.5, 0.75, 1]
    probabilities = np.array([[0.2, 0.4, 0.4], [0.4, 0.2, 0.4]])
    assert metrics.top_k_accuracy(probabilities, np.array([2, 2]), 1) == 0
    assert metrics.top_k_accuracy(probabilities, np.array([1, 0]), 1) == 1
    assert metrics.calibration(probabilities, np.array([1, 0]), 1).accuracy == 1


@settings(max_examples=50)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(2, 6))
def test_classes_measure_as_scikit_learn_s(seed, count, classes):
    """Few examples: classes without an image, without a prediction and without either occur."""
    labels, predictions = np.random.default_rng(seed).integers(0, classes, (2, count))
    matrix = metrics.confusion(labels.astype(np.int32), predictions.astype(np.int32), classes)
    np.testing.assert_array_equal(
        matrix, confusion_matrix(labels, predictions, labels=range(classes))
    )
    options = {"labels": range(classes), "zero_division": np.nan}
    got = metrics.per_class(matrix)
    want = precision_recall_fscore_support(labels, predictions, **options)
    for ours, theirs in zip(got, want, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-15)
    mean = precision_recall_fscore_support(labels, predictions, average="macro", **options)
    for ours, theirs in zip(got[:3], mean, strict=False):
        np.testing.assert_allclose(metrics.macro(ours), theirs, rtol=1e-14)


def test_classes_by_hand():
    got = metrics.per_class(np.array([[3, 1, 0], [2, 4, 0], [0, 0, 0]]))
    np.testing.assert_allclose(got.precision, [3 / 5, 4 / 5, np.nan])
    np.testing.assert_allclose(got.recall, [3 / 4, 4 / 6, np.nan])
    np.testing.assert_allclose(got.f1, [6 / 9, 8 / 11, np.nan])
    assert got.support.tolist() == [4, 6, 0]
    assert metrics.macro(got.recall) == pytest.approx((3 / 4 + 4 / 6) / 2)
    assert math.isnan(metrics.macro(np.full(3, np.nan)))
    # Never called, but there: precision is not defined, and F1 is 0.
    missed = metrics.per_class(np.array([[5, 0], [2, 0]]))
    assert np.isnan(missed.precision[1]) and missed.recall[1] == missed.f1[1] == 0


@pytest.mark.parametrize("classes", [2, 7])
def test_brier_score_is_scikit_learn_s(classes):
    probabilities, labels = drawn(classes, classes=classes)
    options = {"labels": range(classes), "scale_by_half": False}
    given_ = probabilities if classes > 2 else probabilities[:, 1]
    want = brier_score_loss(labels, given_, **options)
    np.testing.assert_allclose(metrics.brier_score(probabilities, labels), want, rtol=1e-13)
    right = np.eye(classes)[labels]
    assert metrics.brier_score(right, labels) == 0
    assert metrics.brier_score(right, (labels + 1) % classes) == 2


@pytest.mark.parametrize("bins", [1, 4, 15])
def test_calibration_is_that_of_a_loop_over_the_bins(bins):
    """As the authors' code has it: a bin at a time, its share of the examples times its gap."""
    probabilities, labels = drawn(bins)
    got = metrics.calibration(probabilities, labels, bins)
    sure, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    ece = mce = 0.0
    for b in range(bins):
        inside = (sure > b / bins) & (sure <= (b + 1) / bins)
        assert got.count[b] == inside.sum()
        assert got.edges[b] == b / bins
        if not inside.any():
            assert np.isnan([got.confidence[b], got.accuracy[b]]).all()
            continue
        np.testing.assert_allclose(got.confidence[b], sure[inside].mean(), rtol=1e-13)
        np.testing.assert_allclose(got.accuracy[b], right[inside].mean(), rtol=1e-13)
        gap = abs(right[inside].mean() - sure[inside].mean())
        ece, mce = ece + inside.mean() * gap, max(mce, gap)
    np.testing.assert_allclose([got.ece, got.mce], [ece, mce], rtol=1e-12)
    assert got.edges[-1] == 1 and got.count.sum() == 200


def test_calibration_by_hand():
    """Ten sure by 0.75 of which six are right, and two sure by 1 of which one is."""
    sure = np.array([0.75] * 10 + [1.0] * 2)
    labels = np.array([0] * 6 + [1] * 4 + [0, 1])
    got = metrics.calibration(np.stack([sure, 1 - sure], axis=1), labels, 4)
    assert got.count.tolist() == [0, 0, 10, 2]
    assert got.accuracy[2:].tolist() == [0.6, 0.5] and got.confidence[2:].tolist() == [0.75, 1]
    assert got.ece == pytest.approx((10 * 0.15 + 2 * 0.5) / 12) and got.mce == 0.5


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_bins_are_closed_above_in_every_precision(dtype):
    """0.6 on an edge of five belongs below it, however the dtype rounds; a shade more above."""
    for edge, place in ((0.6, 2), (0.8, 3), (1.0, 4)):
        row = np.array([[edge, 1 - edge]], dtype)
        assert metrics.calibration(row, np.array([0]), 5).count.argmax() == place
    more = np.nextafter(dtype(0.6), dtype(1))
    row = np.array([[more, 0.3]], dtype)
    assert metrics.calibration(row, np.array([0]), 5).count.argmax() == 3
    over = np.array([[np.nextafter(dtype(1), dtype(2)), 0]], dtype)  # as a softmax rounds
    assert metrics.calibration(over, np.array([0]), 5).count.tolist() == [0, 0, 0, 0, 1]


def test_the_most_confident_mistakes_come_first():
    probabilities = np.array(
        [[0.2, 0.8, 0], [0.1, 0.9, 0], [0.99, 0.01, 0], [0.4, 0.6, 0], [0, 0.2, 0.8]]
    )
    labels, predictions = np.array([0, 1, 1, 0, 1]), np.array([1, 1, 0, 1, 2])
    result = probabilities, labels, predictions
    # 3 gives its class more than 4 does, but is less sure; 0 and 4 are equal and keep their order.
    assert metrics.confident_mistakes(*result, 9).tolist() == [2, 0, 4, 3]
    assert metrics.confident_mistakes(*result, 2).tolist() == [2, 0]
    assert metrics.confident_mistakes(probabilities, predictions, predictions, 2).shape == (0,)


GOOD = np.full((3, 4), 0.25, np.float32)
NAN = np.where(np.eye(3, 4) > 0, np.nan, GOOD)


@pytest.mark.parametrize(
    ("probabilities", "labels", "message"),
    [
        (GOOD[0], np.zeros(3, int), r"probabilities are \(4,\) float32, expected \(N, K\)"),
        (GOOD[:0], np.zeros(0, int), r"probabilities are \(0, 4\)"),
        (np.eye(3, 4, dtype=int), np.zeros(3, int), r"\(3, 4\) int64, expected"),
        (GOOD, np.zeros(4, int), r"labels are \(4,\) int64, expected \(3,\) integers"),
        (GOOD, np.zeros(3), "labels are .* float64"),
        (GOOD, np.array([0, 4, 1]), "label 4, expected 0 to 3"),
        (GOOD, np.array([0, -1, 1]), "label -1, expected 0 to 3"),
        (NAN, np.zeros(3, int), "probabilities hold nan, expected values in 0..1"),
        (GOOD - 0.5, np.zeros(3, int), "hold -0.25"),
        (GOOD * 20, np.zeros(3, int), "hold 5.0"),
    ],
)
def test_wrong_arguments_are_named(probabilities, labels, message):
    calls = {
        "top_k_accuracy": lambda: metrics.top_k_accuracy(probabilities, labels, 1),
        "brier_score": lambda: metrics.brier_score(probabilities, labels),
        "calibration": lambda: metrics.calibration(probabilities, labels),
    }
    for name, call in calls.items():
        with pytest.raises(ValueError, match=f"^{name}: .*{message}"):
            call()


def test_numbers_out_of_range_are_named():
    labels = np.zeros(3, int)
    for k in (0, 5):
        with pytest.raises(ValueError, match=f"top_k_accuracy: k={k}: expected 1 to 4"):
            metrics.top_k_accuracy(GOOD, labels, k)
    with pytest.raises(ValueError, match="calibration: bins=0: expected at least 1"):
        metrics.calibration(GOOD, labels, 0)
    with pytest.raises(ValueError, match=r"per_class: matrix has shape \(3, 4\)"):
        metrics.per_class(GOOD)
