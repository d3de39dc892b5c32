"""Image folders and archives of them: layouts, real photographs, errors."""

import io
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from data_trees import SHAPE, WANT, contents, pack, write_image, write_tree

from jaxcnn import data


@pytest.mark.parametrize("test", ["test", "valid", "val"])
def test_a_tree_with_splits(tree, load, test):
    (tree / "test").rename(tree / test)
    loaded = load(tree)
    assert loaded.class_names == ("ant", "bee")
    assert contents(loaded) == WANT
    assert loaded.train.images.shape == (6, *SHAPE) and loaded.train.images.dtype == np.uint8
    assert loaded.train.labels.dtype == np.int32


def test_a_tree_without_splits_is_divided_by_the_seed(tmp_path, load):
    tree = write_tree(tmp_path / "tree", splits=("",), per_class=10)
    first = load(tree, seed=1, holdout=0.3)
    train, test = contents(first)
    assert (len(train), len(test)) == (14, 6)
    assert sorted(train + test) == [(n, int(n <= 10)) for n in range(1, 21)]
    assert np.bincount(first.test.labels).tolist() == [3, 3]
    assert contents(load(tree, seed=1, holdout=0.3)) == [train, test]
    assert contents(load(tree, seed=2, holdout=0.3)) != [train, test]


@pytest.mark.parametrize("prefix", ["", "pets/", "./pets/"])
@pytest.mark.parametrize("suffix", [".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2", ".zip"])
def test_archives_equal_the_tree(tree, load, tmp_path, suffix, prefix):
    loaded = load(pack(tree, tmp_path / f"packed{suffix}", prefix))
    assert loaded.class_names == ("ant", "bee") and contents(loaded) == WANT


def test_an_enclosing_directory_of_a_folder(tmp_path, load):
    write_tree(tmp_path / "outer" / "inner")
    assert contents(load(tmp_path / "outer")) == WANT


def test_images_are_fitted_and_recoloured(tmp_path):
    for name in ("a", "b"):
        for number in range(2):
            write_image(tmp_path / f"{name}/{number}.jpg", 90, size=(40, 31))
    shape = (8, 9, 1)
    loaded = data.load(f"folder:{tmp_path}", shape, cache_dir=tmp_path / ".cache")
    assert loaded.train.images.shape == (2, *shape)
    assert np.abs(loaded.train.images.astype(int) - 90).max() <= 1


@pytest.mark.parametrize("stream", [False, True])
def test_images_kept_larger_than_the_network_s(tree, tmp_path, stream):
    """What is augmented or centre-cropped in the step is loaded at a size of its own."""
    options = {"cache_dir": tmp_path / "cache", "stream": stream}
    loaded = data.load(f"folder:{tree}", (12, 10, 3), **options)
    preprocess = data.make_preprocess(SHAPE, normalization="none", center_crop=True)
    for split, want in zip((loaded.train, loaded.test), WANT, strict=True):
        (batch,) = data.eval_batches(split, 6)
        assert batch["images"].shape == (6, 12, 10, 3)
        out = np.asarray(preprocess(batch["images"]))
        assert out.shape == (6, *SHAPE)
        np.testing.assert_allclose(out[:, 0, 0, 0] * 255, [gray for gray, _ in want], rtol=1e-6)


def test_real_photographs(data_root, tmp_path):
    path = data_root / "cats-dogs-160.tar"
    loaded = data.load(f"folder:{path}", (64, 48, 3), cache_dir=tmp_path)
    assert loaded.class_names == ("cat", "dog")
    assert (len(loaded.train), len(loaded.test)) == (1119, 280)
    assert np.bincount(loaded.test.labels).tolist() == [140, 140]
    with tarfile.open(path) as archive:
        names = sorted(n for n in archive.getnames() if "/valid/dog/" in n)
        first = data.read_image(archive.extractfile(names[0]), (64, 48, 3))
    np.testing.assert_array_equal(loaded.test.images[140], first)


def some_members(source: Path, target: Path, wanted) -> Path:
    """Copy the wanted members of an archive into a small one of the same kind."""
    with tarfile.open(source) as archive, tarfile.open(target, "w:xz") as small:
        for item in archive:
            if item.isdir() or wanted(item.name):
                small.addfile(item, archive.extractfile(item) if item.isfile() else None)
    return target


