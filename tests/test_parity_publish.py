"""The published tables: rendered from the stored records alone, and nothing missing is hidden."""

import json
import math
import re
import runpy
import shutil
from dataclasses import replace

import pytest
from conftest import ROOT

from jaxcnn import models
from jaxcnn.recipes import RECIPES
from parity import harness, publish, records, report

NAMES = ["big", "new", "small"]
OPTIONS = {"seed": 0, "batch_size": 4}
BUDGETS = {
    "output, evaluation": 1e-12,
    "output, training": 1e-12,
    "activations, evaluation": 1e-12,
    "activations, training": 1e-12,
    "gradients, evaluation": 1e-11,
    "gradients, training": 1e-11,
    "statistics, 1 batch": 1e-12,
    "statistics, 10 batches": 1e-12,
    "20 steps, decay per step": 1e-10,
    "10 steps, decay per epoch": 1e-9,
}


def rows(name, size=(5, 7, 3), skip="statistics"):
    """Return a row for every comparison but those that begin with `skip`."""
    return [
        report.Row(name, comparison, 1e-15, budget, "fc", 2e-7, 1e-7, (4, *size))
        for comparison, (_, budget, _) in harness.COMPARISONS.items()
        if not comparison.startswith(skip)
    ]


@pytest.fixture
def found(monkeypatch):
    """Return the records of two networks of three, compared in the way of `BUDGETS`."""
    monkeypatch.setattr(models, "names", lambda: NAMES)
    comparisons = {name: harness.Comparison(lambda _: None, b) for name, b in BUDGETS.items()}
    monkeypatch.setattr(harness, "COMPARISONS", comparisons)
    return {
        "big": records.make(rows("big", skip="none"), seconds=75.04, **OPTIONS),
        "small": records.make(rows("small", (28, 31, 1)), seconds=2, **OPTIONS),
    }


@pytest.fixture
def root(tmp_path):
    """Return a folder with what a publication needs, its README's table empty."""
    for path in ("README.md", "parity/results/remarks.md", "scripts/parity.py", "scripts/_cli.py"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, tmp_path / path)
    readme = tmp_path / "README.md"
    readme.write_text(publish.insert(readme.read_text(), ""))
    return tmp_path


def line(text, name):
    return next(line for line in text.splitlines() if line.startswith(f"| `{name}`"))


def change(record, comparison, **changes):
    """Return the record with other numbers in one comparison."""
    changed = [
        replace(row, **changes) if row.comparison == comparison else row for row in record.rows
    ]
    return replace(record, rows=changed)


def test_the_committed_documents_are_the_rendering_of_the_committed_records():
    """If this fails: python scripts/parity.py --render."""
    found = records.read(ROOT / publish.RECORDS)
    remarks = (ROOT / publish.REMARKS).read_text()
    assert (ROOT / publish.DOCUMENT).read_text() == publish.document(found, remarks)
    readme = (ROOT / publish.README).read_text()
    assert publish.insert(readme, publish.short(found)) == readme
    assert remarks.strip() in (ROOT / publish.DOCUMENT).read_text()


def test_the_committed_records_hold():
    """If this fails: python scripts/parity.py NETWORK... --publish, with the networks named."""
    found = records.read(ROOT / publish.RECORDS)
    documented = {settings.network for _, settings in RECIPES.values()}
    assert documented <= set(found) <= set(models.names())
    assert not [name for name, record in found.items() if not record.current]
    assert not [name for name, record in found.items() if not record.passed]


def test_every_network_has_a_record():
    assert set(records.read(ROOT / publish.RECORDS)) == set(models.names())


def test_every_network_has_a_line(found):
    text = publish.short(found)
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len(table) == 2 + len(NAMES)
    assert len({line.count("|") for line in table}) == 1
    assert "| logits (1e-12) | activations (1e-12) | gradients (1e-11) |" in table[0]
    assert "| statistics, 10 batches (1e-12) | 20 steps, decay per step (1e-10) |" in table[0]
    assert "| 10 steps, decay per epoch (1e-9) |" in table[0]
    shown = "| 1.0e-15 | 1.0e-15 | 1.0e-15 | 1.0e-15 | 1.0e-15 | 1.0e-15 | 2.0e-07 / 1.0e-07 |"
    assert line(text, "big") == f"| `big` | 5x7x3 {shown}"
    assert line(text, "small").split(" | ")[1:6] == ["28x31x1", *["1.0e-15"] * 3, "-"]
    assert "(parity/results/parity.md)" in text


