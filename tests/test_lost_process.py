"""An exception of C++ that nothing catches, while processes train together."""

import signal
import subprocess
import sys
import time

import pytest

from jaxcnn import lost_process

PROCESS = """
import ctypes, os, threading, time
from jaxcnn import lost_process
lost_process._GRACE = {grace}
lost_process.watch()
lost_process.expect(3, 1)
throw = ctypes.CDLL("libstdc++.so.6")._ZSt21__throw_runtime_errorPKc
threading.Thread(target=throw, args=(b"of an exchange",)).start()
time.sleep(0.5)
os.write(2, b"Polled an error from coordination service\\n" * {heard})
os.write(2, {words} * {heard})
time.sleep(60)
"""
WORDS = lost_process._FATAL + b": " + lost_process._UNHEALTHY + b":\n/job:jax_worker/task:2\n"


def ended(**settings):
    command = [sys.executable, "-c", PROCESS.format(words=WORDS, **settings)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.mark.skipif(sys.platform != "linux", reason="libstdc++ is Linux'")
def test_an_uncaught_exception_waits_until_the_lost_process_is_known():
    done = ended(grace=30, heard=1)
    assert done.returncode == 1
    assert done.stderr.startswith("error: process 2 ended or was lost (no sign of life); the run")
    assert done.stderr.count("\n") == 1


@pytest.mark.skipif(sys.platform != "linux", reason="libstdc++ is Linux'")
def test_an_uncaught_exception_aborts_where_no_process_is_lost():
    begun = time.monotonic()
    done = ended(grace=0, heard=0)
    assert done.returncode == -signal.SIGABRT
    assert "std::runtime_error" in done.stderr and "of an exchange" in done.stderr
    assert time.monotonic() - begun >= 1
