"""What an error is, and what `assert_close` refuses."""

import re

import numpy as np
import pytest

from parity.errors import assert_close, errors, worst

ONE = np.array([1.0, -2.0, 4.0])


def test_the_maximum_counts_not_the_mean():
    got = np.ones(1_000_000)
    got[7] += 0.5
    assert errors({"x": got}, {"x": np.ones(1_000_000)}) == {"x": 0.5}


def test_errors_are_relative_to_the_largest_value():
    assert errors({"x": ONE + 0.4}, {"x": ONE})["x"] == pytest.approx(0.1)
    assert errors({"x": (ONE + 0.4) * 1e-30}, {"x": ONE * 1e-30})["x"] == pytest.approx(0.1)


def test_cancelled_values_are_measured_against_a_thousandth_of_the_largest():
    want = {"weight": ONE, "bias": np.array([3e-17])}
    got = {"weight": ONE, "bias": np.array([-1e-17])}
    assert errors(got, want)["bias"] == pytest.approx(4e-17 / 4e-3)


def test_counters_are_exact_and_set_no_scale():
    want = {"count": np.array(1000), "x": np.array([1e-3])}
    found = errors({"count": np.array(1001), "x": np.array([2e-3])}, want)
    assert found == pytest.approx({"count": 1e-3, "x": 1.0})


def test_zero_infinity_and_nan():
    zero = np.zeros(2)
    assert errors({"x": zero}, {"x": zero}) == {"x": 0.0}
    assert errors({"x": zero + 1e-300}, {"x": zero}) == {"x": np.inf}
    for bad in (np.nan, np.inf):
        assert errors({"x": np.array([1, bad])}, {"x": np.array([1, bad])}) == {"x": np.inf}
    assert worst({"a": ONE, "b": ONE}, {"a": ONE, "b": 2 * ONE}) == (0.5, "b")


def test_float32_is_subtracted_in_float64():
    got, want = np.float32([1e8, 3.4e38]), np.float32([1e8, -3.4e38])
    assert errors({"x": got}, {"x": want})["x"] == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("got", "want", "message"),
    [
        ({}, {}, "nothing to compare"),
        ({}, {"x": ONE}, "missing: x"),
        ({"x": ONE, "y": ONE}, {"x": ONE}, "unexpected: y"),
        ({"x": ONE[:2]}, {"x": ONE}, "shape of x: got (2,), want (3,)"),
        ({"x": ONE[None]}, {"x": ONE}, "shape of x"),
        ({"x": ONE.astype("float32")}, {"x": ONE}, "dtype of x: got float32, want float64"),
        ({"x": ONE * np.nan}, {"x": ONE}, "not finite: x"),
        ({"x": ONE}, {"x": ONE * np.inf}, "not finite: x"),
        ({"x": 0 * ONE}, {"x": 0 * ONE}, "shows nothing: x"),
        ({"x": ONE, "y": 1.2 * ONE}, {"x": ONE, "y": ONE}, "y: 2.00e-01"),
    ],
)
def test_assert_close_refuses(got, want, message):
    with pytest.raises(AssertionError, match=re.escape(message)):
        assert_close(got, want, rtol=0.1)


def test_assert_close_lists_every_difference_and_the_worst_first():
    with pytest.raises(AssertionError, match=r"(?s)missing: a.*unexpected: b.*shape of c"):
        assert_close({"b": ONE, "c": ONE[1:]}, {"a": ONE, "c": ONE}, rtol=1)
    want = {name: ONE for name in "abc"}
    got = {"a": ONE * 1.1, "b": ONE * 1.3, "c": ONE}
    with pytest.raises(AssertionError, match=r"(?s)2 of 3.*b: 3\.00e-01.*a: 1\.00e-01"):
        assert_close(got, want, rtol=1e-12)


def test_assert_close_accepts():
    assert_close({"x": ONE * (1 + 1e-13)}, {"x": ONE}, rtol=1e-12)
    assert_close({"x": 0 * ONE}, {"x": 0 * ONE}, rtol=1e-12, zeros=["x"])
