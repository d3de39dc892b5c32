"""Damaged image files: all of them in one error, or left out and listed, from any source."""

import json
import re
import tarfile
import zipfile

import numpy as np
import pytest
from data_trees import SHAPE, WANT, contents, pack, write_image, write_tree
from test_data_decode import encode, photograph

from jaxcnn import data
from jaxcnn.data import encoded

PHOTOGRAPH = encode(photograph(30, 30), "jpeg")
DAMAGE = {  # name below the tree -> (content, what is said of it)
    "train/ant/3.jpg": (b"", "not an image"),
    "train/bee/3.jpg": (PHOTOGRAPH[:-50], "not a readable image"),
    "test/ant/3.jpg": (b"a text\n", "not an image"),
}


@pytest.fixture
def damaged(tree):
    for name, (content, _) in DAMAGE.items():
        (tree / name).write_bytes(content)
    return tree


def streamed_values(dataset):
    return [
        [
            (int(data.read_image(path, SHAPE)[0, 0, 0]), int(label))
            for path, label in zip(split.paths, split.labels, strict=True)
        ]
        for split in (dataset.train, dataset.test)
    ]


def assert_listed(text):
    assert "3 damaged image(s):" in text
    for name, (_, reason) in DAMAGE.items():
        assert re.search(f"\n  [^ ]*{name.replace('/', '.')}: {reason}", text), text


@pytest.mark.parametrize("stream", [False, True])
def test_a_link_to_nothing_is_a_damaged_file(tree, load, stream, capsys):
    (tree / "train/ant/3.jpg").symlink_to(tree / "gone.jpg")
    values = streamed_values if stream else contents
    assert values(load(tree, skip_corrupt=True, stream=stream)) == WANT
    assert "train/ant/3.jpg: cannot be read (No such file or directory)" in capsys.readouterr().err
    if not stream:
        with pytest.raises(data.DataError, match="1 damaged.*\n.*train/ant/3.jpg: cannot be read"):
            load(tree)


@pytest.mark.parametrize("suffix", ["", ".tar.gz", ".zip"])
def test_all_damaged_files_are_one_error(damaged, load, tmp_path, suffix):
    path = pack(damaged, tmp_path / f"packed{suffix}") if suffix else damaged
    with pytest.raises(data.DataError) as caught:
        load(path)
    assert str(caught.value).startswith(f"folder:{path}: 3 damaged")
    assert_listed(str(caught.value))
    assert "--skip-corrupt" in str(caught.value)
    assert not list((tmp_path / "cache").glob("*"))


@pytest.mark.parametrize("suffix", ["", ".tar.gz", ".zip"])
@pytest.mark.parametrize("stream", [False, True])
def test_asked_for_they_are_left_out_and_listed(
    damaged, load, tmp_path, suffix, stream, capsys, monkeypatch
):
    path = pack(damaged, tmp_path / f"packed{suffix}") if suffix else damaged
    values = streamed_values if stream else contents
    assert values(load(path, skip_corrupt=True, stream=stream)) == WANT
    first = capsys.readouterr().err
    assert first.startswith(f"folder:{path}: leaves out 3 damaged")
    assert_listed(first)
    monkeypatch.setattr(encoded, "decode_all", None)  # from here on, from the cache
    again = load(path, skip_corrupt=True, stream=stream)
    assert values(again) == WANT
    assert [len(split) for split in (again.train, again.test)] == [6, 6]
    assert capsys.readouterr().err == first


def test_a_cache_less_damaged_files_serves_no_strict_load(damaged, load, tmp_path):
    load(damaged, skip_corrupt=True)
    for _ in range(2):
        with pytest.raises(data.DataError, match="3 damaged"):
            load(damaged)
    load(damaged, skip_corrupt=True, stream=True)
    strict = load(damaged, stream=True)
    assert len(strict.train) == 8
    with pytest.raises(data.DataError, match=re.escape("ant/3.jpg: not an image")):
        list(data.eval_batches(strict.train, 8))


@pytest.mark.parametrize("stream", [False, True])
def test_repaired_files_come_back(damaged, load, capsys, stream):
    load(damaged, skip_corrupt=True, stream=stream)
    for name in DAMAGE:
        write_image(damaged / name, 50)
    assert len(load(damaged, skip_corrupt=True, stream=stream).train) == 8
    capsys.readouterr()
    assert len(load(damaged, stream=stream).train) == 8
    assert capsys.readouterr().err == ""


