import json

import pytest
from processes import call


def test_table_of_both_scalings(tmp_path):
    out = tmp_path / "table.json"
    options = ("--devices", 2, "--batch", 8, "--rounds", 2, "--calls", 1)
    call("benchmark_devices", "mlp_mnist", *options, "--format", "json", "--out", out)
    rows = json.loads(out.read_text())["rows"]
    sides = [(row["scaling"], row["devices"], row["batch"]) for row in rows]
    assert sides == [("weak", 1, 8), ("weak", 2, 16), ("strong", 1, 8), ("strong", 2, 8)]
    for row in rows:
        assert len(row["milliseconds"]) == 2 and min(row["milliseconds"]) > 0
        low, median, high = row["efficiency"]
        assert 0 < low <= median <= high
        assert median == pytest.approx(1) or row["devices"] > 1


def test_errors_name_the_option():
    said = call("benchmark_devices", "mlp_mnist", "--devices", 4, "--batch", 6, status=2)
    assert "--batch 6: expected a multiple of 4" in said
