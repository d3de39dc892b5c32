import os
import signal
from pathlib import Path
from tempfile import TemporaryDirectory

import jax
import pytest
from data_trees import SHAPE, write_tree
from long_tests import LONG

from jaxcnn import canvas, data, native
from jaxcnn.layers import forms

ROOT = Path(__file__).resolve().parents[1]


def pytest_configure(config):
    """Let all workers, and the scripts that tests start, share what XLA compiled in this run.

    The same training step is compiled by dozens of processes otherwise, seconds each.
    """
    # Shells let what they run in the background ignore Ctrl-C; tests send it, to themselves too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(config, "workerinput"):
        return  # a worker starts with the variables of the first process
    folder = TemporaryDirectory(prefix="programs-", ignore_cleanup_errors=True)
    config.add_cleanup(folder.cleanup)
    settings = {
        "jax_compilation_cache_dir": folder.name,
        "jax_persistent_cache_min_compile_time_secs": 0.3,
    }
    for name, value in settings.items():
        os.environ[name.upper()] = str(value)
        jax.config.update(name, value)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Mark long tests slow, before marks choose what runs."""
    for item in items:
        test, _, parameters = item.nodeid.rpartition("/")[2].partition("[")
        if parameters.removesuffix("]") in LONG.get(test, ()):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(autouse=True, scope="session")
def strict_dtypes():
    """Keep silent promotion out of the library: every test runs under strict rules."""
    jax.config.update("jax_numpy_dtype_promotion", "strict")


@pytest.fixture(autouse=True, scope="module")
def forgotten_programs():
    """Drop what a file's tests compiled: kept, the programs of all tests fill gigabytes."""
    yield
    jax.clear_caches()


@pytest.fixture
def float64():
    """Switch JAX to double precision for one test."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="session")
def own_code() -> None:
    """Skip tests of our own CPU code where there is none."""
    if not all(forms.native(dtype) for dtype in native.DTYPES):
        pytest.skip("no CPU code of our own: no C++ compiler, or another device")


@pytest.fixture(scope="session")
def data_root() -> Path:
    """Return the folder of real data; tests that need it are skipped where there is none."""
    root = Path(os.environ.get("JAXCNN_DATA", ROOT / "../shared/data"))
    if not root.is_dir():
        pytest.skip(f"no real data at {root}; set JAXCNN_DATA")
    return root


@pytest.fixture
def figures(monkeypatch):
    """Collect the figures instead of rendering them, which takes most of a test's time."""
    made = []
    monkeypatch.setattr(canvas, "save", lambda figure, path: made.append(figure))
    return made


@pytest.fixture
def tree(tmp_path) -> Path:
    """Write a folder of small images, see `data_trees`."""
    return write_tree(tmp_path / "tree")


@pytest.fixture
def load(tmp_path):
    """Return `data.load` of a folder source, with a cache of the test's own."""

    def call(path, **options):
        return data.load(f"folder:{path}", SHAPE, cache_dir=tmp_path / "cache", **options)

    return call
