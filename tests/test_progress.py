"""The progress of an epoch, on a terminal and in a pipe, on a clock of our own."""

import io
import re

import jax.numpy as jnp
import pytest

from jaxcnn import log, progress


class Stream(io.StringIO):
    def __init__(self, terminal):
        super().__init__()
        self.terminal = terminal

    def isatty(self):
        return self.terminal


@pytest.fixture
def clock(monkeypatch):
    """A clock that only the test moves: clock[0] seconds."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_in_a_pipe_a_line_every_ten_seconds_and_the_end(clock):
    out = Stream(terminal=False)
    with log.progress(40, epoch=3, epochs=20, batch_size=100, stream=out) as shown:
        for step in range(40):
            clock[0] += 1
            shown.update(1, loss=jnp.float32(1 / (step + 1)))
    assert out.getvalue().splitlines() == [
        "epoch 3/20  step 10/40  loss 0.1000  100 img/s  0:00:30 left",
        "epoch 3/20  step 20/40  loss 0.0500  100 img/s  0:00:20 left",
        "epoch 3/20  step 30/40  loss 0.0333  100 img/s  0:00:10 left",
        "epoch 3/20  step 40/40  loss 0.0250  100 img/s  in 0:00:40",
    ]


def test_the_first_update_holds_the_compilation_and_does_not_count(clock):
    out = Stream(terminal=False)
    with log.progress(101, epoch=1, epochs=1, batch_size=10, stream=out) as shown:
        clock[0] += 30
        shown.update(1)
        for _ in range(20):
            clock[0] += 0.5
            shown.update(1)
    first, second, last = out.getvalue().splitlines()
    assert first == "epoch 1/1  step 1/101"
    assert second == "epoch 1/1  step 21/101  20 img/s  0:00:40 left"
    assert last == "epoch 1/1  step 21/101  20 img/s  in 0:00:40"


def test_a_resumed_epoch_counts_only_its_own_steps(clock):
    out = Stream(terminal=False)
    with log.progress(100, epoch=1, epochs=1, batch_size=10, initial=90, stream=out) as shown:
        clock[0] += 2
        shown.update(10)
    assert out.getvalue() == "epoch 1/1  step 100/100  50 img/s  in 0:00:02\n"


def test_a_broken_off_epoch_does_not_claim_its_end(clock):
    out = Stream(terminal=False)
    with (
        pytest.raises(KeyboardInterrupt),
        log.progress(9, epoch=1, epochs=1, batch_size=1, stream=out) as shown,
    ):
        shown.update(1)
        raise KeyboardInterrupt
    assert out.getvalue() == ""


def test_metrics_are_not_read_before_they_are_shown(clock):
    class Unfinished:
        def __array__(self, *_, **__):
            raise AssertionError("read too early")

    out = Stream(terminal=False)
    shown = log.progress(9, epoch=1, epochs=1, batch_size=1, stream=out)
    clock[0] += 1
    shown.update(1, loss=Unfinished())
    clock[0] += 10
    with pytest.raises(AssertionError, match="too early"):
        shown.update(1, loss=Unfinished())


def test_on_a_terminal_one_line_that_is_drawn_again(clock):
    out = Stream(terminal=True)
    with log.progress(40, epoch=2, epochs=5, batch_size=100, stream=out) as shown:
        for _ in range(40):
            clock[0] += 1
            shown.update(1, loss=0.25)
    drawn = out.getvalue()
    assert drawn.count("\n") == 1 and drawn.endswith("\n")
    frames = [frame.rstrip() for frame in re.split(r"[\r\n]", drawn) if frame.strip()]
    assert len(frames) > 30
    assert frames[20].startswith("epoch 2/5  5")
    assert re.search(r"\| \d+/40, loss 0\.2500, 100 img/s, 0:00:\d\d left$", frames[20])
    assert frames[-1].startswith("epoch 2/5 100%|")
    assert frames[-1].endswith("| 40/40, loss 0.2500, 100 img/s, in 0:00:40")


def test_a_terminal_is_not_redrawn_at_every_step(clock):
    out = Stream(terminal=True)
    with log.progress(1000, epoch=1, epochs=1, batch_size=1, stream=out) as shown:
        for _ in range(1000):
            clock[0] += 0.001
            shown.update(1)
    assert out.getvalue().count("\r") < 20


def test_a_message_does_not_break_the_bar(clock):
    out = Stream(terminal=True)
    with log.progress(10, epoch=1, epochs=1, batch_size=1, stream=out) as shown:
        shown.update(5)
        log.say("best so far", out)
        shown.update(5)
    before, after = out.getvalue().split("best so far\n")
    assert re.search(r"\r *\r$", before), "the bar was not wiped first"
    assert "epoch 1/1" in after


def test_a_message_in_a_pipe_and_on_standard_error(capsys):
    out = Stream(terminal=False)
    log.say("hello", out)
    assert out.getvalue() == "hello\n"
    log.say("there")
    assert capsys.readouterr().err == "there\n"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.04123, "0.0412"),
        (0, "0"),
        (0.0, "0.0000"),
        (1.5e-5, "1.50e-05"),
        (123456.0, "1.23e+05"),
        (float("nan"), "nan"),
        (-2.0, "-2.0000"),
    ],
)
def test_numbers_are_short(clock, value, text):
    out = Stream(terminal=False)
    with log.progress(1, epoch=1, epochs=1, batch_size=1, stream=out) as shown:
        clock[0] += 1
        shown.update(1, x=value)
    assert f"  x {text}  " in out.getvalue()
