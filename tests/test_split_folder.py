"""scripts/split_folder.py: which class, how many, links or copies, and nothing half done."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from data_trees import SHAPE, contents, write_image, write_tree
from processes import call

from jaxcnn import data
from jaxcnn.data import split
from jaxcnn.data.split import split_folder

NAMES = [
    ("cat.0.jpg", "cat"),
    ("cat.jpg.1.png", "cat"),
    ("cat_001.jpg", "cat"),
    ("cat-1.jpg", "cat"),
    ("cat 1.jpg", "cat"),
    ("cat1.jpg", "cat"),
    ("cat (1).jpg", "cat"),
    ("cat_1_22.jpg", "cat"),
    ("great_pyrenees_12.JPG", "great_pyrenees"),
    ("2cats_5.png", "2cats"),
    ("hund.ä.jpg", "hund"),
]


@pytest.fixture
def flat(tmp_path) -> Path:
    """Write cat.0.png to cat.9.png and dog_0.png to dog_4.png, each of its own gray."""
    for number in range(10):
        write_image(tmp_path / f"flat/cat.{number}.png", number)
    for number in range(5):
        write_image(tmp_path / f"flat/dog_{number}.png", 100 + number)
    (tmp_path / "flat/notes.txt").write_text("not an image")
    (tmp_path / "flat/.hidden.1.png").write_bytes(b"")
    return tmp_path / "flat"


def images(tree):
    return sorted(path.relative_to(tree).as_posix() for path in tree.rglob("*") if path.is_file())


@pytest.mark.parametrize(("name", "want"), NAMES)
def test_the_class_of_a_name(tmp_path, name, want):
    (tmp_path / "flat").mkdir()
    for each in (name, *(f"{kind}.x{i}.jpg" for kind in ("other", want) for i in range(2))):
        (tmp_path / "flat" / each).write_bytes(b"")
    counts = split_folder(tmp_path / "flat", tmp_path / "dest", holdout=0.5)
    assert set(counts) == {want, "other"} and sum(counts[want]) == 3
    assert name in {path.name for path in (tmp_path / "dest").rglob("*")}


@pytest.mark.parametrize("how", ["symlink", "hardlink", "copy", "move"])
def test_every_way_loads_as_a_source(flat, tmp_path, load, how):
    before = {path.name: path.read_bytes() for path in flat.iterdir()}
    inodes = {path.stat().st_ino for path in flat.iterdir()}
    dest = tmp_path / "dest"
    assert split_folder(flat, dest, holdout=0.4, how=how) == {"cat": (6, 4), "dog": (3, 2)}
    train, test = contents(load(dest))
    grays = [(n, 0) for n in range(10)] + [(100 + n, 1) for n in range(5)]
    assert (len(train), len(test)) == (9, 6) and sorted(train + test) == grays
    placed = [path for path in dest.rglob("*") if path.is_file()]
    assert all(path.is_symlink() == (how == "symlink") for path in placed)
    assert all((path.stat().st_ino in inodes) == (how != "copy") for path in placed)
    left = {path.name: path.read_bytes() for path in flat.iterdir()}
    moved = {".hidden.1.png", "notes.txt"}
    assert left == ({n: before[n] for n in moved} if how == "move" else before)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "dest", "flat"]
    assert dest.stat().st_mode == flat.stat().st_mode


def test_the_seed_decides_and_agrees_with_the_loader_s_own_division(tmp_path, load):
    tree = write_tree(tmp_path / "tree", splits=("pets/",), per_class=8)
    (tree / "pets/ant/more").mkdir()
    (tree / "pets/ant/7.png").rename(tree / "pets/ant/more/7.png")
    for seed in (0, 3):
        split_folder(tree, tmp_path / f"seed{seed}", holdout=0.25, seed=seed)
        assert contents(load(tmp_path / f"seed{seed}")) == contents(
            load(tree, seed=seed, holdout=0.25)
        )
    split_folder(tree, tmp_path / "again", holdout=0.25, seed=3)
    assert images(tmp_path / "again") == images(tmp_path / "seed3") != images(tmp_path / "seed0")
    assert any(name.endswith("/ant/more/7.png") for name in images(tmp_path / "again"))


@pytest.mark.parametrize("holdout", [2, 3, 4, 7, 12, 13])
def test_so_many_images_in_all_in_the_classes_proportions(flat, tmp_path, holdout):
    counts = split_folder(flat, tmp_path / "dest", holdout=holdout)
    (cats, cats_held), (dogs, dogs_held) = counts["cat"], counts["dog"]
    assert (cats + cats_held, dogs + dogs_held) == (10, 5)
    assert cats_held + dogs_held == holdout and min(cats, cats_held, dogs, dogs_held) >= 1
    assert abs(cats_held - holdout * 2 / 3) < 1 or min(cats, dogs, dogs_held) == 1


def test_many_unequal_classes_share_exactly():
    random = np.random.default_rng(0)
    for _ in range(30):
        sizes = random.integers(2, 40, random.integers(2, 20))
        labels = np.repeat(np.arange(len(sizes)), sizes)
        names = [str(n) for n in range(len(sizes))]
        wanted = int(random.integers(len(sizes), len(labels) - len(sizes) + 1))
        held = split.held_out("x", labels, names, seed=0, holdout=wanted)
        counts = np.bincount(labels[held], minlength=len(sizes))
        assert held.sum() == wanted and (counts >= 1).all() and (counts < sizes).all()


ERRORS = {
    "no class": (lambda f: write_image(f / "img.png", 1), {}, "names that do not.*\n  img.png"),
    "no letter": (lambda f: write_image(f / "001.png", 1), {}, "names that do not.*\n  001.png"),
    "no number": (lambda f: write_image(f / "a_b.png", 1), {}, "names that do not.*\n  a_b.png"),
    "too few": (lambda f: write_image(f / "cow.1.png", 1), {}, "class 'cow' has 1 image"),
    "mixed": (lambda f: write_image(f / "cow/1.png", 1), {}, "images in folders.*\n  cow/1.png"),
    "parent": (lambda f: None, {"class_from": "parent"}, "in no class folder.*\n  cat.0.png"),
    "share": (lambda f: None, {"holdout": 1.5}, "holdout=1.5: expected a fraction"),
    "none": (lambda f: None, {"holdout": 0.0}, "holdout=0.0: expected a fraction"),
    "number": (lambda f: None, {"holdout": 14}, r"holdout=14: expected 2 .* to 13 of the 15"),
    "one class": (
        lambda f: [path.unlink() for path in f.glob("dog*")],
        {},
        "all images are of class 'cat'; expected 2",
    ),
    "no images": (
        lambda f: [path.unlink() for path in f.glob("[cd]*")],
        {},
        "no images in it",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors_leave_nothing(flat, tmp_path, case):
    change, options, message = ERRORS[case]
    change(flat)
    before = images(tmp_path)
    with pytest.raises(data.DataError, match=message):
        split_folder(flat, tmp_path / "dest", **({"holdout": 0.5} | options))
    assert images(tmp_path) == before and not (tmp_path / "dest").exists()


def test_long_lists_are_cut(flat, tmp_path):
    for number in range(25):
        (flat / f"x{'y' * number}.png").write_bytes(b"")
    with pytest.raises(data.DataError, match="and 5 more$"):
        split_folder(flat, tmp_path / "dest", holdout=0.5)


def test_trees_that_are_divided_or_have_empty_classes_are_refused(tree, tmp_path):
    with pytest.raises(data.DataError, match="is divided into train and test already"):
        split_folder(tree, tmp_path / "dest", holdout=0.5)
    (tree / "train/cow").mkdir()
    with pytest.raises(data.DataError, match="class folders without an image:\n  cow"):
        split_folder(tree / "train", tmp_path / "dest", holdout=0.5)


def test_places_are_checked(flat, tmp_path):
    (tmp_path / "full/x").mkdir(parents=True)
    for dest in (tmp_path / "full", flat / "cat.0.png", flat / "new", flat):
        with pytest.raises(data.DataError, match="is there already|is in .*flat; expected a pl"):
            split_folder(flat, dest, holdout=0.5)
    with pytest.raises(FileNotFoundError, match="absent: no such folder to put dest in"):
        split_folder(flat, tmp_path / "absent/dest", holdout=0.5)
    with pytest.raises(FileNotFoundError, match="absent: no such folder of images"):
        split_folder(tmp_path / "absent", tmp_path / "dest", holdout=0.5)
    (tmp_path / "empty").mkdir()
    split_folder(flat, tmp_path / "empty", holdout=0.5)
    assert len(images(tmp_path / "empty")) == 15


@pytest.mark.parametrize("how", ["symlink", "hardlink", "copy", "move"])
@pytest.mark.parametrize("error", [OSError("full"), KeyboardInterrupt()])
def test_a_failure_half_way_leaves_everything_as_it_was(flat, tmp_path, monkeypatch, how, error):
    def fail_late(function):
        calls = iter(range(100))

        def wrapper(*arguments, **options):
            if next(calls) == 7:
                raise error
            return function(*arguments, **options)

        return wrapper

    before = images(tmp_path)
    monkeypatch.setattr(Path, "symlink_to", fail_late(Path.symlink_to))
    monkeypatch.setattr(Path, "hardlink_to", fail_late(Path.hardlink_to))
    monkeypatch.setattr(shutil, "copy2", fail_late(shutil.copy2))
    if how == "move" and isinstance(error, OSError):
        split_folder(flat, tmp_path / "dest", holdout=0.5, how=how)  # that one is copied
        assert len(images(tmp_path / "dest")) == 15 and len(images(flat)) == 2
        return
    with pytest.raises(type(error)):
        split_folder(flat, tmp_path / "dest", holdout=0.5, how=how)
    assert images(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir()] == ["flat"]


def test_the_command(flat, tmp_path):
    out = call("split_folder", flat, tmp_path / "dest", "--holdout", 6, "--seed", 1)
    assert [line.split() for line in out.splitlines()] == [
        ["class", "train", "valid"],
        ["-----", "-----", "-----"],
        ["cat", "6", "4"],
        ["dog", "3", "2"],
        ["-----", "-----", "-----"],
        ["all", "9", "6"],
    ]
    links = [path for path in (tmp_path / "dest").rglob("*") if path.is_symlink()]
    assert len(links) == 15 and all(os.readlink(link).startswith(str(flat)) for link in links)
    loaded = data.load(f"folder:{tmp_path / 'dest'}", SHAPE, cache_dir=tmp_path / "cache")
    assert (len(loaded.train), len(loaded.test)) == (9, 6)
    again = call("split_folder", flat, tmp_path / "dest", "--holdout", 0.5, status=2)
    assert (
        again == f"error: {tmp_path / 'dest'} is there already; expected a new or an empty folder\n"
    )
