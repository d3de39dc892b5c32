"""The curves of runs: what is drawn (from the figure), that it is a whole PNG."""

import numpy as np
import pytest
from pictures import legend, pixels, rgb, rows, texts_apart

from jaxcnn import canvas, plot


def test_curves_draw_every_kind_of_row(tmp_path, figures):
    plot.curves({"a": rows()}, tmp_path / "a.png", title="t")
    loss, accuracy, rate = figures[0].axes
    assert [axes.get_ylabel() for axes in figures[0].axes] == [
        "loss",
        "accuracy (%)",
        "learning rate",
    ]
    steps, train, tested = loss.lines
    np.testing.assert_allclose(steps.get_xdata(), [0.5, 1, 1.5, 2, 2.5, 3])
    np.testing.assert_allclose(train.get_ydata(), [0.2, 0.02, 0.002])
    np.testing.assert_allclose(tested.get_ydata(), [0.3, 0.03, 0.003])
    assert (train.get_linestyle(), tested.get_linestyle()) == ("--", "-")
    assert steps.get_linewidth() < train.get_linewidth() and steps.get_alpha() < 1
    assert loss.get_yscale() == "log" and accuracy.get_yscale() == "linear"
    np.testing.assert_allclose(accuracy.lines[2].get_ydata(), [80, 90, 80])
    star = accuracy.lines[-1]
    assert star.get_marker() == "*"
    np.testing.assert_allclose([*star.get_xdata(), *star.get_ydata()], [2, 90])
    assert legend(figures[0]) == ["a  (best 90.00 % at epoch 2)"]
    np.testing.assert_allclose(
        rate.lines[0].get_ydata(), [0.05, 0.05, 0.025, 0.025, 0.0125, 0.0125]
    )
    image = pixels(tmp_path / "a.png", figures[0])
    assert image.shape == (600, 2070, 3)
    for third in np.split(image, 3, axis=1):  # a curve in each panel
        assert (third == rgb(canvas.colour(0))).all(axis=-1).sum() > 300


def test_the_loss_axis_is_linear_within_a_decade(tmp_path, figures):
    plot.curves({"a": rows(factor=1.3)}, tmp_path / "a.png")
    assert figures[0].axes[0].get_yscale() == "linear"


def test_several_runs_each_have_a_colour(tmp_path, figures):
    plot.curves({f"run {i}": rows(best=1 + i % 3) for i in range(7)}, tmp_path / "a.png")
    colours = {line.get_color() for line in figures[0].axes[1].lines}
    assert len(colours) == 7
    assert [text.split("  ")[0] for text in legend(figures[0])] == [f"run {i}" for i in range(7)]


def test_long_and_odd_labels_stay_in_the_picture(tmp_path, figures):
    runs = {"x" * 300: rows(), "_hidden": rows(), "$a$ $\\frac": rows(), "line\nbreak": rows()}
    plot.curves(runs, tmp_path / "a.png", title="$" + "long title " * 20)
    named = legend(figures[0])
    assert named[0].startswith("xxxx") and "\u2026" in named[0]
    assert [text.split("  ")[0] for text in named[1:]] == ["_hidden", "$a$ $\\frac", "line break"]
    assert not any(text.get_parse_math() for text in figures[0].legends[0].get_texts())
    texts_apart(figures[0], [*figures[0].legends[0].get_texts(), figures[0].legends[0].get_title()])


def test_values_that_are_not_finite_are_gaps(tmp_path, figures):
    made = rows()
    made[-1] |= {"loss": float("nan"), "accuracy": float("nan")}
    made[-2] |= {"loss": float("inf")}
    plot.curves({"a": made, "b": [{**row, "loss": None} for row in rows()]}, tmp_path / "a.png")
    loss = figures[0].axes[0]
    assert np.isnan(loss.lines[2].get_ydata()).tolist() == [False, False, True]
    assert np.isnan(loss.lines[1].get_ydata()).tolist() == [False, False, True]
    assert np.isnan(loss.lines[5].get_ydata()).all()
    assert legend(figures[0])[0] == "a  (best 90.00 % at epoch 2)"


def test_a_run_killed_in_its_first_epoch_is_drawn_against_the_step(tmp_path, figures):
    begun = [row for row in rows() if row["kind"] == "step"]
    plot.curves({"a": begun, "b": rows()}, tmp_path / "a.png")
    loss = figures[0].axes[0]
    assert loss.get_xlabel() == "step"
    assert loss.lines[0].get_xdata().tolist() == [5, 10, 15, 20, 25, 30]


def test_steps_after_the_last_whole_epoch_go_on_at_its_pace(tmp_path, figures):
    more = [{"kind": "step", "step": step, "loss": 1.0} for step in (35, 40)]
    plot.curves({"a": rows() + more}, tmp_path / "a.png")
    np.testing.assert_allclose(figures[0].axes[0].lines[0].get_xdata()[-2:], [3.5, 4])


def test_steps_that_bring_their_epoch_agree(tmp_path, figures):
    made = [{**row, "epoch": row["step"] / 10} for row in rows()]
    plot.curves({"a": made}, tmp_path / "a.png")
    np.testing.assert_allclose(figures[0].axes[0].lines[0].get_xdata(), [0.5, 1, 1.5, 2, 2.5, 3])
    np.testing.assert_allclose(figures[0].axes[0].lines[2].get_xdata(), [1, 2, 3])


@pytest.mark.parametrize("epochs", [1, 2])
def test_a_short_run_is_seen(tmp_path, epochs):
    made = [row for row in rows(epochs) if row["kind"] == "eval"]
    plot.curves({"a": made}, tmp_path / "a.png")
    assert (pixels(tmp_path / "a.png") == rgb(canvas.colour(0))).all(axis=-1).sum() > 200


@pytest.mark.parametrize(
    ("runs", "message"),
    [({}, "no run"), ({"a": []}, "'a'"), ({"a": rows(), "b": [{"kind": "note"}]}, "'b'")],
)
def test_nothing_to_draw_is_an_error(tmp_path, runs, message):
    with pytest.raises(ValueError, match=message):
        plot.curves(runs, tmp_path / "a.png")
    assert not (tmp_path / "a.png").exists()
