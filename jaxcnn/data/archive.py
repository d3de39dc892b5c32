"""Image archives (.tar, .tar.gz, .tar.xz, .tar.bz2, .zip), read member by member, never unpacked.

Nothing is written under a name that an archive supplies: members are read into memory, and absolute
names or names with ".." are refused all the same. Links and devices are passed over.
"""

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from jaxcnn.data.dataset import DataError

SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".tbz2", ".zip")
_BLOCK = 512
_DAMAGE = (
    tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError, zlib.error, EOFError, OSError,
    RuntimeError, NotImplementedError,  # zip: encrypted, unknown compression
)  # fmt: skip
_MEMBER_DAMAGE = (zipfile.BadZipFile, lzma.LZMAError, zlib.error, EOFError)  # of one file in a zip


class Member(NamedTuple):
    """Where a file lies: a tar's data offset in the unpacked stream, or a zip's stored name."""

    offset: int
    size: int
    stored: str


def list_members(path: Path) -> tuple[dict[str, Member], set[str]]:
    """Return an archive's files by normalised relative name, and the names of its directories.

    Raises:
        DataError: a damaged or truncated archive, or a member that points outside of it.
    """
    try:
        return _list_zip(path) if path.suffix == ".zip" else _list_tar(path)
    except _DAMAGE as error:
        raise _damaged(path, error) from error


def read_members(
    path: Path, members: dict[str, Member], names: Iterable[str]
) -> Iterator[tuple[str, bytes | DataError]]:
    """Yield (name, bytes) of the files `names`, in the archive's order, in one pass over it.

    In place of the bytes comes the error where one file of a zip is damaged, which has checksums
    of each; behind damage in a packed tar nothing can be read.

    Raises:
        DataError: a damaged or truncated archive.
    """
    wanted = sorted(names, key=lambda name: members[name].offset)
    try:
        if path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive:
                for name in wanted:
                    yield name, _read_zipped(archive, name, members[name])
            return
        with _open_stream(path) as stream:
            for name in wanted:
                stream.seek(members[name].offset)
                data = stream.read(members[name].size)
                if len(data) != members[name].size:
                    raise EOFError(f"{name} is truncated")
                yield name, data
    except _DAMAGE as error:
        raise _damaged(path, error) from error


def _read_zipped(archive: zipfile.ZipFile, name: str, member: Member) -> bytes | DataError:
    try:
        return archive.read(member.stored)
    except _MEMBER_DAMAGE as error:
        return DataError(f"{name}: damaged in the archive ({error or type(error).__name__})")


def _list_tar(path: Path) -> tuple[dict[str, Member], set[str]]:
    members, directories, end = {}, set(), 0
    with _open_stream(path) as stream, tarfile.open(fileobj=stream, mode="r:") as archive:
        for item in archive:
            name = _checked(path, item.name)
            if item.isdir():
                directories.add(name)
            elif item.isreg() and not item.issparse():
                members[name] = Member(item.offset_data, item.size, item.name)
            data = item.size if item.isreg() else 0
            end = item.offset_data + -(-data // _BLOCK) * _BLOCK
        # tarfile takes a damaged header, or a file cut between members, for the end of the archive.
        # The real end is a block of zeros.
        stream.seek(end)
        if stream.read(_BLOCK) != bytes(_BLOCK):
            raise EOFError("it breaks off, or a header is damaged, after its last readable member")
    return members, directories


def _list_zip(path: Path) -> tuple[dict[str, Member], set[str]]:
    members, directories = {}, set()
    with zipfile.ZipFile(path) as archive:
        for item in archive.infolist():
            name = _checked(path, item.filename)
            if item.is_dir():
                directories.add(name)
            else:
                members[name] = Member(item.header_offset, item.file_size, item.filename)
    return members, directories


def _open_stream(path: Path) -> io.BufferedReader:
    """Open the unpacked bytes of a tar, told by its first bytes and not by its name.

    The large buffer halves the time: tarfile seeks by a few bytes, which is cheap inside a buffer.
    """
    with path.open("rb") as file:
        magic = file.read(6)
    if magic[:2] == b"\x1f\x8b":
        unpacked: Any = gzip.open(path)
    elif magic == b"\xfd7zXZ\x00":
        unpacked = lzma.open(path)
    elif magic[:3] == b"BZh":
        unpacked = bz2.open(path)
    else:
        unpacked = path.open("rb", buffering=0)
    return io.BufferedReader(unpacked, 1 << 20)


def _checked(path: Path, name: str) -> str:
    """Normalise a member's name ("./a/b/" is "a/b"), refusing one that leaves the archive."""
    pure = PurePosixPath(name)
    if pure.is_absolute() or ".." in pure.parts:
        raise DataError(f"{path}: refuses the member {name!r}, which points outside the archive")
    return str(pure)


def _damaged(path: Path, error: Exception) -> DataError:
    return DataError(f"{path}: not a readable archive ({error or type(error).__name__})")
