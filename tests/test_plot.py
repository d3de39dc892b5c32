"""Losses compared, what all pictures keep to, and scripts/plot.py."""

import importlib
import subprocess
import sys
import threading
import warnings

import numpy as np
import pytest
from conftest import ROOT
from pictures import legend, pixels, rgb, rows

from jaxcnn import canvas, log, plot


def test_losses_are_compared_with_the_first(tmp_path, figures):
    base = np.geomspace(2, 0.01, 50)
    near = base + np.where(np.arange(50) < 10, 0, 1e-7)
    plot.loss_comparison({"PyTorch": base, "jaxcnn": near[:40]}, tmp_path / "l.png", title="t")
    upper, lower = figures[0].axes
    assert len(upper.lines) == 2 and len(lower.lines) == 1
    apart = lower.lines[0].get_ydata()
    assert len(apart) == 40 and np.isnan(apart[:10]).all()
    np.testing.assert_allclose(apart[10:], 1e-7, rtol=1e-6)
    assert lower.get_yscale() == "log" and upper.get_yscale() == "log"
    assert lower.get_xlabel() == "step" and lower.lines[0].get_xdata()[0] == 1
    assert legend(figures[0]) == ["PyTorch", "jaxcnn  (largest difference 1.0e-07)"]
    image = pixels(tmp_path / "l.png", figures[0])
    assert (image[: len(image) // 2] == rgb(canvas.colour(1))).all(axis=-1).sum() > 50
    assert (image[len(image) // 2 :] == rgb(canvas.colour(1))).all(axis=-1).sum() > 50


def test_equal_losses_say_so(tmp_path, figures):
    plot.loss_comparison({"a": [1.0, 2.0], "b": [1.0, 2.0]}, tmp_path / "l.png")
    assert legend(figures[0]) == ["a", "b  (no difference)"]


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_a_loss_that_blew_up_is_not_called_equal(tmp_path, figures, broken):
    series = {"a": [1.0, 2.0], "b": [1.0, broken], "c": [broken, 2.0]}
    plot.loss_comparison(series, tmp_path / "l.png")
    assert all("not finite" in text for text in legend(figures[0])[1:])


def test_one_series_has_no_difference_panel(tmp_path, figures):
    plot.loss_comparison({"a": [1.0, 2.0]}, tmp_path / "l.png", xlabel="batch")
    assert [axes.get_xlabel() for axes in figures[0].axes] == ["batch"]


@pytest.mark.parametrize("series", [{}, {"a": []}, {"a": [[1.0]]}])
def test_no_losses_are_an_error(tmp_path, series):
    with pytest.raises(ValueError, match="one or more"):
        plot.loss_comparison(series, tmp_path / "l.png")


def test_a_failed_picture_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    path.write_bytes(b"old")
    from matplotlib.figure import Figure

    def fail(self, file, **_):
        file.write(b"half")
        raise OSError("out of memory")

    monkeypatch.setattr(Figure, "savefig", fail)
    with pytest.raises(OSError, match="out of memory"):
        plot.loss_comparison({"a": [1.0]}, path)
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_drawing_in_a_thread_leaves_pyplot_alone(tmp_path, monkeypatch):
    # Other tests' libraries may have imported it.
    monkeypatch.delitem(sys.modules, "matplotlib.pyplot", raising=False)
    caught = []

    def draw():
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                plot.loss_comparison({"a": [1.0, 2.0]}, tmp_path / "l.png")
            except Exception as error:
                caught.append(error)

    thread = threading.Thread(target=draw)
    thread.start()
    thread.join()
    assert not caught and (tmp_path / "l.png").exists()
    assert "matplotlib.pyplot" not in sys.modules


def test_without_matplotlib_the_extra_is_named(tmp_path, monkeypatch):
    assert plot.available()
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert not plot.available()
    draws = [
        lambda path: plot.curves({"a": rows()}, path),
        lambda path: plot.loss_comparison({"a": [1.0]}, path),
    ]
    for draw in draws:
        with pytest.raises(ModuleNotFoundError, match=r"pip install 'jaxcnn\[plot\]'"):
            draw(tmp_path / "a.png")


def script(*arguments, cwd):
    command = [sys.executable, str(ROOT / "scripts/plot.py"), *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120)


def run_folder(path, made):
    path.mkdir(parents=True)
    for row in made:
        log.append_metrics(path, row)
    return path


def test_the_script_draws_runs_in_one_picture(tmp_path):
    folders = [run_folder(tmp_path / name, rows()) for name in ("a/run", "b/run")]
    done = script(*folders, "--out", "new/both.png", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "2 runs drawn in new/both.png\n"
    assert pixels(tmp_path / "new/both.png").shape == (630, 2070, 3)


@pytest.fixture
def plot_script(monkeypatch):
    """The script as a module, imported by path as `_cli` expects."""
    monkeypatch.setattr(sys, "path", [str(ROOT / "scripts"), *sys.path])
    monkeypatch.delitem(sys.modules, "plot", raising=False)
    module = importlib.import_module("plot")
    yield module
    del sys.modules["plot"]


@pytest.mark.parametrize(
    ("names", "out", "message"),
    [
        (["nowhere"], "a.png", "nowhere/metrics.jsonl: no such file"),
        (["run", "empty"], "a.png", "empty/metrics.jsonl: no metrics yet"),
        (["run", "run/../run"], "a.png", "run/../run is given twice"),
        (["run"], "a.jpg", "a.jpg: the picture is a PNG"),
        ([], "a.png", "no run folder given"),
    ],
)
def test_the_script_names_mistakes(tmp_path, plot_script, names, out, message):
    run_folder(tmp_path / "run", rows(1))
    (run_folder(tmp_path / "empty", []) / "metrics.jsonl").touch()
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        plot_script.main(tuple(tmp_path / name for name in names), tmp_path / out)
    assert not list(tmp_path.glob("a.*"))


def test_a_mistake_is_one_line_and_no_traceback(tmp_path):
    done = script("nowhere", cwd=tmp_path)
    assert done.returncode == 2 and not done.stdout
    assert done.stderr.startswith("error: nowhere/metrics.jsonl: no such file")
    assert done.stderr.count("\n") == 1


def test_folders_of_one_name_are_told_apart(tmp_path, plot_script):
    def labels(*names):
        return plot_script.labels(tuple(tmp_path / name for name in names))

    assert labels("x/a", "x/b") == ["a", "b"]
    assert labels("x/a", "y/a", "y/b") == ["x/a", "y/a", "b"]
    assert labels("p/x/a", "q/x/a") == ["p/x/a", "q/x/a"]
