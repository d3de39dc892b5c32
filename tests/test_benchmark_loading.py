"""scripts/benchmark_loading.py: what its sides load, its table, and mistakes."""

import json
import sys

import numpy as np
import pytest
from children import loading
from conftest import ROOT
from data_trees import write_image
from PIL import Image
from processes import call


@pytest.fixture
def sides(monkeypatch):
    """Import the sides, which find `_turns` beside them."""
    monkeypatch.syspath_prepend(ROOT / "scripts")
    monkeypatch.setattr(sys, "path", list(sys.path))  # `_cli` takes the scripts' folder out again
    import _loading_sides

    return _loading_sides


@pytest.fixture
def photos(tmp_path):
    """Write images of several shapes, one of them turned by its EXIF block."""
    rng, folder = np.random.default_rng(0), tmp_path / "photos"
    for number in range(12):
        size = ((40, 30), (30, 41), (28, 28))[number % 3]
        path = folder / f"train/{'ab'[number % 2]}/{number}.jpg"
        write_image(path, 0)
        pixels = rng.integers(0, 256, (*size, 3), np.uint8)
        exif = Image.Exif()
        if number < 2:
            exif[0x0112] = 6  # turned by a quarter
        Image.fromarray(pixels).save(path, exif=exif)
        write_image(folder / f"test/{'ab'[number % 2]}/{number}.png", number)
    return folder


def job(source, tmp_path, **options):
    values = {"source": source, "network": "mlp_mnist", "size": None, "batch": 4, "images": 9}
    values |= {"workers": 0, "stream": None, "tfds_dir": None, "calls": 1}
    return values | {"folder": str(tmp_path), "alike": str(tmp_path)} | options


def test_blocks_load_step_and_loop(sides, photos, tmp_path):
    timed = sides.ours(job(f"folder:{photos}", tmp_path, stream=True))
    facts = timed.pop(sides._turns.FACTS)
    assert list(timed) == ["loading", "step", "loop"]
    for _ in range(2):
        for block in timed.values():
            block()
            assert "prefetch" not in loading()[1]
    found = facts()
    assert found["count"] == 8 and found["input_shape"] == (28, 28, 1) and found["ready_s"] > 0
    (waited,) = found["waited"]  # the first loop is not counted
    assert 0 <= waited < 1


@pytest.mark.parametrize("network", ["mlp_mnist", "squeezenet1_1"])
def test_pytorch_s_side_reads_the_same_pixels(sides, photos, tmp_path, network):
    """In gray and in colour, smaller and larger than the files."""
    pytest.importorskip("torch")
    options = {"stream": True, "network": network, "size": 35 if "net" in network else None}
    split = sides.loaded(job(f"folder:{photos}", tmp_path, **options))[1].train
    sides.theirs(job(f"folder:{photos}", tmp_path, workers=1, **options))
    theirs = np.load(tmp_path / "torch.npy")
    ours = np.stack([sides.read_image(path, split.image_shape) for path in split.paths[:8]])
    assert theirs.dtype == np.uint8 and theirs.shape == ours.shape
    np.testing.assert_array_equal(theirs, ours)


@pytest.mark.slow
def test_the_table(photos, tmp_path):
    options = ["--network", "mlp_mnist", "--batch", 4, "--images", 8, "--rounds", 2]
    out, sources = tmp_path / "new/found.json", [f"folder:{photos}", "digits"]
    more = ["--workers", 1, "--format", "json", "--out", out]
    said = call("benchmark_loading", *options, *more, "--data", *sources)
    assert said.count("of the step") == 4
    found = json.loads(out.read_text())
    assert (found["batch"], found["workers"], found["rounds"]) == (4, 1, 2)
    ways = ["memory", "threads", "1 processes", "memory"]
    assert [row["read by"] for row in found["rows"]] == ways
    for row in found["rows"]:
        speeds = [np.divide(row["ours, ms"]["step"], row["ours, ms"][k]) for k in ("loading",)]
        assert row["loading/step"][1] == pytest.approx(np.median(speeds))
        assert len(row["waited"]) == 2 and ("torch" in row) == (row["workers"] > 0)
    assert len(found["rows"][2]["torch"]["torch"]) == 2
    lines = call("benchmark_loading", *options, "--no-torch", "--data", "digits").splitlines()
    (row,) = (line for line in lines if line.startswith("digits  "))
    assert row.split()[1:4] == ["mlp_mnist", "1x28x28", "memory"] and row.split()[-1] == "-"


def test_a_mistake_gets_one_clear_line():
    err = call("benchmark_loading", "--network", "lenet", status=2)
    assert err.startswith("error: unknown network 'lenet'; known: airbench94")
    assert len(err.splitlines()) == 1
