"""The other pictures: what is drawn, that it is a whole PNG, and scripts/plot.py."""

import importlib
import subprocess
import sys
import threading
import warnings

import numpy as np
import pytest
from conftest import ROOT
from pictures import legend, pixels, rgb, rows, texts_apart

from jaxcnn import canvas, log, plot

CLASSES = "airplane automobile bird cat deer dog frog horse ship truck".split()


def test_confusion_matrix_has_true_rows_and_predicted_columns(tmp_path, figures):
    matrix = np.diag(np.full(10, 950))
    matrix[3, 5] = 50  # a cat called a dog
    matrix[7] = 0  # no horse at all
    matrix[5, 5] = 450  # as many dogs as cats would hide a mix-up of rows and columns
    plot.confusion_matrix(matrix, CLASSES, tmp_path / "m.png", title="CIFAR-10")
    axes = figures[0].axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "true")
    counts = {text.get_position(): text.get_text() for text in axes.texts}
    assert counts[5, 3] == "50" and counts[0, 0] == "950" and (3, 5) not in counts
    assert (7, 7) not in counts
    share = axes.images[0].get_array()
    assert share[3, 5] == pytest.approx(5) and share[0, 0] == 100 and share[7].sum() == 0
    dark, light = (t.get_color() for t in axes.texts if t.get_position() in {(0, 0), (5, 3)})
    assert (dark, light) == ("white", "black")
    image = pixels(tmp_path / "m.png", figures[0])
    assert len(image) > 800 and (image.sum(axis=-1) < 300).mean() > 0.04  # the dark diagonal
    texts_apart(figures[0], [*axes.get_xticklabels(), *axes.get_yticklabels(), axes.xaxis.label])


@pytest.mark.parametrize("count", [1, 20, 100, pytest.param(250, marks=pytest.mark.slow)])
def test_confusion_matrix_of_any_size_keeps_its_names_apart(tmp_path, figures, count):
    names = [f"{i} a rather long name of a class"[: 4 + 5 * (i % 7)] for i in range(count)]
    plot.confusion_matrix(np.eye(count, dtype=int), names, tmp_path / "m.png")
    axes = figures[0].axes[0]
    assert bool(axes.texts) == (count <= 20)
    texts_apart(figures[0], [*axes.get_xticklabels(), axes.xaxis.label])
    texts_apart(figures[0], [*axes.get_yticklabels(), axes.yaxis.label])


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.zeros((2, 3), int), "matrix of"),
        (np.zeros((3, 3), int), "2 class names"),
        (np.array([[1, 0], [0, -1]]), "negative"),
    ],
)
def test_confusion_matrix_of_wrong_shape(tmp_path, matrix, message):
    with pytest.raises(ValueError, match=message):
        plot.confusion_matrix(matrix, ["a", "b"], tmp_path / "m.png")


def some_images(count, channels=3, size=8):
    return np.random.default_rng(0).integers(0, 256, (count, size, size, channels), np.uint8)


def test_mistakes_are_sorted_and_right_ones_left_out(tmp_path, figures):
    images = some_images(4)
    labels, predictions = [0, 1, 2, 9], [1, 1, 0, 3]
    plot.mistakes(images, labels, predictions, [0.5, 0.99, 0.97, 0.6], CLASSES, tmp_path / "x.png")
    drawn = [axes for axes in figures[0].axes if axes.images]
    assert [axes.get_title().replace("\n", " ") for axes in drawn] == [
        "bird \u2192 airplane  97 %",
        "truck \u2192 cat  60 %",
        "airplane \u2192 automobile  50 %",
    ]
    np.testing.assert_array_equal(drawn[0].images[0].get_array(), images[2])
    assert {axes.images[0].get_interpolation() for axes in drawn} == {"nearest"}
    texts_apart(figures[0], [axes.title for axes in drawn])


def test_gray_images_are_gray_and_not_stretched(tmp_path):
    images = np.full((4, 8, 8, 1), 120, np.uint8)
    labels, predictions = np.zeros(4, int), np.ones(4, int)
    plot.mistakes(images, labels, predictions, np.ones(4), CLASSES, tmp_path / "x.png")
    image = pixels(tmp_path / "x.png")
    assert (image == 120).all(axis=-1).mean() > 0.4
    assert (image[..., 0] == image[..., 1]).all()


def test_mistakes_keep_to_their_columns_and_limit(tmp_path, figures):
    many = (some_images(30), np.zeros(30, int), np.ones(30, int), np.linspace(0, 1, 30))
    plot.mistakes(*many, CLASSES, tmp_path / "x.png", columns=3, limit=7)
    assert len([axes for axes in figures[0].axes if axes.images]) == 7
    assert figures[0].axes[0].get_gridspec().get_geometry() == (3, 3)


def test_long_class_names_stay_apart(tmp_path, figures):
    names = [f"{i} a very long name of a class, WWWWWWWWWW" for i in range(10)]
    labels = np.arange(8) % 10
    many = (some_images(8), labels, labels + 1, np.ones(8))
    plot.mistakes(*many, names, tmp_path / "x.png", title="t")
    texts_apart(figures[0], [axes.title for axes in figures[0].axes])


@pytest.mark.parametrize("count", [0, 3])
def test_no_mistakes_say_so(tmp_path, figures, count):
    labels = np.zeros(count, int)
    plot.mistakes(some_images(count), labels, labels, np.ones(count), CLASSES, tmp_path / "x.png")
    assert [text.get_text() for text in figures[0].axes[0].texts] == ["no mistakes"]
    assert (pixels(tmp_path / "x.png", figures[0]) < 200).any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": some_images(2).astype(np.float32)}, "uint8"),
        ({"images": some_images(2)[..., 0]}, "images must be"),
        ({"images": some_images(2, 2)}, "images must be"),
        ({"labels": np.zeros(3, int)}, "2 images"),
        ({"confidences": np.zeros((2, 1))}, "2 images"),
        ({"columns": 0}, "columns 0"),
    ],
)
def test_mistakes_of_wrong_shape(tmp_path, change, message):
    right = {"images": some_images(2), "labels": np.zeros(2, int), "predictions": np.ones(2, int)}
    right |= {"confidences": np.ones(2), "class_names": CLASSES, "path": tmp_path / "x.png"}
    with pytest.raises(ValueError, match=message):
        plot.mistakes(**right | change)


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
        lambda path: plot.confusion_matrix(np.eye(2, dtype=int), ["a", "b"], path),
        lambda path: plot.mistakes(some_images(1), [0], [1], [1.0], CLASSES, path),
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
