"""Small multiples: which curves are drawn where (from the figure), titles that fit, errors."""

import numpy as np
import pytest
from pictures import legend, pixels, rgb, texts_apart

from jaxcnn import canvas
from jaxcnn.plot_multiples import Panel, multiples

LABELS = {"names": ("theirs", "ours"), "ylabel": "loss"}


def panels(count, **options):
    return [
        Panel(f"panel {i}\nsaid", ([3, 2, 1 + i], [3, 2, 1.5]), **options) for i in range(count)
    ]


def test_the_reference_is_drawn_under_its_double(tmp_path, figures):
    multiples(panels(5), tmp_path / "a.png", title="t", log=True, **LABELS)
    drawn = [axes for axes in figures[0].axes if axes.lines]
    assert [axes.get_title(loc="left") for axes in drawn] == [f"panel {i}\nsaid" for i in range(5)]
    assert {axes.get_yscale() for axes in drawn} == {"log"}
    assert {axes.get_ylim() for axes in drawn} == {drawn[0].get_ylim()}, "one axis for all"
    under, over = drawn[4].lines
    assert under.get_ydata().tolist() == [3, 2, 5] and over.get_ydata().tolist() == [3, 2, 1.5]
    assert under.get_xdata().tolist() == [0, 1, 2]
    assert under.get_linewidth() > 3 * over.get_linewidth() and under.get_alpha() < 1
    assert legend(figures[0]) == ["theirs", "ours"]
    labelled = [axes.get_xlabel() for axes in drawn]
    assert labelled == ["", "step", "step", "step", "step"], "the lowest panel of every column"
    assert [bool(axes.get_ylabel()) for axes in drawn] == [True, False, False, False, True]
    image = pixels(tmp_path / "a.png", figures[0])
    assert (image == rgb(canvas.colour(1))).all(axis=-1).sum() > 200


def test_second_curves_have_an_axis_of_their_own(tmp_path, figures):
    first, other = panels(1), panels(1, second=([0.9, 0.8], [0.9, 0.85]))
    multiples(first + other, tmp_path / "a.png", second="momentum", **LABELS)
    *_, right = figures[0].axes
    assert [line.get_ydata().tolist() for line in right.lines] == [[0.9, 0.8], [0.9, 0.85]]
    assert legend(figures[0]) == ["theirs", "ours", "theirs, momentum", "ours, momentum"]
    assert figures[0].axes[0].get_ylim()[0] <= 0, "a linear axis starts at 0"
    colours = {line.get_color() for axes in figures[0].axes for line in axes.lines}
    assert len(colours) == 4


def test_long_titles_are_wrapped_and_stay_apart(tmp_path, figures):
    said = ", ".join(f"argument_{i}=0.123" for i in range(4))
    long = [Panel(f"$name_{i}\n{said}\n1e-16 apart", ([1, 2], [1, 2])) for i in range(8)]
    multiples(long, tmp_path / "a.png", **LABELS)
    texts_apart(figures[0], [axes._left_title for axes in figures[0].axes])


def test_values_that_are_not_finite_are_gaps(tmp_path, figures):
    multiples([Panel("a", ([1, np.inf, 2], [1, np.nan]))], tmp_path / "a.png", **LABELS)
    under, over = figures[0].axes[0].lines
    assert np.isnan(under.get_ydata()).tolist() == [False, True, False]
    assert np.isnan(over.get_ydata()).tolist() == [False, True]


@pytest.mark.parametrize(
    ("shown", "options", "message"),
    [
        ([], {}, "0 panels"),
        (panels(1), {"columns": 0}, "in 0 columns"),
        ([Panel("b", ([1], []))], {}, "panel 'b' has no curve"),
        ([Panel("c", ([1], [1]), second=([], [1]))], {}, "panel 'c' has no curve"),
    ],
)
def test_nothing_to_draw_is_an_error(tmp_path, shown, options, message):
    with pytest.raises(ValueError, match=message):
        multiples(shown, tmp_path / "a.png", **LABELS, **options)
    assert not (tmp_path / "a.png").exists()