def test_a_line_shows_the_worst_of_both_modes(found):
    changed = change(found["small"], "gradients, training", float64=3e-13)
    changed = change(changed, "output, evaluation", float32=9e-3, rounding=8e-3)
    shown = line(publish.short({**found, "small": changed}), "small")
    assert "| 3.0e-13 | - |" in shown
    assert shown.endswith("| 9.0e-03 / 8.0e-03 |")


def test_what_is_missing_failed_or_old_is_seen(found):
    text, whole = publish.short(found), publish.document(found, "")
    summary = "2 of 3 networks keep every budget; **not run**: `new`."
    assert summary in text and summary in whole
    assert line(text, "new").startswith("| `new` **not run** |")
    assert "## new\n\n**not run**\n" in whole

    for error, shown in ((1e-9, "1.0e-09"), (math.inf, "inf")):
        failed = {**found, "big": change(found["big"], "gradients, evaluation", float64=error)}
        text, whole = publish.short(failed), publish.document(failed, "")
        assert "1 of 3 networks keep every budget; **over budget**: `big`; **not run**" in text
        assert line(text, "big").startswith("| `big` **over budget** |")
        assert f"| **{shown} FAIL** |" in line(text, "big")
        assert f"| gradients, evaluation | {shown} | 1.0e-11 | FAIL | fc |" in whole

    # No column of the short table holds this one.
    failed = {**found, "big": change(found["big"], "statistics, 1 batch", float64=1.0)}
    assert line(publish.short(failed), "big").startswith("| `big` **over budget** |")

    old = {**found, "big": replace(found["big"], comparisons=found["big"].comparisons[:-1])}
    assert line(publish.short(old), "big").startswith("| `big` **out of date** |")
    assert "1 of 3 networks" in publish.short(old)
    assert "added or removed: 10 steps, decay per epoch." in publish.document(old, "")


def test_the_whole_table_holds_every_row_and_the_remarks(found):
    whole = publish.document(found, "Look at `big`,\n  twice.\n")
    assert "## Remarks\n\nLook at `big`,\n  twice.\n" in whole
    assert whole.count("| 1.0e-15 |") == len(found["big"].rows) + len(found["small"].rows)
    assert "## big\n\nImages 5x7x3; 75 s.\n\n| comparison | float64 |" in whole
    assert "\n- every network: seed 0, batches of 4; Python 3" in whole


def test_differing_versions_are_said_for_each_network(found):
    versions = {**found["small"].versions, "jax": "0.0.1"}
    differing = {**found, "small": replace(found["small"], versions=versions)}
    whole, text = publish.document(differing, ""), publish.short(differing)
    assert "\n- `big`: seed 0" in whole and "\n- `small`: seed 0" in whole
    assert "jax 0.0.1" in whole and "every network" not in whole
    assert "jax" not in text and "differ between networks" in text
    assert "jax " in publish.short(found) and "differ between" not in publish.short(found)


def test_budgets_that_differ_are_said(found):
    other = change(found["big"], "output, training", budget=1e-10)
    assert "logits (1e-12 to 1e-10)" in publish.short({**found, "big": other})


def test_a_column_without_a_comparison_is_an_error(found, monkeypatch):
    names = {n: c for n, c in harness.COMPARISONS.items() if not n.startswith("gradients")}
    monkeypatch.setattr(harness, "COMPARISONS", names)
    with pytest.raises(ValueError, match="no comparison for the column 'gradients'; there are: "):
        publish.short(found)


def test_no_comparison_belongs_to_two_columns():
    for comparison in harness.COMPARISONS:
        row = replace(rows("net")[0], comparison=comparison)
        columns = [column for column in publish.COLUMNS if publish.matching(column, [row])]
        assert len(columns) == (0 if comparison == "statistics, 1 batch" else 1), comparison


def test_records_survive_the_file(found, tmp_path):
    path = tmp_path / "results/parity.json"
    infinite = change(found["big"], "output, training", float64=math.inf, rounding=math.nan)
    records.store(path, "small", found["small"])
    records.store(path, "big", infinite)
    assert list(json.loads(path.read_text())) == ["big", "small"]
    back = records.read(path)
    assert back["small"] == found["small"]
    # What is not finite is null in the file, and infinite behind it.
    assert back["big"] == change(infinite, "output, training", rounding=math.inf)
    assert not back["big"].passed and back["small"].passed
    records.store(path, "small", replace(found["small"], seconds=9.5))
    assert records.read(path) == {**back, "small": replace(found["small"], seconds=9.5)}