def test_a_damaged_list_of_damaged_files_is_made_again(damaged, load, tmp_path):
    want = load(damaged, skip_corrupt=True, stream=True).train.paths
    (kept,) = (tmp_path / "cache").iterdir()
    other = json.dumps(json.loads(kept.read_bytes()) | {"content": [1]}).encode()
    for content in (b"", b"[1]", b"\xff", other, kept.read_bytes()[:-9]):
        kept.write_bytes(content)
        assert load(damaged, skip_corrupt=True, stream=True).train.paths == want


def test_long_lists_are_cut(tree, load, capsys):
    for number in range(30):
        (tree / f"train/bee/x{number:02}.jpg").write_bytes(b"no")
    assert contents(load(tree, skip_corrupt=True)) == WANT
    lines = capsys.readouterr().err.splitlines()
    assert "30 damaged" in lines[0] and lines[-1] == "  and 10 more"
    assert len(lines) == 22 and "x19.jpg" in lines[-2]


@pytest.mark.parametrize("stream", [False, True])
def test_a_class_that_is_damaged_whole_is_an_error(tree, load, stream):
    for path in (tree / "test/bee").iterdir():
        path.write_bytes(b"no")
    with pytest.raises(data.DataError, match="less 3 damaged: class 'bee' is found in the train"):
        load(tree, skip_corrupt=True, stream=stream)


def test_what_is_left_is_divided(tmp_path, load):
    tree = write_tree(tmp_path / "flat", splits=("",), per_class=5)
    (tree / "ant/0.png").write_bytes(b"no")
    loaded = load(tree, skip_corrupt=True, holdout=0.5)
    assert sorted(sum(contents(loaded), [])) == [(n, int(n < 6)) for n in range(1, 11) if n != 6]


@pytest.mark.parametrize("stream", [False, True])
def test_a_damaged_member_of_a_zip(tree, load, tmp_path, stream, capsys):
    """Its checksum tells, though the rest of the archive is whole."""
    path = tmp_path / "packed.zip"
    with zipfile.ZipFile(pack(tree, path)) as archive:
        item = archive.getinfo("train/bee/1.png")
    content = bytearray(path.read_bytes())
    content[item.header_offset + 30 + len(item.filename) + 40] ^= 1
    path.write_bytes(content)
    with pytest.raises(data.DataError, match="train/bee/1.png: damaged in the archive .Bad CRC"):
        load(path, stream=stream)
    values = streamed_values if stream else contents
    train = [pair for pair in WANT[0] if pair != (2, 1)]
    assert values(load(path, skip_corrupt=True, stream=stream)) == [train, WANT[1]]
    assert "1 damaged image(s):" in capsys.readouterr().err


def test_a_damaged_member_of_a_tar(tree, load, tmp_path, capsys):
    path = pack(tree, tmp_path / "packed.tar")
    with tarfile.open(path) as archive:
        item = archive.getmember("./train/bee/1.png")
    content = bytearray(path.read_bytes())
    content[item.offset_data : item.offset_data + 8] = bytes(8)
    path.write_bytes(content)
    assert len(load(path, skip_corrupt=True).train) == 5
    assert "train/bee/1.png: not an image" in capsys.readouterr().err


@pytest.mark.parametrize("source", ["digits", "idx:x", "cifar:x"])
def test_sources_without_files_refuse_it(source):
    with pytest.raises(data.DataError, match="skip_corrupt=True: .* has no image files"):
        data.load(source, SHAPE, skip_corrupt=True)


@pytest.mark.parametrize("stream", [False, True])
def test_a_real_tar_with_a_cut_photograph(data_root, tmp_path, load, stream, capsys):
    with tarfile.open(data_root / "cats-dogs-160.tar") as archive:
        members = [m for m in archive if "/valid/" in m.name and m.isfile()][::35]
        for number, member in enumerate(members):
            content = archive.extractfile(member).read()
            path = tmp_path / "tree" / member.name.partition("/valid/")[2]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content[: len(content) // 2] if number == 1 else content)
    loaded = load(tmp_path / "tree", skip_corrupt=True, stream=stream, holdout=0.3)
    assert len(loaded.train) + len(loaded.test) == len(members) - 1
    err = capsys.readouterr().err
    assert "1 damaged image(s):" in err and "truncated" in err
    assert np.bincount(loaded.train.labels).min() > 0
