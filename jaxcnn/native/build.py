"""Compile the library for this machine, keep it, and hand its functions to XLA."""

import ctypes
import hashlib
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version
from pathlib import Path

import jax

from jaxcnn.files import cache_root

FUNCTIONS = (
    *("outputs", "images", "kernel", "unpool"),
    *("moments", "products", "normal", "norm_gradient", "running"),
    *("sgd", "adam", "adagrad", "hold", "join"),
)
"""What the library computes: see handlers.cc and training_handlers.h."""
DTYPES = {"float32": "F32", "float64": "F64"}
"""Number types, and XLA's names for them. Each has a library of its own."""

_SOURCES = Path(__file__).parent
_FLAGS = ("-O3", "-march=native", "-std=c++20", "-fPIC", "-shared", "-fno-math-errno", "-Wno-psabi")


@cache
def available(dtype: str) -> bool:
    """Return whether the library's functions are at hand as `jaxcnn_FUNCTION_DTYPE`.

    The first call compiles it where that was not done before.

    Args:
        dtype: "float32" or "float64"; others are never at hand.

    Warns:
        RuntimeWarning: there is a compiler, but it failed.
    """
    compiler = _compiler()
    if compiler is None or dtype not in DTYPES:
        return False
    try:
        library = ctypes.CDLL(str(_built(compiler, dtype)))
    except (OSError, subprocess.SubprocessError) as error:
        told = getattr(error, "stderr", None) or str(error)
        warnings.warn(
            f"{compiler} could not make our own CPU code, XLA's slower one takes its place "
            f"(JAXCNN_NATIVE=0 chooses that): {' '.join(told.split())[:500]}",
            RuntimeWarning,
            stacklevel=2,
        )
        return False
    for function in FUNCTIONS:
        name = f"jaxcnn_{function}_{dtype}"
        capsule = jax.ffi.pycapsule(getattr(library, name))
        jax.ffi.register_ffi_target(name, capsule, platform="cpu")
    return True


def _compiler() -> str | None:
    if os.environ.get("JAXCNN_NATIVE", "1") == "0" or sys.platform == "win32":
        return None
    names = [os.environ.get("CXX"), "g++", "c++", "clang++"]
    return next((found for name in names if name and (found := shutil.which(name))), None)


def _built(compiler: str, dtype: str) -> Path:
    """Return the library for this compiler, processor, jaxlib and source, made if need be."""
    include = jax.ffi.include_dir()
    command = [compiler, *_FLAGS, f"-DJAXCNN_DTYPE={dtype}", f"-DJAXCNN_TYPE={DTYPES[dtype]}"]
    command += ["-isystem", include, str(_SOURCES / "handlers.cc")]
    # What the compiler predefines has its version and the processor's features.
    defined = _run([compiler, *_FLAGS, "-x", "c++", "-dM", "-E", os.devnull])
    digest = hashlib.sha256("\0".join([version("jaxlib"), *command, defined]).encode())
    for source in sorted([*_SOURCES.glob("*.h"), *_SOURCES.glob("*.cc")]):
        digest.update(source.read_bytes())
    path = cache_root(None) / f"native-{digest.hexdigest()[:16]}.so"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with _lock(path.with_suffix(".lock")):
            if not path.exists():  # another process may have made it meanwhile
                temporary = path.with_suffix(f".{os.getpid()}.tmp")
                try:
                    _run([*command, "-o", str(temporary)])
                    os.replace(temporary, path)
                finally:
                    temporary.unlink(missing_ok=True)
    return path


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Let one process at a time through; the system unlocks for one that dies."""
    import fcntl  # not on Windows

    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _run(command: list[str]) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
