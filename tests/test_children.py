"""The helper that tests look for leftovers with does not stumble over threads that end."""

import subprocess
import sys
from pathlib import Path

import pytest
from children import processes


@pytest.mark.parametrize("error", [FileNotFoundError, ProcessLookupError])
def test_child_processes_are_seen_though_a_thread_ends_before_it_is_read(monkeypatch, error):
    read = Path.read_text
    ended = iter([True])

    def read_text(path):
        if next(ended, False):
            raise error(path)
        return read(path)

    others = set(processes())
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        monkeypatch.setattr(Path, "read_text", read_text)
        seen = set(processes()) - others
        child.kill()
    assert seen == {child.pid}
    assert next(ended, None) is None
