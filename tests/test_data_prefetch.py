"""Batches put on the device ahead: the same ones, errors in their place, nothing left running."""

import threading
import time

import jax
import numpy as np
import pytest
from children import loading

from jaxcnn.data.prefetch import AHEAD, Prefetched, awaited


def numbered(n, log=None, bad=None):
    """Yield n batches that tell their number; note what has been asked for, and the end."""
    try:
        for number in range(n):
            if log is not None:
                log.append(number)
            if number == bad:
                raise ValueError(f"batch {number} is bad")
            yield {"images": np.full((2, 3), number, np.uint8), "labels": np.int32([number, 7])}
    finally:
        if log is not None:
            log.append("closed")


def until(condition):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def late(release):
    """Yield a batch, and another one once it may."""
    yield from numbered(1)
    release.wait(20)
    yield from numbered(1)


def test_batches_are_the_same_and_on_the_device():
    found = list(Prefetched(numbered(9)))
    for got, want in zip(found, numbered(9), strict=True):
        assert got.keys() == want.keys()
        for name in want:
            assert isinstance(got[name], jax.Array) and got[name].dtype == want[name].dtype
            np.testing.assert_array_equal(got[name], want[name])
    assert loading() == ([], [])
    assert list(Prefetched(numbered(0))) == []


@pytest.mark.parametrize("ahead", [1, AHEAD, 4])
def test_so_many_and_no_more_are_taken_ahead(ahead):
    asked = []
    batches = Prefetched(numbered(20, asked), ahead)
    assert not asked and loading() == ([], [])  # nothing before the first is asked for
    for number in range(3):
        assert int(next(batches)["labels"][0]) == number
        until(lambda: asked == list(range(number + 1 + ahead)))  # noqa: B023
    time.sleep(0.05)
    assert len(asked) == 3 + ahead
    batches.close()
    assert asked[-1] == "closed" and loading() == ([], [])


def test_an_error_comes_where_its_batch_would_have_come():
    asked = []
    batches = Prefetched(numbered(9, asked, bad=3), ahead=8)
    assert int(next(batches)["labels"][0]) == 0
    until(lambda: "closed" in asked)  # the error has happened, two batches before it are unread
    assert [int(next(batches)["labels"][0]) for _ in range(2)] == [1, 2]
    with pytest.raises(ValueError, match="batch 3 is bad"):
        next(batches)
    assert loading() == ([], [])


def test_dropping_the_iterator_ends_the_thread():
    asked = []
    batches = Prefetched(numbered(9, asked))
    next(batches)
    del batches
    assert asked[-1] == "closed" and loading() == ([], [])


def test_an_interrupted_wait_ends_the_thread():
    """As Ctrl-C in the midst of waiting: the error leaves the loop, which drops its batches."""
    release = threading.Event()

    def loop():
        for number, _ in enumerate(Prefetched(late(release))):
            if number == 0:
                threading.Timer(0.05, release.set).start()
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        loop()
    assert loading() == ([], [])


def test_the_default_device_of_the_caller_counts():
    with jax.default_device(jax.devices("cpu")[0]):
        batch = next(Prefetched(numbered(1)))
    assert batch["images"].devices() == {jax.devices("cpu")[0]}


def test_a_number_below_one_is_refused():
    with pytest.raises(ValueError, match="ahead must be at least 1, got 0"):
        Prefetched(numbered(1), 0)


class Running:
    """Stands for an array that the device still computes for a while."""

    def __init__(self, seconds=0.0, then=lambda: None):
        self.seconds, self.then, self.waited = seconds, then, 0

    def block_until_ready(self):
        self.waited += 1
        time.sleep(self.seconds)
        self.then()


def test_waiting_is_what_is_left_when_the_device_has_finished():
    release = threading.Event()

    batches = Prefetched(late(release))
    next(batches)
    running = Running(0.1, threading.Timer(0.1, release.set).start)
    begun = time.perf_counter()
    _, seconds = awaited(batches, [running])
    assert running.waited == 1
    assert 0.09 < seconds < time.perf_counter() - begun - 0.09
    until(batches.ready)  # the end
    with pytest.raises(StopIteration):
        awaited(batches, [running])
    assert running.waited == 1


def test_batches_that_are_there_are_not_waited_for():
    batches, running = Prefetched(numbered(2)), Running()
    next(batches)
    until(batches.ready)
    assert awaited(batches, [running])[1] == 0.0
    assert awaited(numbered(1), [running])[1] == 0.0 and running.waited == 0
