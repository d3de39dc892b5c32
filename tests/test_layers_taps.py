"""Sums of taps on the CPU: the border apart from the inside, and the transposed windows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxcnn.layers.taps import Windows, taps, weighted_taps


def seen(windows, length):
    """Return the pixels, from the definition, that each window's taps see: (windows, taps)."""
    first = np.arange(windows.count) * windows.stride - windows.before
    pixels = first[:, None] + np.arange(windows.taps) * windows.dilation
    return pixels, (pixels >= 0) & (pixels < length)


@st.composite
def axes(draw):
    count, taps = draw(st.integers(1, 6)), draw(st.integers(1, 4))
    before = draw(st.integers(-3, 5))
    return draw(st.integers(1, 9)), Windows(
        count, taps, draw(st.integers(1, 4)), draw(st.integers(1, 3)), before
    )


@settings(max_examples=200, deadline=None, derandomize=True)
@given(axes())
def test_ranges_and_cuts(axis):
    length, windows = axis
    inside, *ends = windows.ranges(length)
    _, within = seen(windows, length)
    covered = [i for first, last in (inside, *ends) for i in range(first, last)]
    assert sorted(covered) == list(range(windows.count))
    assert set(range(*inside)) >= set(np.flatnonzero(within.all(axis=1)))
    for first, last in (box for box in (inside, *ends) if box[0] < box[1]):
        start, stop, (front, behind) = windows.cut(length, first, last)
        pixels = np.arange(length) + 1
        cut = np.pad(pixels[start:stop], (front, behind))
        if (first, last) == inside:
            assert within[first:last].all() and front == behind == 0
        numbers, known = seen(windows, length)
        want = np.where(known, numbers + 1, 0)[first:last]
        begin = np.arange(last - first)[:, None] * windows.stride
        np.testing.assert_array_equal(cut[begin + np.arange(windows.taps) * windows.dilation], want)
        reach = windows.dilation * (windows.taps - 1) + 1
        assert len(cut) == (last - first - 1) * windows.stride + reach


@settings(max_examples=200, deadline=None, derandomize=True)
@given(axes())
def test_transposed_windows_see_what_saw_the_pixel(axis):
    length, windows = axis
    numbers, _ = seen(windows, length)
    for phase in range(windows.stride):
        back, order = windows.transposed(length, phase)
        outputs, known = seen(back, windows.count)
        chosen = np.arange(windows.taps)[order]
        assert len(chosen) == back.taps
        for i, pixel in enumerate(range(phase, length, windows.stride)):
            got = {(o, t) for o, t, k in zip(outputs[i], chosen, known[i], strict=True) if k}
            assert got == {tuple(at) for at in np.argwhere(numbers == pixel).tolist()}


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("before", [-1, 0, 2])
def test_border_and_inside_are_one_sum(stride, before, float64):
    rng = np.random.default_rng(0)
    images, weights = rng.normal(size=(2, 9, 8, 3)), rng.normal(size=(3, 2, 3))
    rows, columns = Windows(4, 3, stride, 1, before), Windows(5, 2, stride, 2, before)
    (above, below), (left, right) = ((before, 30), (before, 30))
    padded = jax.lax.pad(
        jnp.asarray(images), 0.0, [(0, 0, 0), (above, below, 0), (left, right, 0), (0, 0, 0)]
    )
    all_taps = taps(padded, (3, 2), (stride, stride), ((0, 0), (0, 0)), (1, 2))
    want = sum(tap[:, :4, :5] * w for tap, w in zip(all_taps, weights.reshape(6, 3), strict=True))
    np.testing.assert_allclose(weighted_taps(images, weights, rows, columns), want, rtol=1e-13)
