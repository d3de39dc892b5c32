"""Two processes of `scripts/train.py` that train one run, and what ends them."""

import signal
import subprocess
import sys
import time

import pytest
from processes import call, free_port, start

from jaxcnn import checkpoint, processes, runs

OPTIONS = ("--network", "mlp_mnist", "--epochs", 100_000, "--checkpoint-every", 5)


def both(workdir, *options):
    """Start two processes; the run never ends by itself."""
    coordinator = ("--coordinator", f"localhost:{free_port()}", "--processes", 2, "--devices", 4)
    options = (*OPTIONS, *options, "--workdir", workdir, "--eval-batch-size", 200)
    options += (*coordinator, "--process-timeout", 10)
    return [start("train", "digits-cnn", *options, "--process", i) for i in range(2)]


def step(workdir):
    return checkpoint.saved_step(workdir / "checkpoints/latest") or 0


def trained(workdir, pair, before):
    """Wait until they have trained on by an epoch."""
    ends = time.monotonic() + 120
    while step(workdir) < before + 23:
        assert time.monotonic() < ends
        assert all(process.poll() is None for process in pair), ended(pair)
        time.sleep(0.2)


def ended(pair):
    return [process.communicate(timeout=90)[1] for process in pair]


def test_a_signal_to_one_stops_both(tmp_path):
    pair = both(tmp_path)
    trained(tmp_path, pair, 0)
    pair[1].send_signal(signal.SIGTERM)  # the one that does not write
    said = ended(pair)
    assert [process.returncode for process in pair] == [130, 130], said
    assert f"stopped at step {step(tmp_path)}, saved in" in said[0]


@pytest.mark.parametrize("lost", [1, 0])
def test_a_lost_process_ends_the_other_and_leaves_the_checkpoint(lost, tmp_path):
    """One process goes on from it."""
    pair = both(tmp_path)
    trained(tmp_path, pair, 0)
    pair[lost].kill()
    left = pair[1 - lost]
    said = ended(pair)[1 - lost]
    assert left.returncode == 1, said
    assert f"error: process {lost} ended or was lost" in said and "--resume" in said
    assert "Traceback" not in said and "stack trace" not in said
    last = step(tmp_path)
    assert int(runs.load(tmp_path, "latest").state.step) == last >= 23
    options = (*OPTIONS, "--workdir", tmp_path, "--eval-batch-size", 200, "--resume")
    alone = start("train", "digits-cnn", *options)
    trained(tmp_path, [alone], last)
    alone.terminate()
    ended([alone])
    assert alone.returncode == 130


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("localhost", 2, 0), "expected HOST:PORT"),
        (("localhost:1", 2, 2), "process=2"),
        (("localhost:1", None, 0), "processes=None"),
    ],
)
def test_numbers_that_do_not_go_together(arguments, message):
    with pytest.raises(ValueError, match=message):
        processes.start(*arguments)


def test_time_limit_is_checked():
    with pytest.raises(ValueError, match="process_timeout=0: expected at least 1 second"):
        processes.start("localhost:1", 2, 0, timeout=0)


ALONE = """
import functools
import jax
from jaxcnn import processes
jax.distributed.initialize = functools.partial(jax.distributed.initialize, initialization_timeout=1)
processes.start("localhost:{port}", 2, 1)
"""


def test_a_process_that_stays_alone_says_so():
    command = [sys.executable, "-c", ALONE.format(port=free_port())]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 1
    assert done.stderr.strip() == "error: the processes did not find each other in time"


def test_options_of_the_script_that_do_not_go_together():
    said = call("train", "digits-cnn", "--processes", 2, status=2)
    assert "expected --coordinator with them" in said
    said = call("train", "digits-cnn", "--devices", 0, status=2)
    assert "error: devices=0: expected 1 to " in said
    said = call("train", "digits-cnn", "--devices", 3, status=2)
    assert "error: batch_size=64: expected a multiple of 3, the number of devices" in said


def test_one_process_is_the_first_and_agrees_with_itself():
    assert processes.first() and not processes.several()
    assert processes.from_first(lambda: [1, 2]) == [1, 2]
    with pytest.raises(KeyError):
        processes.from_first(lambda: {}["a"])
    assert processes.agreed(True, 7) == (True, 7)
    with pytest.raises(SystemExit) as ended:
        processes.leave(2)
    assert ended.value.code == 2
