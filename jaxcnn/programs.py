"""Programs that XLA compiled, kept from run to run by JAX's persistent compilation cache."""

import hashlib
import os
import platform
from pathlib import Path

import jax

from jaxcnn.files import cache_root

_LEAST_SECONDS = 0.3  # what compiles sooner is not worth a file


def keep(enabled: bool = True) -> None:
    """Keep compiled programs in the user's cache folder, for later runs on the same processor.

    A run of the same network, batch size and options then begins within a second where it compiled
    for several before (`scripts/compile_time.py` measures both). The folder is $XDG_CACHE_HOME or
    ~/.cache, `jaxcnn/programs-...`; it can be deleted at any time. JAX's own variables come first:
    with JAX_COMPILATION_CACHE_DIR its folder is used, with JAX_ENABLE_COMPILATION_CACHE=0 none.

    Args:
        enabled: False switches the cache off, wherever its folder is.
    """
    if not enabled:
        jax.config.update("jax_enable_compilation_cache", False)
    elif jax.config.values["jax_compilation_cache_dir"] is None:
        folder = cache_root(None) / f"programs-{_processor()}"
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", _LEAST_SECONDS)


def _processor() -> str:
    """Return a name for what this machine can run: a folder may be shared by several machines."""
    features = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if os.access(cpuinfo, os.R_OK):
        wanted = ("model name", "flags", "Features")
        lines = cpuinfo.read_text(errors="replace").splitlines()
        features += "\n".join(sorted({line for line in lines if line.startswith(wanted)}))
    return hashlib.sha256(f"{platform.machine()} {features}".encode()).hexdigest()[:12]
