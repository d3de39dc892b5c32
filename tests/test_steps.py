"""Many steps in one program: the same bits however the calls are divided."""

import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import small_dataset
from test_fit import assert_same_run, latest, rows, run, steps

from jaxcnn import log
from jaxcnn import steps as many
from jaxcnn.steps import Pace, in_calls, one_by_one, repeated
from jaxcnn.train import TrainState


def fresh_state():
    return TrainState(jnp.int32(0), jnp.float32(1), {}, ())


def counted(state, number, factor):
    state = state.replace(step=state.step + 1, params=state.params * factor + number.astype("f4"))
    return state, {"number": number, "value": state.params}


@pytest.mark.parametrize("block", [1, 3])
def test_a_program_takes_any_number_of_steps(block, monkeypatch):
    monkeypatch.setattr(many, "_BLOCK", {"cpu": block})
    program = repeated(counted, most=7)
    for first, count in ((0, 5), (2, 1), (4, 7), (0, 3)):
        state, metrics = program(fresh_state(), np.int32(first), np.int32(count), np.float32(0.5))
        want, values = 1.0, []
        for number in range(first, first + count):
            want = want * 0.5 + number
            values.append(want)
        assert int(state.step) == count and float(state.params) == want
        assert metrics["value"][:count].tolist() == values
        assert metrics["number"][:count].tolist() == list(range(first, first + count))
    assert program._cache_size() == 1


def test_calls_go_on_where_the_one_before_ended(monkeypatch):
    monkeypatch.setattr(many, "MOST", 4)
    program, state, seen = repeated(counted), fresh_state(), []
    with in_calls(program, 3, np.float32(1)) as advance:
        for most in (2, 9, 1):
            state, metrics, count, waited = advance(state, most)
            assert waited == 0.0
            seen += metrics["number"][:count].tolist()
    assert seen == [3, 4, 5, 6, 7, 8, 9]


def test_one_by_one_closes_its_batches():
    closed = []

    def batches():
        try:
            yield from (1, 2, 3)
        finally:
            closed.append(True)

    with one_by_one(lambda state, batch: (state + batch, {"loss": batch}), batches()) as advance:
        assert advance(5, 8) == (6, {"loss": 1}, 1, 0.0)
        assert advance(6, 8) == (8, {"loss": 2}, 1, 0.0)
    assert closed


def test_pace_fills_its_time(monkeypatch):
    clock = iter([0.0, 0.095, 0.192, 1.342, 6.242, 6.242, 9.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    pace = Pace(None)
    assert pace.measures and pace.steps == 1
    found = []
    for counts in ([1], [1], [3], [4, 8], [], [100], [1000]):
        pace.read(counts)
        found.append(pace.steps)
    # 0.1 s a step: 3; 0.033: 9; 0.1: 3; nothing read; 0.05: 6; no time at all: four times as many
    assert found == [1, 3, 9, 3, 3, 6, 24]
    pace.rest()
    fixed = Pace(5)
    fixed.read([1])
    assert fixed.steps == 5 and not fixed.measures


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of 7 steps an epoch whose calls are as long as they come."""
    workdir = tmp_path_factory.mktemp("whole")
    return workdir, run(workdir, steps_per_call=None)


@pytest.mark.parametrize("per_call", [2, 5, 100])
def test_how_calls_are_divided_changes_no_bit(per_call, whole, tmp_path):
    assert run(tmp_path, steps_per_call=per_call)["step"] == whole[1]["step"] == 21
    assert_same_run(tmp_path, whole[0])


def test_single_steps_differ_in_rounding_only(whole, tmp_path):
    run(tmp_path)
    (got, _), (want, _) = latest(whole[0]), latest(tmp_path)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), got, want)
    losses = [[row["loss"] for row in rows(folder)] for folder in (whole[0], tmp_path)]
    np.testing.assert_allclose(*losses, rtol=1e-5)
    assert [r["step"] for r in rows(whole[0])] == [r["step"] for r in rows(tmp_path)]


def test_interrupted_between_calls_it_goes_on_to_the_bit(whole, tmp_path, monkeypatch):
    import signal

    write = log.append_metrics

    def pressed(workdir, row):
        write(workdir, row)
        if row["step"] == 10:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(log, "append_metrics", pressed)
        result = run(tmp_path, steps_per_call=3)
    assert result["interrupted"] and 10 <= result["step"] < 14
    assert not run(tmp_path, steps_per_call=None, resume=True)["interrupted"]
    assert_same_run(tmp_path, whole[0])


def test_a_broken_step_in_mid_call_is_named(tmp_path):
    def breaking(train_step):
        def step(state, batch, key):
            state, metrics = train_step(state, batch, key)
            broken = jnp.where(state.step == 10, jnp.nan, metrics["loss"])
            return state, metrics | {"loss": broken}

        return step

    with pytest.raises(FloatingPointError, match=r"nan at step 10 \(epoch 2\).*step 8 in"):
        run(tmp_path, around=breaking, steps_per_call=4)


def test_bad_numbers_are_refused(tmp_path):
    with pytest.raises(ValueError, match="steps_per_call must be at least 1, got 0"):
        run(tmp_path, steps_per_call=0)


def test_a_gpus_calls_waste_no_steps(monkeypatch):
    monkeypatch.setattr(many, "_BLOCK", {})
    clock = iter([0.0, 0.02, 0.22])
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    pace = Pace(None)
    for counts, want in (([1], 1), ([1], 4), ([40], 16)):
        pace.read(counts)
        assert pace.steps == want


def test_one_program_serves_the_whole_run(tmp_path):
    """Also an epoch's last batch, which is not full."""
    assert len(small_dataset().train) % 8
    from jaxcnn.fit import _program

    program = _program(steps()[2], 8, True)
    run(tmp_path, steps_per_call=None)
    assert program._cache_size() == 1
