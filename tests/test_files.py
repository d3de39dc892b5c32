import os

import pytest

from jaxcnn.files import atomic_file, write_atomically


def test_files_are_replaced_whole(tmp_path):
    path = tmp_path / "deep/file"
    write_atomically(path, b"first")
    with atomic_file(path) as file:
        file.write(b"second")
        file.flush()
        assert path.read_bytes() == b"first"
    assert path.read_bytes() == b"second"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_a_broken_write_leaves_what_was_there(error, tmp_path):
    path = tmp_path / "file"
    write_atomically(path, b"first")
    with pytest.raises(type(error)), atomic_file(path) as file:
        file.write(b"half")
        raise error
    assert path.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [path]


def test_written_files_have_ordinary_rights(tmp_path):
    mask = os.umask(0)
    os.umask(mask)
    write_atomically(tmp_path / "a", b"1")
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o666 & ~mask
