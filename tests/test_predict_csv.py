"""Prediction into a table: its cells and order, damaged images, nothing half written."""

import csv
import importlib

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

NAMES = ("cat", 'a "dog", large', "Vögel")
ODD = ("a,b.png", 'say "c".png', "line\nfeed.png", "ä.png")


@pytest.fixture
def script(monkeypatch):
    """The script with a network that calls an image by its brightness."""
    monkeypatch.syspath_prepend(ROOT / "scripts")
    module = importlib.import_module("predict")
    shape = (4, 4, 3)

    def predict(pixels):
        bright = pixels.mean(axis=(1, 2, 3), dtype=np.float32) / np.float32(300)
        return np.stack([bright, 0.75 * (1 - bright), 0.25 * (1 - bright)], axis=1)

    classifier = module.Classifier(shape, 1.0, NAMES, predict)
    monkeypatch.setattr(module, "of_run", lambda *_: classifier)
    return module


def gray(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (6, 5), (value,) * 3).save(path)


def table(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file, strict=True))


@pytest.mark.parametrize("top", [1, 2, 9])
def test_the_table_has_a_line_an_image_and_two_cells_a_class(script, tmp_path, capsys, top):
    folder = tmp_path / "images"
    for value, name in enumerate(ODD):
        gray(folder / name, 80 * value)
    script.main(tmp_path, (folder,), top=top, batch_size=3, csv_file=tmp_path / "new/t.csv")
    rows = table(tmp_path / "new/t.csv")
    shown = min(top, 3)
    heading = "image,class,probability,class_2,probability_2,class_3,probability_3".split(",")
    assert rows[0] == heading[: 1 + 2 * shown]
    assert [row[0] for row in rows[1:]] == [str(folder / name) for name in sorted(ODD)]
    values = {str(folder / name): 80 * value for value, name in enumerate(ODD)}
    for path, *cells in rows[1:]:
        given = script.of_run().predict(np.full((1, 4, 4, 3), values[path], np.uint8))[0]
        best = np.argsort(-given)[:shown]
        assert cells[::2] == [NAMES[k] for k in best]
        # The cells are the float32 numbers themselves, not rounded ones.
        assert [np.float32(cell) for cell in cells[1::2]] == list(given[best])
    text = (tmp_path / "new/t.csv").read_bytes()
    assert text.count(b"\r\n") == 5 and text.endswith(b"\r\n")  # RFC 4180
    assert text.count(b"\n") == 6  # and the one in a name
    printed = capsys.readouterr().out
    assert printed.startswith("{}: {} {:.1f} %".format(*rows[1][:2], 100 * float(rows[1][2])))


def test_folders_of_a_folder_are_looked_into_on_request(script, tmp_path):
    images = tmp_path / "images"
    names = ["b.png", "a/z.png", "a/b/c.PNG", "c/d.jpg"]
    for name in [*names, ".hidden/x.png", "a/._z.png"]:
        gray(images / name, 100)
    (images / "a/notes.txt").write_text("no image")
    flat = script.list_images((images, images / "a/z.png"))
    assert flat == [images / "b.png", images / "a/z.png"]
    found = script.list_images((images,), recursive=True)
    assert found == [images / name for name in sorted(names)]
    with pytest.raises(ValueError, match="c/none: no images in it"):
        (images / "c/none").mkdir()
        script.list_images((images / "c/none",), recursive=True)


def test_a_damaged_image_leaves_the_table_as_it_was(script, tmp_path):
    images, path = tmp_path / "images", tmp_path / "t.csv"
    for value in range(4):
        gray(images / f"{value}.png", value)
    (images / "3.png").write_bytes((images / "2.png").read_bytes()[:45])
    path.write_text("before")
    options = {"batch_size": 2, "csv_file": path}
    with pytest.raises(ValueError, match="3.png: not a readable image"):
        script.main(tmp_path, (images,), **options)
    assert path.read_text() == "before"
    assert {entry.name for entry in tmp_path.iterdir()} == {"images", "t.csv"}


def test_damaged_images_are_left_out_on_request(script, tmp_path, capsys):
    images = tmp_path / "images"
    for value in range(6):
        gray(images / f"{value}.png", 40 * value)
    options = {"batch_size": 2, "csv_file": tmp_path / "t.csv", "skip_corrupt": True}
    script.main(tmp_path, (images,), **options)
    whole, before = table(tmp_path / "t.csv"), capsys.readouterr()
    assert not before.err and len(whole) == 7
    for name in ("0.png", "3.png"):
        (images / name).write_bytes(b"no image")
    script.main(tmp_path, (images,), **options)
    assert table(tmp_path / "t.csv") == [whole[i] for i in (0, 2, 3, 5, 6)]
    after = capsys.readouterr()
    assert after.out.splitlines() == [before.out.splitlines()[i] for i in (1, 2, 4, 5)]
    assert [line.split(": ")[:2] for line in after.err.splitlines()] == [
        ["left out", str(images / name)] for name in ("0.png", "3.png")
    ]
    for image in images.iterdir():
        image.write_bytes(b"no image")
    (tmp_path / "t.csv").unlink()
    with pytest.raises(ValueError, match="none of the 6 images can be read"):
        script.main(tmp_path, (images,), **options)
    assert not (tmp_path / "t.csv").exists()


def test_a_folder_is_no_table(script, tmp_path):
    gray(tmp_path / "a.png", 1)
    with pytest.raises(ValueError, match="--csv .* is a folder, expected a file to write"):
        script.main(tmp_path, (tmp_path / "a.png",), csv_file=tmp_path)
