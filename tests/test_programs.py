"""Compiled programs that are kept from run to run, and freed memory that stays with the process."""

import os
import subprocess
import sys

import pytest

from jaxcnn import programs

CODE = """
import sys
import jax, jax.numpy as jnp
from jaxcnn import programs
programs.keep(sys.argv[1] == "on")
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
jax.jit(lambda x: jnp.tanh(x @ x))(jnp.ones((8, 8))).block_until_ready()
print(jax.config.jax_compilation_cache_dir)
"""


def told(tmp_path, enabled="on", **variables):
    unset = ("JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS")
    environment = {k: v for k, v in os.environ.items() if k not in unset}
    environment |= {"XDG_CACHE_HOME": str(tmp_path / "home"), **variables}
    command = [sys.executable, "-c", CODE, enabled]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def files(folder):
    return sorted(p.name for p in folder.rglob("*") if p.is_file() and "atime" not in p.name)


def test_a_second_run_compiles_nothing(tmp_path):
    folder = told(tmp_path)
    assert folder == str(tmp_path / f"home/jaxcnn/programs-{programs._processor()}")
    first = files(tmp_path)
    assert first
    assert told(tmp_path) == folder and files(tmp_path) == first


def test_it_can_be_switched_off(tmp_path):
    told(tmp_path, "off")
    assert files(tmp_path) == []
    told(tmp_path, JAX_ENABLE_COMPILATION_CACHE="0")
    assert files(tmp_path) == []


def test_the_users_own_folder_stays(tmp_path):
    own = str(tmp_path / "own")
    assert told(tmp_path, JAX_COMPILATION_CACHE_DIR=own) == own
    assert files(tmp_path / "own") and not (tmp_path / "home").exists()


MEMORY = """
import resource, sys
from jaxcnn import memory
kept = sys.argv[1] == "on" and memory.keep_freed()
import jax, jax.numpy as jnp, numpy as np
@jax.jit
def program(x):
    return jnp.sum((x @ x.T) @ x)
def faults(call):
    call()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        call()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
x = jnp.ones((1 << 12, 8))
print(kept, faults(lambda: np.ones(8 << 20, np.uint8)), faults(lambda: float(program(x))))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="what mallopt does is glibc's matter")
def test_freed_memory_is_handed_out_again():
    """Four times 64 MiB are 65,536 pages, each of which the system hands out once or anew.

    A program's own memory is more than any but the main thread could keep.
    """
    found = {}
    for kept in ("on", "off"):
        command = [sys.executable, "-c", MEMORY, kept]
        out = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
        found[kept] = out.stdout.split()
    assert found["on"][0] == "True" and max(map(int, found["on"][1:])) < 1000
    assert found["off"][0] == "False" and int(found["off"][2]) > 50_000