def test_broken_files_are_named(tmp_path, root):
    assert records.read(tmp_path / "nothing.json") == {}
    (root / publish.RECORDS).write_text("{")
    with pytest.raises(ValueError, match=r"parity\.json: not JSON"):
        publish.render(root)
    for text in ("", publish.END + publish.BEGIN, publish.BEGIN * 2 + publish.END):
        with pytest.raises(ValueError, match=r"README\.md must hold '<!-- parity table -->'"):
            publish.insert(text, "table")
    assert publish.insert(f"a{publish.BEGIN}b{publish.END}c", "x") == (
        f"a{publish.BEGIN}\nx\n{publish.END}c"
    )


@pytest.fixture
def script(root, monkeypatch):
    """Return the script's `main`, at home in `root`, with few comparisons."""
    few = {
        next(name for name in harness.COMPARISONS if re.search(column.pattern, name))
        for column in publish.COLUMNS
    }
    comparisons = {n: c for n, c in harness.COMPARISONS.items() if n in few}
    monkeypatch.setattr(harness, "COMPARISONS", comparisons)
    monkeypatch.syspath_prepend(root / "scripts")
    return runpy.run_path(str(root / "scripts/parity.py"))["main"]


def test_script_publishes_one_network_beside_the_others(script, root, capsys):
    readme = (root / "README.md").read_text()
    script(("mlp_mnist",), publish=True, seed=3, batch_size=2)
    found = records.read(root / publish.RECORDS)
    assert list(found) == ["mlp_mnist"] and found["mlp_mnist"].current
    assert len(found["mlp_mnist"].rows) == len(publish.COLUMNS) - 1, "no statistics"
    assert found["mlp_mnist"].passed and found["mlp_mnist"].seconds > 0
    settings = {"seed": 3, "batch_size": 2, "input_shape": [28, 28, 1]}
    assert found["mlp_mnist"].settings == settings
    assert "mlp_mnist  2x28x28x1  gradients, " in capsys.readouterr().out
    published = (root / "README.md").read_text()
    assert publish.insert(published, "") == readme, "nothing else in the README changes"
    assert line(published, "mlp_mnist").startswith("| `mlp_mnist` | 28x28x1 | ")
    assert "## mlp_mnist\n\nImages 28x28x1" in (root / publish.DOCUMENT).read_text()

    (root / publish.DOCUMENT).unlink()
    (root / "README.md").write_text(readme)
    script(render=True)
    assert (root / "README.md").read_text() == published
    assert "## mlp_mnist\n\nImages 28x28x1" in (root / publish.DOCUMENT).read_text()


def test_a_comparison_that_raises_stops_the_script_and_keeps_what_was_stored(
    script, root, monkeypatch
):
    def compare(make):
        name = make.args[0]
        if name == "vgg_cifar":
            raise RuntimeError("no more memory")
        return rows(name)

    monkeypatch.setattr(report, "rows", compare)
    script(("cnn_mnist",), publish=True)
    with pytest.raises(RuntimeError, match="no more memory"):
        script(("mlp_mnist", "vgg_cifar", "alexnet_cifar"), publish=True)
    assert list(records.read(root / publish.RECORDS)) == ["cnn_mnist", "mlp_mnist"]
    text = (root / "README.md").read_text()
    assert "`vgg_cifar` **not run**" in text and "| `mlp_mnist` | 5x7x3 |" in text


def test_script_exits_with_1_when_a_budget_is_exceeded(script, root, monkeypatch):
    def compare(make):
        return [replace(row, float64=1.0) for row in rows(make.args[0])]

    monkeypatch.setattr(report, "rows", compare)
    with pytest.raises(SystemExit) as stopped:
        script(("cnn_mnist", "mlp_mnist"), publish=True)
    assert stopped.value.code == 1
    assert "**over budget**: `cnn_mnist`, `mlp_mnist`" in (root / "README.md").read_text()


@pytest.mark.parametrize(
    ("networks", "options", "message"),
    [
        (["mlp_mnist"], {"render": True}, "--render compares nothing"),
        ([], {"render": True, "publish": True}, "--render compares nothing"),
        ([], {"publish": True, "pair": "a:b"}, "take no --pair"),
        ([], {"publish": True, "dtype": "float64"}, "take no --pair, --dtype"),
        (["lenet"], {"publish": True}, "unknown network lenet"),
    ],
)
def test_script_refuses_what_cannot_be_published(script, root, networks, options, message):
    with pytest.raises(ValueError, match=message):
        script(tuple(networks), **options)
    assert not (root / publish.RECORDS).exists() and not (root / publish.DOCUMENT).exists()
