"""What an evaluation is measured by."""

import numpy as np
import pytest

from jaxcnn import evaluate, metrics


@pytest.mark.parametrize(
    ("num_classes", "want"),
    [(1, (1,)), (2, (1,)), (3, (1, 2)), (5, (1, 2)), (6, (1, 5)), (1000, (1, 5))],
)
def test_the_default_top_k_says_something(num_classes, want):
    assert evaluate.ranks(num_classes) == want


def test_the_user_s_top_k_is_within_the_classes():
    assert evaluate.ranks(10, 3) == (1, 3) and evaluate.ranks(10, 10) == (1, 10)
    assert evaluate.ranks(10, 1) == (1,)
    for top in (0, 11):
        with pytest.raises(ValueError, match=f"ranks: top={top}: expected 1 to 10"):
            evaluate.ranks(10, top)


def result(count=60, classes=4):
    """Make an evaluation as `evaluate` returns it; the last class has no example."""
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.full(classes, 0.5), count).astype(np.float32)
    labels = rng.integers(0, classes - 1, count).astype(np.int32)
    predictions = probabilities.argmax(axis=1).astype(np.int32)
    return {"labels": labels, "predictions": predictions, "probabilities": probabilities}


def test_an_evaluation_is_measured_whole():
    given = result()
    labels, predictions, probabilities = given.values()
    got = evaluate.measure(given, top=3, bins=6, mistakes=5)
    right = labels == predictions
    assert np.trace(got["confusion"]) == right.sum() and got["confusion"].sum() == 60
    want = [right[labels == k].mean() for k in range(3)]
    np.testing.assert_allclose(got["class_accuracy"], [*want, np.nan])
    assert got["per_class"].support.tolist() == [*np.bincount(labels), 0]
    assert got["top_k"] == {1: right.mean(), 3: metrics.top_k_accuracy(probabilities, labels, 3)}
    assert len(got["calibration"].count) == 6
    assert got["brier"] == metrics.brier_score(probabilities, labels)
    confidences = probabilities.max(axis=1)[got["mistakes"]]
    assert len(confidences) == 5 and (np.diff(confidences) <= 0).all()
    assert confidences[0] == probabilities.max(axis=1)[~right].max()
    assert not right[got["mistakes"]].any()


def test_what_is_out_of_range_is_named():
    for options, message in (({"top": 5}, "top=5: expected 1 to 4"), ({"bins": 0}, "bins=0")):
        with pytest.raises(ValueError, match=message):
            evaluate.measure(result(), **options)
