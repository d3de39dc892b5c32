"""What a trained run shows: evaluation.json and pictures, of a network that only looks it up."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from data_trees import write_image

from jaxcnn import evaluate, plot, results, weights
from jaxcnn.data import Arrays, Dataset, Files

NAMES = ("ant", "bee", "cow")
# The image's first pixel says which row; no cow is there, and none is called one.
TABLE = np.array(
    [[0.9, 0.1, 0.0], [0.3, 0.7, 0.0], [0.25, 0.75, 0.0], [0.8, 0.2, 0.0], [0.4, 0.5, 0.1]],
    np.float32,
)
LABELS = np.array([0, 0, 1, 1, 1], np.int32)


def eval_step(state, batch):
    probabilities = TABLE[np.asarray(batch["images"])[:, 0, 0, 0]]
    return {
        "loss": -np.log(probabilities[np.arange(len(probabilities)), np.asarray(batch["labels"])]),
        "predictions": probabilities.argmax(axis=1).astype(np.int32),
        "probabilities": probabilities,
    }


def trained(step=eval_step):
    run = SimpleNamespace(eval_step=step)
    return SimpleNamespace(
        run=run, state=None, settings=SimpleNamespace(title="a net"), class_names=NAMES
    )


def dataset(split):
    return Dataset("folder:/some/where", NAMES, split, split)


@pytest.fixture
def arrays():
    images = np.zeros((5, 4, 4, 3), np.uint8)
    images[:] = np.arange(5, dtype=np.uint8)[:, None, None, None]
    return Arrays(images, LABELS)


@pytest.fixture
def no_pictures(monkeypatch):
    monkeypatch.setattr(plot, "available", lambda: False)


def test_the_evaluation_is_written_in_plain_json(tmp_path, arrays, no_pictures):
    got = results.picture(
        tmp_path, trained(), dataset(arrays), tmp_path / "out", eval_batch_size=2, bins=2
    )
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["evaluation.json"]
    text = (tmp_path / "out/evaluation.json").read_text()
    found = json.loads(text, parse_constant=pytest.fail)  # no NaN: not every reader takes it
    loss = -np.log([0.9, 0.3, 0.75, 0.2, 0.5]).mean()
    assert found.pop("loss") == pytest.approx(loss, rel=1e-6)
    brier = [0.02, 0.98, 0.125, 1.28, 0.42]
    assert found.pop("brier") == pytest.approx(np.mean(brier), rel=1e-6)
    bins = found["calibration"].pop("bins")
    assert [row["examples"] for row in bins] == [1, 4]
    assert (bins[0]["above"], bins[0]["up_to"], bins[1]["up_to"]) == (0, 0.5, 1)
    assert bins[0]["accuracy"] == 1 and bins[1]["accuracy"] == 0.5
    assert bins[1]["confidence"] == pytest.approx(np.mean([0.9, 0.7, 0.75, 0.8]))
    confidences = [mistake.pop("confidence") for mistake in found["mistakes"]]
    assert confidences == pytest.approx([0.8, 0.7])
    assert found.pop("calibration") == {
        "ece": pytest.approx((0.5 + 4 * 0.2875) / 5, rel=1e-6),
        "mce": pytest.approx(0.5),
    }
    halves = {"precision": 0.5, "recall": 0.5, "f1": 0.5}
    thirds = {key: pytest.approx(2 / 3) for key in halves}
    assert found == {
        "data": "folder:/some/where",
        "split": "test",
        "examples": 5,
        "accuracy": 0.6,
        "top_k": {"1": 0.6, "2": 1.0},
        **{f"macro_{key}": pytest.approx(7 / 12) for key in halves},
        "classes": {
            "ant": {"support": 2, **halves},
            "bee": {"support": 3, **thirds},
            "cow": {"support": 0, "precision": None, "recall": None, "f1": None},
        },
        "mistakes": [
            {"index": 3, "true": "bee", "predicted": "ant"},
            {"index": 1, "true": "ant", "predicted": "bee"},
        ],
    }
    np.testing.assert_allclose(got["class_accuracy"], [0.5, 2 / 3, np.nan])
    assert got["accuracy"] == 0.6 and got["mistakes"].tolist() == [3, 1]


def test_mistakes_in_files_are_named(tmp_path, figures):
    """The picture shows the files' images, in the order of evaluation.json."""
    paths = []
    for value in range(5):
        paths.append(str(tmp_path / f"images/{value}.png"))
        write_image(tmp_path / f"images/{value}.png", value)
    split = Files(tuple(paths), LABELS, (4, 4, 3))
    results.picture(tmp_path, trained(), dataset(split), tmp_path, eval_batch_size=5)
    found = json.loads((tmp_path / "evaluation.json").read_text())["mistakes"]
    assert [(row["index"], row["file"]) for row in found] == [(3, paths[3]), (1, paths[1])]
    assert [figure.get_suptitle() for figure in figures] == ["a net on folder:where"] * 3
    drawn = [axes for axes in figures[2].axes if axes.images]
    assert [int(axes.images[0].get_array()[0, 0, 0]) for axes in drawn] == [3, 1]
    titles = [axes.get_title() for axes in drawn]
    assert titles == ["bee \u2192 ant  80 %", "ant \u2192 bee  70 %"]


def test_no_mistakes_are_an_empty_list(tmp_path, arrays, figures):
    right = Arrays(arrays.images, TABLE.argmax(axis=1).astype(np.int32))
    results.picture(tmp_path, trained(), dataset(right), tmp_path)
    found = json.loads((tmp_path / "evaluation.json").read_text())
    assert found["mistakes"] == [] and found["accuracy"] == 1
    assert [text.get_text() for text in figures[2].axes[0].texts] == ["no mistakes"]


def test_pictures_are_written_beside_the_numbers(tmp_path, arrays):
    results.picture(tmp_path, trained(), dataset(arrays), tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"evaluation.json", "confusion.png", "calibration.png", "mistakes.png"}


def test_wrong_options_cost_no_evaluation(tmp_path, arrays):
    def never(state, batch):
        raise AssertionError("evaluated before the options were checked")

    with pytest.raises(ValueError, match="ranks: top=4: expected 1 to 3"):
        results.picture(tmp_path, trained(never), dataset(arrays), tmp_path, top=4)
    with pytest.raises(ValueError, match="calibration: bins=0: expected at least 1"):
        results.picture(tmp_path, trained(), dataset(arrays), tmp_path, bins=0)
    assert not list(tmp_path.iterdir())


def test_a_summary_needs_no_run(arrays):
    found = evaluate.evaluate(eval_step, None, arrays, 5)
    summary = results.summarize(found | evaluate.measure(found, top=1), dataset(arrays), NAMES)
    assert summary["top_k"] == {"1": 0.6} and len(summary["calibration"]["bins"]) == 15


def test_exported_weights_have_pytorch_s_keys(tmp_path):
    kernel = np.arange(6, dtype=np.float32).reshape(2, 3)
    params = {"fc": {"kernel": kernel, "bias": np.zeros(3, np.float32)}}
    state = SimpleNamespace(params=params, batch_stats={})
    results.export(tmp_path, SimpleNamespace(state=state))
    found = weights.read(tmp_path / "best.safetensors")
    assert found.keys() == {"fc.weight", "fc.bias"}
    np.testing.assert_array_equal(found["fc.weight"], kernel.T)
