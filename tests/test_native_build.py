"""The compiled library: made once, by one process, and done without where it cannot be made."""

import os
import shutil
import stat
import subprocess
import sys
import time

import pytest

from jaxcnn.native import build

CODE = """
import warnings
import jax.numpy as jnp
from jaxcnn import native
from jaxcnn.layers import conv2d
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    out = conv2d(jnp.ones((1, 5, 5, 8)), jnp.ones((3, 3, 4, 8)), groups=2)
assert out.shape == (1, 3, 3, 8) and float(out[0, 0, 0, 0]) == 36
print(native.available("float32"), *(str(w.message) for w in caught))
"""


@pytest.fixture
def compiler():
    found = build._compiler()
    if found is None:
        pytest.skip("no C++ compiler")
    return found


def start(cache, **variables):
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache), **variables}
    command = [sys.executable, "-c", CODE]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def told(process):
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 0
    return out.strip()


def test_two_processes_make_one_library(compiler, tmp_path):
    """The compiler is a script that notes its calls, and compiles nothing the second time."""
    library = build._built(compiler, "float32")
    calls = tmp_path / "calls"
    script = tmp_path / "c++"
    script.write_text(
        "#!/bin/sh\n"
        f'case "$*" in *-dM*) exec {compiler} "$@";; esac\n'
        f"echo once >> {calls}\n"
        f'for last; do :; done\nsleep 1\ncp {library} "$last"\n'
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    processes = [start(tmp_path / "cache", CXX=str(script)) for _ in range(2)]
    assert [told(process) for process in processes] == ["True", "True"]
    assert calls.read_text() == "once\n"
    made = [p.name for p in (tmp_path / "cache/jaxcnn").iterdir() if p.suffix != ".lock"]
    assert len(made) == 1 and made[0].endswith(".so")


def test_a_compiler_that_fails_is_named_and_done_without(tmp_path):
    script = tmp_path / "c++"
    script.write_text("#!/bin/sh\necho no such standard >&2\nexit 1\n")
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    out = told(start(tmp_path / "cache", CXX=str(script)))
    assert out.startswith(f"False {script} could not make our own CPU code")
    assert "no such standard" in out


def test_it_can_be_switched_off(tmp_path):
    assert told(start(tmp_path, JAXCNN_NATIVE="0")) == "False"
    assert not any(tmp_path.iterdir())


def test_without_a_compiler(tmp_path):
    folder = tmp_path / "bin"
    folder.mkdir()
    out = told(start(tmp_path / "cache", PATH=str(folder), CXX="none"))
    assert out == "False" and not (tmp_path / "cache").exists()
    assert shutil.which("none") is None


def test_a_library_of_another_time_is_kept_beside(compiler, tmp_path, monkeypatch):
    """Another jaxlib, compiler, processor or source makes another file."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    done = []
    monkeypatch.setattr(build, "_run", lambda command: done.append(command) or _output(command))
    first = build._built(compiler, "float32")
    assert build._built(compiler, "float32") == first
    monkeypatch.setattr(build, "version", lambda _: "0.0")
    assert build._built(compiler, "float32") != first and first.exists()
    assert sum("-o" in command for command in done) == 2


def _output(command):
    if "-o" in command:
        with open(command[-1], "w") as file:
            file.write(str(time.time()))
    return ""
