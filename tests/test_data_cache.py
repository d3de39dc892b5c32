"""The cache of decoded images, and streaming from what it holds unpacked."""

import os
from pathlib import Path

import numpy as np
import pytest
from data_trees import SHAPE, WANT, contents, pack, write_image

from jaxcnn import data
from jaxcnn.data import cache, decode, encoded
from jaxcnn.files import cache_root


@pytest.fixture
def decodes(monkeypatch) -> list[str]:
    """Return a list that grows by every decoded image's name."""
    seen: list[str] = []
    real = decode.read_image

    def spy(source, image_shape, *, name=None):
        seen.append(name)
        return real(source, image_shape, name=name)

    monkeypatch.setattr(decode, "read_image", spy)
    return seen


@pytest.mark.parametrize("packed", [False, True])
def test_images_are_decoded_once_and_again_after_a_change(tree, load, tmp_path, decodes, packed):
    def source():
        return pack(tree, tmp_path / "packed.tar") if packed else tree

    path = source()
    assert contents(load(path)) == contents(load(path)) == WANT
    assert len(decodes) == 12
    write_image(tree / "train/ant/0.png", 99)
    path = source()
    os.utime(path if packed else tree / "train/ant/0.png", ns=(0, 1))
    assert contents(load(path))[0][0] == (99, 0)
    assert len(decodes) == 24
    assert len(list((tmp_path / "cache").iterdir())) == 1
    data.load(f"folder:{path}", (3, 3, 3), cache_dir=tmp_path / "cache")
    assert len(decodes) == 36


@pytest.mark.parametrize("damage", ["cut", "flipped", "other"])
def test_a_damaged_cache_is_rebuilt(tree, load, tmp_path, decodes, damage):
    load(tree)
    (path,) = (tmp_path / "cache").iterdir()
    content = bytearray(path.read_bytes())
    if damage == "cut":
        del content[len(content) // 2 :]
    elif damage == "flipped":
        content[content.index(bytes([4] * 12))] ^= 1  # one bit of a pixel
    path.write_bytes(b"something else" if damage == "other" else content)
    assert contents(load(tree)) == WANT
    assert len(decodes) == 24
    assert contents(load(tree)) == WANT
    assert len(decodes) == 24


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_an_interrupted_write_leaves_nothing(tree, load, tmp_path, monkeypatch, error):
    def interrupted(file, **arrays):
        file.write(b"half")
        raise error("stop")

    with monkeypatch.context() as patch:
        patch.setattr(cache.np, "savez", interrupted)
        if error is OSError:
            with pytest.warns(UserWarning, match="cannot keep decoded images.*cache_dir"):
                assert contents(load(tree)) == WANT
        else:
            with pytest.raises(KeyboardInterrupt):
                load(tree)
    assert not list((tmp_path / "cache").iterdir())
    assert contents(load(tree)) == WANT


def test_the_cache_has_a_default_place(tree, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    before = sorted(tree.rglob("*"))
    data.load(f"folder:{tree}", SHAPE)
    assert len(list((tmp_path / "xdg/jaxcnn").iterdir())) == 1
    assert sorted(tree.rglob("*")) == before
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_root(None) == tmp_path / "home/.cache/jaxcnn"


# Streaming


def streamed(dataset: data.Dataset) -> list[list[tuple[int, int]]]:
    assert all(isinstance(split, data.Files) for split in (dataset.train, dataset.test))
    return [
        [
            (int(data.read_image(path, SHAPE)[0, 0, 0]), int(label))
            for path, label in zip(split.paths, split.labels, strict=True)
        ]
        for split in (dataset.train, dataset.test)
    ]


@pytest.mark.parametrize("suffix", ["", ".tar.gz", ".zip"])
def test_streams_show_the_same_images(tree, load, tmp_path, suffix):
    path = pack(tree, tmp_path / f"packed{suffix}") if suffix else tree
    loaded = load(path, stream=True)
    assert loaded.train.image_shape == SHAPE and loaded.train.labels.dtype == np.int32
    assert streamed(loaded) == WANT
    for batch, want in zip(
        data.eval_batches(loaded.test, 4), data.eval_batches(load(path).test, 4), strict=True
    ):
        np.testing.assert_array_equal(batch["images"], want["images"])


def test_a_set_above_the_limit_is_streamed(tree, load, monkeypatch):
    monkeypatch.setattr(encoded, "STREAM_LIMIT", 12 * 6 * 5 * 3 - 1)
    assert streamed(load(tree)) == WANT
    assert contents(load(tree, stream=False)) == WANT
    monkeypatch.setattr(encoded, "STREAM_LIMIT", 12 * 6 * 5 * 3)
    assert contents(load(tree)) == WANT


def test_an_unpacked_archive_is_kept_and_renewed(tree, load, tmp_path, monkeypatch):
    path = pack(tree, tmp_path / "packed.tar")
    first = load(path, stream=True)
    unpacked = Path(first.train.paths[0]).parent
    assert unpacked.parent == tmp_path / "cache"
    inode = unpacked.stat().st_ino
    assert load(path, stream=True).train.paths == first.train.paths
    assert unpacked.stat().st_ino == inode
    write_image(tree / "train/ant/0.png", 99)
    pack(tree, path)
    os.utime(path, ns=(0, 1))
    assert streamed(load(path, stream=True))[0][0] == (99, 0)
    assert [p.name for p in (tmp_path / "cache").iterdir()] == [unpacked.name]


def test_an_interrupted_unpacking_leaves_nothing(tree, load, tmp_path, monkeypatch):
    path = pack(tree, tmp_path / "packed.tar")

    def full(self, content):
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(data.DataError, match="No space left.*cache_dir"):
            load(path, stream=True)
    assert not list((tmp_path / "cache").iterdir())


@pytest.mark.parametrize("before", [None, "old"])
def test_what_a_faster_process_unpacked_stays(tmp_path, monkeypatch, before):
    path, replace = tmp_path / "files", os.replace
    if before:
        cache.write_directory(path, before, {}, [("a", b"old")])
    found = []

    def late(source, target):
        """Let another process be done first."""
        monkeypatch.setattr(os, "replace", replace)
        cache.write_directory(path, "key", {"names": ["a"]}, [("a", b"new")])
        found.append(path.stat().st_ino)
        replace(source, target)

    monkeypatch.setattr(os, "replace", late)
    cache.write_directory(path, "key", {"names": ["a"]}, [("a", b"new")])
    assert [path.stat().st_ino] == found
    assert cache.read_directory(path, "key") == {"names": ["a"]}
    assert (path / "a").read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["files"]
