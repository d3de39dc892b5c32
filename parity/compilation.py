"""How the Flax side of a comparison is compiled: in one dtype throughout, and quickly."""

from collections.abc import Callable
from contextlib import contextmanager
from functools import cache
from typing import Any

import jax


@contextmanager
def precision(dtype: str):
    """Compute in one dtype throughout: JAX's x64 mode for float64 only, and no TF32 on a GPU."""
    with jax.enable_x64(dtype == "float64"), jax.default_matmul_precision("highest"):
        yield


def compiled(function: Callable) -> Callable:
    """Compile a function that runs once or ten times: quickly, not for speed."""
    return jax.jit(function, compiler_options=quick_compilation())


@cache
def quick_compilation() -> dict[str, Any] | None:
    """Return the compiler options of a program that runs once or ten times.

    LLVM's optimisation takes longer than all the rest of a comparison, and on a CPU the fusion
    emitters three times as long as what they replaced (the gradient of `googlenet_cifar`: 25 and 7
    s of one core, the program equally fast). Newer jaxlibs have nothing else and know no such
    option.
    """
    if jax.default_backend() != "cpu":
        return None
    options = {"xla_backend_optimization_level": 0}
    older = {**options, "xla_cpu_use_fusion_emitters": False}
    try:
        jax.jit(lambda: 0).lower().compile(compiler_options=older)
    except jax.errors.JaxRuntimeError as error:
        if "No such compile option" not in str(error):
            raise
        return options
    return older
