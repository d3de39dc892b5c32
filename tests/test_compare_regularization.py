"""The demonstration of over- and underfitting: its table, its pictures, and small runs of it."""

import importlib.util
import json
import sys
from dataclasses import fields

import numpy as np
import pytest
from conftest import ROOT
from pictures import pixels, rgb
from processes import call

from jaxcnn import canvas
from jaxcnn.log import read_config
from jaxcnn.recipes import Settings

SMALL = {"recipe": "mnist-mlp", "data_source": "digits", "examples": 40}
METRICS = ("accuracy", "loss")


@pytest.fixture(scope="module")
def script():
    """The script as a module; what it imports lies beside it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "scripts"))
        patch.setattr(sys, "path", list(sys.path))  # which `_cli` changes
        path = ROOT / "scripts/compare_regularization.py"
        spec = importlib.util.spec_from_file_location("compare_regularization", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        yield module


def variant(script, name, train, test, *, changed=None, epochs=4):
    """Make a variant of given (accuracy, loss) at its end, whose curves go there in a line."""
    rows = []
    for epoch in range(1, epochs + 1):
        share = epoch / epochs
        for kind, (accuracy, loss) in (("train", train), ("eval", test)):
            values = {"accuracy": accuracy * share, "loss": loss / share}
            rows.append({"kind": kind, "step": 5 * epoch, "epoch": epoch, **values})
    ends = (dict(zip(METRICS, end, strict=True)) for end in (train, test))
    return script.Variant(name, changed or {}, rows, *ends)


@pytest.fixture
def found(script):
    return [
        variant(script, "plain", (1.0, 0.004), (0.875, 0.4)),
        variant(script, "dropout", (0.99, 0.05), (0.92, 0.25), changed={"dropout": 0.5}),
        variant(
            script,
            "early stopping",
            (0.8, 0.6),
            (0.81, 0.55),
            changed={"early_stopping": 3, "validation": 0.2},
            epochs=2,
        ),
    ]


def test_the_table_has_gaps_and_what_was_changed(script, found):
    headings, _, *rows = script.table(found).splitlines()
    assert headings.split("  ")[0] == "variant"
    assert rows[0].split() == "plain 4 100.0 87.5 12.5 0.004 0.400 0.396".split()
    assert rows[1].split() == "dropout dropout=0.5 4 99.0 92.0 7.0 0.050 0.250 0.200".split()
    assert "early_stopping=3, validation=0.2       2 " in rows[2]
    assert rows[2].split()[-6:] == "80.0 81.0 -1.0 0.600 0.550 -0.050".split()


@pytest.mark.parametrize("metric", METRICS)
def test_a_panel_a_variant_on_the_same_axes(script, found, metric, figures, tmp_path):
    script.draw(found, metric, tmp_path / "a.png", title="digits")
    (figure,) = figures
    panels = [axes for axes in figure.axes if axes.get_visible() and axes.lines]
    gaps = {"accuracy": ["12.5", "7.0", "-1.0"], "loss": ["0.40", "0.20", "-0.05"]}[metric]
    titles = [f"{v.name}: gap {gap}" for v, gap in zip(found, gaps, strict=True)]
    assert [axes.get_title(loc="left") for axes in panels] == titles
    assert len({axes.get_ylim() for axes in panels}) == 1
    factor = 100 if metric == "accuracy" else 1
    for index, (axes, of_panel) in enumerate(zip(panels, found, strict=True)):
        lines = {line.get_color(): line for line in axes.lines if line.get_marker() == "None"}
        assert len(lines) == (3 if index else 2)  # and the plain one's in gray
        epochs = len(of_panel.rows) // 2
        for number, end in enumerate((of_panel.train, of_panel.test)):
            x, y = lines[canvas.colour(number)].get_data()
            assert x.tolist() == list(range(1, epochs + 1))
            assert y[-1] == pytest.approx(factor * end[metric])
        if index:
            np.testing.assert_array_equal(
                lines[canvas.GRAY].get_ydata(), factor * np.array(_plain(found, metric))
            )
        (dot,) = [line for line in axes.lines if line.get_marker() == "o"]
        assert dot.get_xdata()[0] == epochs
        assert dot.get_ydata()[0] == pytest.approx(factor * of_panel.train[metric])
    assert panels[0].get_yscale() == ("log" if metric == "loss" else "linear")


def _plain(found, metric):
    return [row[metric] for row in found[0].rows if row["kind"] == "eval"]


def test_pictures_of_one_and_of_many_variants(script, found, tmp_path):
    path = tmp_path / "a.png"
    for shown in (found[1:2], [*found, *found]):
        script.draw(shown, "accuracy", path)
        picture = pixels(path)
        for index in range(2):
            assert (picture == rgb(canvas.colour(index))).all(axis=2).sum() > 50
    assert picture.shape[1] > 1200


def test_what_is_not_finite_is_a_gap(script, found, figures, tmp_path):
    found[1].rows[-1]["loss"] = float("nan")
    script.draw(found[1:2], "loss", tmp_path / "a.png")
    (axes,) = figures[0].axes
    assert np.isnan(axes.lines[1].get_ydata()[-1])


def test_every_variant_changes_settings_that_exist(script):
    known = {field.name for field in fields(Settings)}
    for name, changed in script.VARIANTS.items():
        assert set(changed) <= known, name
    assert not script.VARIANTS[script.PLAIN]


def test_the_augmentation_follows_the_data(script):
    default = script.changes("augmentation", None)["augment"]
    assert "flip" in default
    for augment in script.AUGMENT.values():
        assert "flip" not in augment
        assert script.changes("augmentation", augment) == {"augment": augment}
        assert "augment" not in script.changes("dropout", augment)


def test_it_trains_draws_and_goes_on(script, tmp_path, capsys):
    options = {**SMALL, "only": ("weight decay",), "out": tmp_path}
    script.main(**options, epochs=2)
    assert "\nweight decay  weight_decay=0.05       2 " in capsys.readouterr().out
    for name in ("regularization", "regularization-loss"):
        assert min(pixels(tmp_path / f"{name}.png").shape[:2]) > 300
    record = json.loads((tmp_path / "regularization.json").read_text())
    (first,) = record["variants"]
    assert first["train"]["loss"] < first["rows"][0]["loss"]
    results = json.loads((tmp_path / "runs/weight-decay/results.json").read_text())
    assert first["test"]["accuracy"] == results["accuracy"]
    assert first["test"]["loss"] == pytest.approx(results["loss"], rel=1e-6)
    settings = read_config(tmp_path / "runs/weight-decay")["settings"]
    assert settings["weight_decay"] == 0.05 and settings["examples"] == 40

    script.main(**options, epochs=3)
    (second,) = json.loads((tmp_path / "regularization.json").read_text())["variants"]
    assert second["rows"][:4] == first["rows"] and len(second["rows"]) == 6


def test_mistakes_get_one_clear_line(script, tmp_path):
    out = call("compare_regularization", "--recipe", "mnist-mlp", "--only", "lion", status=2)
    assert "error: --only: no lion; known: plain, augmentation, dropout, " in out
    with pytest.raises(ValueError, match="examples=5: "):
        script.main(**SMALL | {"examples": 5}, only=("plain",), out=tmp_path / "new")
    assert not (tmp_path / "new").exists()
