"""Decoded images, and what was learnt from them, kept on disk: a folder is decoded once.

A cache is a file (or, for streaming, a directory of files) in `cache_root`. It holds a fingerprint
of what it was made from and is rebuilt when that changes or when it cannot be read. It is written
under a temporary name and then renamed: there is a whole cache or none.
"""

import hashlib
import json
import os
import re
import shutil
import tempfile
import warnings
import zipfile
import zlib
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from jaxcnn.files import atomic_file, write_atomically

_VERSION = 2  # of the files' layout and of how images are decoded
_UNREADABLE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error)


def cache_path(root: Path, source: Path, variant: str) -> Path:
    """Return the path for a `source` in a `variant` (e.g. "224x224x3"): one, whatever changes."""
    digest = hashlib.sha256(str(source.resolve()).encode()).hexdigest()[:12]
    return root / f"{re.sub(r'[^A-Za-z0-9._-]', '_', source.name)}-{digest}-{variant}"


def fingerprint(files: Iterable[tuple[str, os.stat_result]], how: str = "") -> str:
    """Digest the names, sizes and modification times of files, and `how` they are decoded."""
    digest = hashlib.sha256(f"version {_VERSION}{how}\n".encode())
    for name, stat in files:
        digest.update(f"{name}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def read_arrays(path: Path, key: str) -> dict[str, np.ndarray] | None:
    """Return the arrays kept in `path`; None where there are none, of another `key` or damaged.

    The format is .npz, whose checksums are verified while reading, and without pickles.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            if str(stored["fingerprint"]) != key:
                return None
            return {name: stored[name] for name in stored.files if name != "fingerprint"}
    except _UNREADABLE:
        return None


def write_arrays(
    path: Path,
    key: str,
    arrays: dict[str, np.ndarray],
    *,
    what: tuple[str, str] = ("decoded images", "decoded"),
) -> None:
    """Write arrays to `path`, whole or not at all; where that fails, warn and go on without.

    `what` they are and how they are made is for the warning.
    """
    try:
        with atomic_file(path) as file:
            np.savez(file, fingerprint=np.array(key), **arrays)  # pyright: ignore[reportArgumentType]
    except OSError as error:
        _warn(path, *what, error)


def read_json(path: Path, key: str) -> Any:
    """Return the content kept in `path`; None where there is none, of another `key` or damaged."""
    try:
        stored = json.loads(path.read_bytes())
        return stored["content"] if stored["fingerprint"] == key else None
    except (*_UNREADABLE, TypeError):
        return None


def write_json(path: Path, key: str, content: Any) -> None:
    """Write `content` to `path`, whole or not at all; where that fails, warn and go on without."""
    try:
        write_atomically(path, _as_json(key, content))
    except OSError as error:
        _warn(path, "results", "computed", error)


def _as_json(key: str, content: Any) -> bytes:
    return json.dumps({"fingerprint": key, "content": content}).encode()


def _warn(path: Path, what: str, made: str, error: OSError) -> None:
    warnings.warn(
        f"cannot keep {what} in {path} ({error}); they are {made} again next time. "
        "Choose another place with cache_dir or XDG_CACHE_HOME",
        stacklevel=3,
    )


def read_directory(path: Path, key: str) -> dict | None:
    """Return the index of an unpacked source; None where there is none or of another `key`."""
    return read_json(path / "index.json", key)


def write_directory(
    path: Path, key: str, content: dict, files: Iterable[tuple[str, bytes]]
) -> None:
    """Write `files` (name, bytes) and the index into the directory `path`, whole or not at all.

    Raises:
        OSError: the place is not writable or full (streaming cannot do without).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=path.name, suffix=".tmp"))
    try:
        for name, data in files:
            (temporary / name).write_bytes(data)
        (temporary / "index.json").write_bytes(_as_json(key, content))
        same = json.loads(_as_json(key, content))["content"]
        with tempfile.TemporaryDirectory(dir=path.parent, suffix=".tmp") as aside:
            while True:
                try:  # a directory takes the place of none or of an empty one, never of another
                    os.replace(temporary, path)
                    return
                except OSError:
                    if not path.is_dir():
                        raise
                if read_directory(path, key) == same:  # another process was faster, and reads it
                    break
                with suppress(FileNotFoundError):  # another process moves the old one away too
                    os.replace(path, tempfile.mkdtemp(dir=aside))
        shutil.rmtree(temporary)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def file_name(position: int, name: str) -> str:
    """Name an unpacked file by its position, its own name made harmless behind it for errors."""
    return f"{position:07d}-{re.sub(r'[^A-Za-z0-9._-]', '_', name)[-100:]}"
