"""Threads and worker processes that decode files: bare, shared, ended, their errors told."""

import os
import pickle
import signal
import subprocess
import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from subprocess import PIPE

import numpy as np
import pytest
from children import loading, processes
from PIL import Image

from jaxcnn import data
from jaxcnn.data import worker
from jaxcnn.data.readers import PART, Readers, reading


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    found = [str(folder / f"{number}.png") for number in range(40)]
    for number, path in enumerate(found):
        Image.fromarray(np.full((6, 5, 3), number, np.uint8)).save(path)
    return found


def split(paths):
    return data.Files(tuple(paths), np.arange(len(paths), dtype=np.int32), (6, 5, 3))


def read(readers, paths):
    images = np.empty((len(paths), 6, 5, 3), np.uint8)
    readers.read(paths, (6, 5, 3), images).result()
    return images[:, 0, 0, 0].tolist()


@pytest.mark.parametrize("workers", [0, 1])
def test_images_are_read_image_s(paths, workers):
    with Readers(workers) as readers:
        assert loading() == ([], [])  # nothing starts before it is needed
        assert read(readers, paths[:PART]) == list(range(PART))
        assert len(processes()) == workers
    assert loading() == ([], [])


def test_a_process_is_bare(paths):
    """It has imported no JAX, and is out of reach of the terminal's Ctrl-C."""
    with Readers(1) as readers:
        read(readers, paths[:1])
        (number,) = processes()
        maps = Path(f"/proc/{number}/maps").read_text()
        assert "PIL" in maps and "jaxlib" not in maps
        assert os.getpgid(number) != os.getpgid(0)


def test_the_same_processes_serve_every_epoch_and_evaluation(paths):
    whole = split(paths)
    with Readers(1) as readers:
        options = {"seed": 0, "workers": readers}
        first = list(data.train_batches(whole, 10, epoch=0, **options))
        started = processes()
        next(data.train_batches(whole, 10, epoch=1, **options))  # left early
        again = list(data.train_batches(whole, 10, epoch=0, **options))
        seen = [b["labels"][b["mask"]] for b in data.eval_batches(whole, 16, workers=readers)]
        assert processes() == started and len(started) == 1
    np.testing.assert_array_equal(np.concatenate(seen), whole.labels)
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one["images"], other["images"])
    assert loading() == ([], [])


@pytest.mark.parametrize("workers", [0, 1])
def test_errors_keep_their_kind_and_readers_go_on(paths, tmp_path, workers):
    damaged, missing = tmp_path / "damaged.png", str(tmp_path / "missing.png")
    damaged.write_bytes(b"\x89PNG\r\n\x1a\n")
    with Readers(workers) as readers:
        with pytest.raises(data.DataError, match="damaged.png"):
            read(readers, [paths[0], str(damaged), missing])
        with pytest.raises(FileNotFoundError, match="missing.png"):
            read(readers, [missing, str(damaged)])
        assert read(readers, paths[3:5]) == [3, 4]


@pytest.fixture
def endless(tmp_path):
    """Return a file that never ends, and a function that waits until someone reads it."""
    os.mkfifo(tmp_path / "endless.png")
    with ExitStack() as stack:
        # Opening it for writing takes as long as nobody has opened it for reading.
        wait = partial(open, tmp_path / "endless.png", "wb")
        yield str(tmp_path / "endless.png"), lambda: stack.enter_context(wait())


def test_a_process_that_is_killed_is_told_and_replaced(paths, endless):
    path, wait = endless
    with Readers(1) as readers:
        images = np.empty((2, 6, 5, 3), np.uint8)
        pending = readers.read([path, paths[0]], (6, 5, 3), images)
        wait()
        (number,) = processes()
        os.kill(number, signal.SIGKILL)
        with pytest.raises(data.DataError, match=r"status -9 .*endless.png or one of the 1 files"):
            pending.result()
        assert read(readers, paths[:1]) == [0] and processes() != [number]
    assert loading() == ([], [])


def test_closing_does_not_wait_for_what_hangs(paths, endless):
    path, wait = endless
    readers = Readers(1)
    pending = [readers.read([path], (6, 5, 3), np.empty((1, 6, 5, 3), np.uint8)) for _ in "ab"]
    wait()
    readers.close()
    assert loading() == ([], []) and pending[1].cancelled()


@pytest.mark.parametrize("answered", [True, False])
def test_a_process_ends_quietly_with_the_one_that_asks(paths, answered):
    """The other end of its pipes closes while it waits, or before it has answered."""
    command = [sys.executable, "-P", worker.__file__]
    with subprocess.Popen(command, stdin=PIPE, stdout=PIPE, stderr=PIPE) as process:
        request = pickle.dumps((paths[:1], (6, 5, 3)))
        if answered:
            process.stdin.write(request)
            process.stdin.flush()
            assert pickle.load(process.stdout) is None and len(process.stdout.read(90)) == 90
        process.stdout.close()
        if not answered:
            process.stdin.write(request)
        process.stdin.close()
        assert process.stderr.read() == b"" and process.wait() == 0


def test_numbers_of_readers(paths):
    cores = len(os.sched_getaffinity(0))
    with Readers() as chosen, Readers(0) as threads, Readers(3) as three:
        assert (chosen.parallel, threads.parallel, three.parallel) == (min(cores, 32), cores, 3)
        with reading(three) as lent:
            assert lent is three
        assert read(three, paths[:2]) == [0, 1]  # what was lent is not closed
    with pytest.raises(data.DataError, match="workers=-2: expected 0 or more"):
        Readers(-2)
