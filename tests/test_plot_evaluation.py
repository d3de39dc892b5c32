"""Pictures of an evaluation: what is drawn, and that it is a whole PNG."""

import sys

import numpy as np
import pytest
from pictures import legend, pixels, rgb, texts_apart

from jaxcnn import canvas, metrics, plot_evaluation

CLASSES = "airplane automobile bird cat deer dog frog horse ship truck".split()


def test_confusion_matrix_has_true_rows_and_predicted_columns(tmp_path, figures):
    matrix = np.diag(np.full(10, 950))
    matrix[3, 5] = 50  # a cat called a dog
    matrix[7] = 0  # no horse at all
    matrix[5, 5] = 450  # as many dogs as cats would hide a mix-up of rows and columns
    plot_evaluation.confusion_matrix(matrix, CLASSES, tmp_path / "m.png", title="CIFAR-10")
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
    plot_evaluation.confusion_matrix(np.eye(count, dtype=int), names, tmp_path / "m.png")
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
        plot_evaluation.confusion_matrix(matrix, ["a", "b"], tmp_path / "m.png")


def some_images(count, channels=3, size=8):
    return np.random.default_rng(0).integers(0, 256, (count, size, size, channels), np.uint8)


def test_mistakes_are_sorted_and_right_ones_left_out(tmp_path, figures):
    images = some_images(4)
    labels, predictions = [0, 1, 2, 9], [1, 1, 0, 3]
    plot_evaluation.mistakes(
        images, labels, predictions, [0.5, 0.99, 0.97, 0.6], CLASSES, tmp_path / "x.png"
    )
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
    plot_evaluation.mistakes(images, labels, predictions, np.ones(4), CLASSES, tmp_path / "x.png")
    image = pixels(tmp_path / "x.png")
    assert (image == 120).all(axis=-1).mean() > 0.4
    assert (image[..., 0] == image[..., 1]).all()


def test_mistakes_keep_to_their_columns_and_limit(tmp_path, figures):
    many = (some_images(30), np.zeros(30, int), np.ones(30, int), np.linspace(0, 1, 30))
    plot_evaluation.mistakes(*many, CLASSES, tmp_path / "x.png", columns=3, limit=7)
    assert len([axes for axes in figures[0].axes if axes.images]) == 7
    assert figures[0].axes[0].get_gridspec().get_geometry() == (3, 3)


def test_long_class_names_stay_apart(tmp_path, figures):
    names = [f"{i} a very long name of a class, WWWWWWWWWW" for i in range(10)]
    labels = np.arange(8) % 10
    many = (some_images(8), labels, labels + 1, np.ones(8))
    plot_evaluation.mistakes(*many, names, tmp_path / "x.png", title="t")
    texts_apart(figures[0], [axes.title for axes in figures[0].axes])


@pytest.mark.parametrize("count", [0, 3])
def test_no_mistakes_say_so(tmp_path, figures, count):
    labels = np.zeros(count, int)
    plot_evaluation.mistakes(
        some_images(count), labels, labels, np.ones(count), CLASSES, tmp_path / "x.png"
    )
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
        plot_evaluation.mistakes(**right | change)


def some_calibration(**change):
    """Three bins: too sure, empty, not sure enough."""
    values = {
        "edges": np.array([0, 1 / 3, 2 / 3, 1]),
        "count": np.array([40, 0, 3]),
        "confidence": np.array([0.3, np.nan, 0.8]),
        "accuracy": np.array([0.1, np.nan, 0.95]),
        "ece": 0.1965,
        "mce": 0.2,
    }
    return metrics.Calibration(**values | change)


def test_a_reliability_diagram_stacks_the_gap_on_the_accuracy(tmp_path, figures):
    plot_evaluation.reliability(some_calibration(), tmp_path / "r.png", title="t")
    upper, lower = figures[0].axes
    drawn = [
        [(round(bar.get_x()), round(bar.get_y()), round(bar.get_height())) for bar in bars]
        for bars in (*upper.containers, *lower.containers)
    ]
    assert drawn == [
        [(0, 0, 10), (67, 0, 80)],  # what both have
        [(0, 10, 20), (67, 80, 0)],  # confidence without accuracy
        [(0, 10, 0), (67, 80, 15)],  # accuracy without confidence
        [(0, 0, 40), (67, 0, 3)],
    ]
    assert upper.get_title() == "ECE 19.65 %    MCE 20.00 %"
    assert upper.lines[0].get_xydata().tolist() == [[0, 0], [100, 100]]
    assert upper.get_xlim() == upper.get_ylim() == (0, 100)
    assert lower.get_xlabel() == "confidence (%)" and lower.get_yscale() == "log"
    assert lower.get_ylim()[0] < 1
    assert len(legend(figures[0])) == 4
    image = pixels(tmp_path / "r.png", figures[0])
    for index in (0, 1, 4):
        assert (image == rgb(canvas.colour(index))).all(axis=-1).sum() > 1000
    labels = [*lower.get_xticklabels(), lower.xaxis.label, *figures[0].legends[0].get_texts()]
    texts_apart(figures[0], labels)


def test_even_counts_stay_on_a_linear_axis(tmp_path, figures):
    plot_evaluation.reliability(some_calibration(count=np.array([9, 0, 3])), tmp_path / "r.png")
    assert figures[0].axes[1].get_yscale() == "linear"


def test_nothing_to_calibrate_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="reliability: no bin"):
        plot_evaluation.reliability(some_calibration(count=np.zeros(3, int)), tmp_path / "r.png")


def test_without_matplotlib_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    path = tmp_path / "a.png"
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'jaxcnn\[plot\]'"):
        plot_evaluation.confusion_matrix(np.eye(2, dtype=int), ["a", "b"], path)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'jaxcnn\[plot\]'"):
        plot_evaluation.mistakes(some_images(1), [0], [1], [1.0], CLASSES, path)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'jaxcnn\[plot\]'"):
        plot_evaluation.reliability(some_calibration(), path)
