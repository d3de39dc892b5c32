"""What a run leaves behind and shows: config.json, metrics.jsonl and (from `progress`) progress.

Both files are strict JSON. JSON has no word for NaN and the infinities: they are written as the
strings "NaN", "Infinity" and "-Infinity" (as the protocol buffers' JSON mapping does), and
the readers give them back as floats. All other floats are written with the shortest digits that
read back to the same value.
"""

import json
import math
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

import jaxcnn
from jaxcnn.files import write_atomically
from jaxcnn.progress import progress, say

__all__ = [
    "append_metrics",
    "progress",
    "read_config",
    "read_metrics",
    "say",
    "truncate_metrics",
    "write_config",
]

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "pillow")
_PACKAGES_IF_THERE = ("jax-cuda12-plugin", "jax-cuda13-plugin", "tensorflow-datasets")
_NON_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def write_config(workdir: str | os.PathLike, settings: Mapping[str, Any]) -> None:
    """Record how a run was started in `workdir`/config.json; call it again on every resume.

    The first call writes "settings", "versions" (Python, jaxcnn and what it stands on; None where
    a package is not installed), "device" ("platform", "kind", "count"), "git" ("commit" and "dirty"
    of the checkout that holds jaxcnn, both None where there is none), "command" (sys.argv as a
    shell would take it), "time" (UTC, ISO 8601) and an empty list "resumes". A later call leaves
    all that alone and appends to "resumes" one entry with the same fields, of the settings only
    those whose value is another than at first ("changed_settings").

    Args:
        workdir: the run's folder; made where it is missing.
        settings: names to values: None, bool, int, float, str, Path, NumPy or JAX scalars and
            arrays, and lists, tuples and mappings of them.

    Raises:
        TypeError: a setting has no JSON form.
        ValueError: config.json is there and broken.
    """
    path = Path(workdir) / "config.json"
    plain = {name: _to_json(value, name) for name, value in settings.items()}
    start = {
        "versions": _versions(),
        "device": _device(),
        "git": _git(),
        "command": shlex.join(sys.argv),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    if path.exists():
        config = _to_json(read_config(workdir), "config")
        first = config["settings"]
        changed = {k: v for k, v in plain.items() if k not in first or first[k] != v}
        config.setdefault("resumes", []).append({**start, "changed_settings": changed})
    else:
        config = {"settings": plain, **start, "resumes": []}
    text = json.dumps(config, indent=2, allow_nan=False)
    write_atomically(path, f"{text}\n".encode())


def read_config(workdir: str | os.PathLike) -> dict[str, Any]:
    """Read `workdir`/config.json as `write_config` wrote it.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is not JSON, or not an object with "settings".
    """
    path = Path(workdir) / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file; is {workdir} a run's folder?") from None
    except ValueError as error:  # JSONDecodeError and UnicodeDecodeError
        raise ValueError(f"{path}: not valid JSON: {error}") from None
    if not isinstance(config, dict) or not isinstance(config.get("settings"), dict):
        raise ValueError(f'{path}: not a run\'s config: it has no object "settings"')
    return _from_json(config)


def append_metrics(workdir: str | os.PathLike, row: Mapping[str, Any]) -> None:
    """Append one line of JSON to `workdir`/metrics.jsonl; it is with the system on return.

    A half-written line that a killed process left at the end is dropped first.

    Args:
        workdir: the run's folder; made where it is missing.
        row: names to values as in `write_config`; "step" (int >= 0) is required, for resuming.

    Raises:
        TypeError: a value has no JSON form.
        ValueError: there is no integer "step".
    """
    plain = {name: _to_json(value, name) for name, value in row.items()}
    if not _is_step(plain.get("step")):
        raise ValueError(f'a row of metrics needs an integer "step" >= 0, got {dict(row)}')
    path = Path(workdir) / "metrics.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps(plain, allow_nan=False)
    if path.exists() and not _ends_in_newline(path):
        write_atomically(path, b"".join(kept for kept, _ in _read_lines(path)))
    with path.open("ab") as file:
        file.write(f"{line}\n".encode())  # one write: a reader beside us sees all of it or none


def read_metrics(workdir: str | os.PathLike) -> list[dict[str, Any]]:
    """Read the rows of `workdir`/metrics.jsonl in the order they were written.

    A half-written last line, as a killed process leaves it, is ignored.

    Raises:
        FileNotFoundError: there is no metrics.jsonl.
        ValueError: another line is not a JSON object; the message names file and line.
    """
    path = Path(workdir) / "metrics.jsonl"
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file; is {workdir} a run's folder?")
    return [row for _, row in _read_lines(path)]


def truncate_metrics(workdir: str | os.PathLike, step: int) -> None:
    """Keep only the rows of `workdir`/metrics.jsonl up to and with `step`, atomically.

    For resuming: the rows that were written after the checkpoint go, so that the resumed run
    leaves the file that an uninterrupted one would. Kept lines stay byte for byte; no file is no
    error.

    Raises:
        ValueError: a line is broken or has no "step"; the file is left as it was.
    """
    path = Path(workdir) / "metrics.jsonl"
    if not path.exists():
        return
    kept = []
    for number, (line, row) in enumerate(_read_lines(path), start=1):
        if not _is_step(row.get("step")):
            raise ValueError(f'{path}, line {number}: no integer "step"')
        if row["step"] <= step:
            kept.append(line)
    write_atomically(path, b"".join(kept))


def _to_json(value: Any, name: str) -> Any:
    if hasattr(value, "__array__"):
        value = np.asarray(value).tolist()  # a NumPy scalar becomes a Python one
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        if math.isfinite(value):
            return value
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return {str(key): _to_json(item, f"{name}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_to_json(item, name) for item in value]
    raise TypeError(f"{name}: {type(value).__name__} has no JSON form")


def _from_json(value: Any) -> Any:
    if isinstance(value, list):
        return [_from_json(item) for item in value]
    if isinstance(value, dict):
        return {key: _from_json(item) for key, item in value.items()}
    return _NON_FINITE.get(value, value) if isinstance(value, str) else value


def _is_step(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _read_lines(path: Path) -> list[tuple[bytes, dict[str, Any]]]:
    """Give every line (with its newline) and the row it holds, less a half-written last one."""
    lines = path.read_bytes().splitlines(keepends=True)
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            if not isinstance(row, dict):
                raise ValueError(f"not an object: {line[:40]!r}")
        except ValueError as error:
            if number == len(lines) and not line.endswith(b"\n"):
                break
            raise ValueError(f"{path}, line {number}: not a row of metrics: {error}") from None
        rows.append((line.rstrip(b"\r\n") + b"\n", _from_json(row)))
    return rows


def _ends_in_newline(path: Path) -> bool:
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return True
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def _versions() -> dict[str, str | None]:
    versions: dict[str, str | None] = {
        "python": platform.python_version(),
        "jaxcnn": jaxcnn.__version__,
    }
    for package in (*_PACKAGES, *_PACKAGES_IF_THERE):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            if package in _PACKAGES:
                versions[package] = None
    return versions


def _device() -> dict[str, Any]:
    import jax  # here: reading and plotting metrics needs no JAX

    devices = jax.devices()
    kind = devices[0].device_kind
    return {"platform": devices[0].platform, "kind": kind, "count": len(devices)}


def _git() -> dict[str, Any]:
    package = Path(__file__).parent

    def git(*arguments: str) -> str | None:
        command = ["git", "--no-optional-locks", "-C", str(package), *arguments]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=10)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    # Installed into an environment inside some other project's checkout, the package is not of it.
    if git("ls-files", "--error-unmatch", "__init__.py") is None:
        return {"commit": None, "dirty": None}
    changes = git("status", "--porcelain")  # untracked files too: one of them may be the network
    return {"commit": git("rev-parse", "HEAD"), "dirty": None if changes is None else changes != ""}
