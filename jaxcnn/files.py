"""Files written whole or not at all, and where those are kept that can be made again."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def atomic_file(path: str | os.PathLike) -> Iterator[IO[bytes]]:
    """Open a file for writing that appears under its name only when it is complete.

    It is written beside its place under a temporary name and renamed at the end of the `with`
    block; an exception in the block removes it, and an earlier file stays as it was. The folders
    above it are made.

    Args:
        path: the file; one that is there is replaced.

    Raises:
        OSError: the file cannot be written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # In the same folder: os.replace is atomic only within one file system.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_atomically(path: str | os.PathLike, data: bytes) -> None:
    """Write `data` to `path` whole or not at all, as `atomic_file` does."""
    with atomic_file(path) as file:
        file.write(data)


def cache_root(cache_dir: Path | None) -> Path:
    """Return `cache_dir`, else $XDG_CACHE_HOME/jaxcnn, else ~/.cache/jaxcnn.

    Not beside the source: data folders are often read-only, shared, or under version control.
    """
    if cache_dir is not None:
        return Path(cache_dir)
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "jaxcnn"