@pytest.mark.slow
def test_real_cifar10(data_root, tmp_path):
    path = data_root / "cifar10-jpeg.tar.xz"
    loaded = data.load(f"folder:{path}", (32, 32, 3), cache_dir=tmp_path)
    assert loaded.class_names == tuple(
        "airplane automobile bird cat deer dog frog horse ship truck".split()
    )
    assert np.bincount(loaded.train.labels).tolist() == [5000] * 10
    assert np.bincount(loaded.test.labels).tolist() == [1000] * 10
    small = some_members(path, tmp_path / "few.tar.xz", lambda name: name.endswith("0007.jpg"))
    few = data.load(f"folder:{small}", (32, 32, 3), cache_dir=tmp_path)
    np.testing.assert_array_equal(few.train.images, loaded.train.images[7::5000])
    np.testing.assert_array_equal(few.test.images, loaded.test.images[7::1000])


def remove_images(folder):
    for path in folder.glob("*.png"):
        path.unlink()


TREE_ERRORS = {
    "empty class": (lambda t: (t / "train/cow").mkdir(), "class 'cow' is empty"),
    "emptied class": (lambda t: remove_images(t / "test/ant"), "'ant' is found in the train split"),
    "train only": (lambda t: shutil.rmtree(t / "test"), "'train' and one of test, valid, val"),
    "test only": (lambda t: shutil.rmtree(t / "train"), "'train' and one of test, valid, val"),
    "one split": (
        lambda t: write_image(t / "test/cow/1.png", 1),
        "'cow' is found in the test split",
    ),
    "no class": (lambda t: write_image(t / "train/1.png", 1), "train/1.png is not in a class"),
    "damaged": (lambda t: (t / "train/ant/1.png").write_bytes(b"no"), "train/ant/1.png: not an"),
    "no images": (lambda t: [remove_images(f) for f in t.glob("*/*")], "no images"),
}


@pytest.mark.parametrize("case", TREE_ERRORS)
def test_tree_errors(tree, load, tmp_path, case):
    damage, message = TREE_ERRORS[case]
    damage(tree)
    for path in (tree, pack(tree, tmp_path / "packed.tar"), pack(tree, tmp_path / "packed.zip")):
        with pytest.raises(data.DataError, match=message) as caught:
            load(path)
        assert str(path) in str(caught.value)
        assert not list((tmp_path / "cache").glob("*"))


def test_one_image_cannot_be_divided(tmp_path, load):
    write_image(tmp_path / "tree/ant/1.png", 1)
    write_image(tmp_path / "tree/bee/1.png", 1)
    with pytest.raises(data.DataError, match="class 'ant' has 1 image"):
        load(tmp_path / "tree")


def test_paths_that_are_no_source(tmp_path, load):
    with pytest.raises(FileNotFoundError, match="absent"):
        load(tmp_path / "absent")
    (tmp_path / "set.rar").write_bytes(b"")
    with pytest.raises(data.DataError, match="set.rar: expected a directory or an archive"):
        load(tmp_path / "set.rar")


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz", ".tar.xz", ".zip"])
def test_damaged_archives_are_told(tree, load, tmp_path, suffix):
    """Cut anywhere, even between two members, an archive is an error and not a smaller set."""
    path = pack(tree, tmp_path / f"packed{suffix}")
    whole = path.read_bytes()
    with tarfile.open(path) if suffix == ".tar" else io.BytesIO() as archive:
        between = [item.offset for item in archive] if suffix == ".tar" else []
    for length in (0, len(whole) // 4, len(whole) // 2, len(whole) * 3 // 5, *between):
        path.write_bytes(whole[:length])
        with pytest.raises(data.DataError, match="packed.*not a readable archive"):
            load(path)


def test_a_damaged_header_is_told(tree, load, tmp_path):
    path = pack(tree, tmp_path / "packed.tar")
    with tarfile.open(path) as archive:
        middle = archive.getmembers()[len(archive.getmembers()) // 2].offset
    content = bytearray(path.read_bytes())
    content[middle + 150] ^= 0xFF  # in the checksum
    path.write_bytes(content)
    with pytest.raises(data.DataError, match="header is damaged"):
        load(path)


@pytest.mark.parametrize("name", ["../ant/1.png", "/ant/1.png", "train/../../x.png"])
def test_members_outside_the_archive_are_refused(load, tmp_path, name):
    path = tmp_path / "packed.tar"
    with tarfile.open(path, "w") as archive:
        archive.addfile(tarfile.TarInfo(name), io.BytesIO())
    with pytest.raises(data.DataError, match="refuses the member"):
        load(path)
