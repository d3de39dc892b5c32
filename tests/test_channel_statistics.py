"""scripts/channel_statistics.py: what it prints against NumPy and training's own division."""

import re

import numpy as np
from data_trees import write_image
from processes import call

from jaxcnn import data
from jaxcnn.data.dataset import divide


def test_a_folder_divided_as_training_divides_it(tmp_path):
    random = np.random.default_rng(0)
    for name in ("ant", "bee"):
        for number in range(6):
            write_image(tmp_path / f"tree/{name}/{number}.png", int(random.integers(256)))
    (tmp_path / "tree/ant/7.png").write_bytes(b"no")
    source, cache = f"folder:{tmp_path / 'tree'}", tmp_path / "cache"
    options = ["--size", 4, "--split-seed", 3, "--validation", 0.25, "--cache-dir", cache]
    out = call("channel_statistics", source, *options, "--skip-corrupt").splitlines()
    options = {"seed": 3, "cache_dir": cache, "skip_corrupt": True}
    train = divide(data.load(source, (4, 4, 3), **options), seed=3, validation=0.25, examples=None)
    pixels = train.train.images / 255
    assert "leaves out 1 damaged" in "".join(out)
    start = out.index(f"{source}: {len(pixels)} training images of 4x4x3")
    mean, std = (
        ", ".join(f"{value:.6f}" for value in values)
        for values in (pixels.mean((0, 1, 2)), pixels.std((0, 1, 2)))
    )
    assert out[start + 1 : start + 4] == [
        f"mean  {mean}",
        f"std   {std}",
        f"torchvision.transforms.Normalize([{mean}], [{std}])",
    ]
    assert any(path.name.startswith("statistics-") for path in cache.iterdir())


def test_the_figures_of_mnist(data_root, tmp_path):
    """The .1307 and .3081 of every tutorial."""
    mnist = f"idx:{data_root / 'mnist'}"
    out = call("channel_statistics", mnist, "--channels", 1, "--cache-dir", tmp_path)
    assert re.search(r"60000 training images of 28x28x1\nmean  0.1306\d\d\nstd   0.3081\d\d\n", out)
    assert round(float(re.findall(r"mean  (\S+)", out)[0]), 4) == 0.1307


def test_a_mistake_is_one_line():
    out = call("channel_statistics", "digits", "--examples", 1, status=2)
    assert out.startswith("error: examples=1: expected 10") and out.count("\n") == 1
