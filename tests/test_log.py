"""config.json and metrics.jsonl: strict JSON, whole files, resumes and broken lines."""

import json
import math
import os
import shlex
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcnn
from jaxcnn import log

ROWS = [
    {"kind": "step", "step": 1, "loss": 0.1 + 0.2, "learning_rate": 1e-5},
    {"kind": "step", "step": 2, "loss": 1 / 3, "learning_rate": 5e-324},
    {"kind": "train", "step": 2, "epoch": 1, "loss": 1e300, "accuracy": 0.5},
    {"kind": "step", "step": 3, "loss": 2.0, "learning_rate": 0.0},
]


def strict(text):
    """Parse JSON as the standard has it: without NaN and Infinity."""

    def refuse(word):
        raise AssertionError(f"{word} is not JSON")

    return json.loads(text, parse_constant=refuse)


def write(workdir, rows=ROWS):
    for row in rows:
        log.append_metrics(workdir, row)
    return workdir / "metrics.jsonl"


def test_rows_come_back_exactly(tmp_path):
    path = write(tmp_path / "new" / "run")
    assert log.read_metrics(path.parent) == ROWS
    assert [strict(line) for line in path.read_text().splitlines()] == ROWS


def test_a_row_is_in_the_file_on_return(tmp_path):
    log.append_metrics(tmp_path, ROWS[0])
    assert (tmp_path / "metrics.jsonl").read_bytes().endswith(b"}\n")


def test_non_finite_values_are_strict_json_and_come_back(tmp_path):
    path = write(tmp_path, [{"step": 0, "a": math.nan, "b": math.inf, "c": [-math.inf, 1.0]}])
    assert strict(path.read_text()) == {
        "step": 0,
        "a": "NaN",
        "b": "Infinity",
        "c": ["-Infinity", 1.0],
    }
    (row,) = log.read_metrics(tmp_path)
    assert math.isnan(row["a"]) and row["b"] == math.inf and row["c"] == [-math.inf, 1.0]


def test_array_scalars_become_numbers(tmp_path):
    row = {"step": np.int64(7), "a": jnp.float32(0.1), "b": np.float32(math.nan), "c": np.bool_(1)}
    path = write(tmp_path, [row])
    read = strict(path.read_text())
    assert read == {"step": 7, "a": float(np.float32(0.1)), "b": "NaN", "c": True}
    assert read["c"] is True


@pytest.mark.parametrize("row", [{}, {"step": None}, {"step": 1.5}, {"step": True}, {"step": -1}])
def test_a_row_without_a_step_is_refused(tmp_path, row):
    with pytest.raises(ValueError, match='"step"'):
        log.append_metrics(tmp_path, row)
    assert not (tmp_path / "metrics.jsonl").exists()


def test_a_value_without_json_form_is_refused_by_name(tmp_path):
    write(tmp_path)
    before = (tmp_path / "metrics.jsonl").read_bytes()
    with pytest.raises(TypeError, match="loss: object has no JSON form"):
        log.append_metrics(tmp_path, {"step": 4, "loss": object()})
    assert (tmp_path / "metrics.jsonl").read_bytes() == before


def test_a_half_written_last_line_is_ignored_and_then_dropped(tmp_path):
    path = write(tmp_path)
    whole = path.read_bytes()
    last = whole.splitlines(keepends=True)[-1]
    for cut in range(1, len(last) - 1):  # all but the brace and the newline at most
        path.write_bytes(whole[: -len(last) + cut])
        assert log.read_metrics(tmp_path) == ROWS[:-1]
    log.append_metrics(tmp_path, ROWS[-1])
    assert path.read_bytes() == whole


def test_only_the_newline_missing_loses_nothing(tmp_path):
    path = write(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    assert log.read_metrics(tmp_path) == ROWS
    log.append_metrics(tmp_path, {"step": 9})
    assert path.read_bytes() == whole + b'{"step": 9}\n'


@pytest.mark.parametrize("broken", [b'{"step": 2, "lo', b"[1, 2]", b"", b"\xff\xfe"])
def test_any_other_broken_line_is_named(tmp_path, broken):
    path = write(tmp_path)
    lines = path.read_bytes().split(b"\n")
    lines[1] = broken
    path.write_bytes(b"\n".join(lines))
    before = path.read_bytes()
    for read in (log.read_metrics, lambda workdir: log.truncate_metrics(workdir, 1)):
        with pytest.raises(ValueError, match=r"metrics\.jsonl, line 2"):
            read(tmp_path)
    assert path.read_bytes() == before


def test_a_broken_last_line_that_was_ended_is_an_error(tmp_path):
    path = write(tmp_path)
    path.write_bytes(path.read_bytes() + b'{"step": 4, "lo\n')
    with pytest.raises(ValueError, match="line 5"):
        log.read_metrics(tmp_path)


def test_no_metrics(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"metrics\.jsonl.*run's folder"):
        log.read_metrics(tmp_path)
    (tmp_path / "metrics.jsonl").touch()
    assert log.read_metrics(tmp_path) == []
    log.append_metrics(tmp_path, ROWS[0])
    assert log.read_metrics(tmp_path) == ROWS[:1]


@pytest.mark.parametrize("step", [0, 1, 2, 3, 99])
def test_truncation_keeps_the_rows_up_to_the_step(tmp_path, step):
    path = write(tmp_path)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(path.read_bytes() + b'{"step": 4, "lo')
    log.truncate_metrics(tmp_path, step)
    kept = [line for line, row in zip(lines, ROWS, strict=True) if row["step"] <= step]
    assert path.read_bytes() == b"".join(kept)


def test_truncation_of_nothing_is_no_error(tmp_path):
    log.truncate_metrics(tmp_path, 5)
    assert list(tmp_path.iterdir()) == []


def test_truncation_names_a_row_without_a_step(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"kind": "eval"}\n')
    with pytest.raises(ValueError, match='line 2: no integer "step"'):
        log.truncate_metrics(tmp_path, 5)


@pytest.mark.parametrize("fails", ["write", "replace"])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, fails):
    path = write(tmp_path)
    before = path.read_bytes()

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync" if fails == "write" else "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        log.truncate_metrics(tmp_path, 1)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_config_records_the_start(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train.py", "a b", "--lr", "0.1"])
    settings = {"lr": 0.1, "out": Path("runs/x"), "sizes": (1, 2), "limit": math.inf, "none": None}
    log.write_config(tmp_path / "run", settings)
    config = strict((tmp_path / "run/config.json").read_text())
    assert config["settings"] == {
        "lr": 0.1,
        "out": "runs/x",
        "sizes": [1, 2],
        "limit": "Infinity",
        "none": None,
    }
    assert config["versions"]["jax"] == jax.__version__
    assert config["versions"]["numpy"] == np.__version__
    assert config["versions"]["jaxcnn"] == jaxcnn.__version__
    assert {"python", "jaxlib", "flax", "optax", "orbax-checkpoint"} <= config["versions"].keys()
    device = jax.devices()[0]
    assert config["device"] == {
        "platform": device.platform,
        "kind": device.device_kind,
        "count": jax.device_count(),
    }
    assert shlex.split(config["command"]) == ["train.py", "a b", "--lr", "0.1"]
    age = datetime.now(UTC) - datetime.fromisoformat(config["time"])
    assert timedelta(seconds=-1) < age < timedelta(minutes=1)
    assert config["resumes"] == []
    assert log.read_config(tmp_path / "run")["settings"]["limit"] == math.inf


def test_a_resume_is_added_and_leaves_the_first_record_alone(tmp_path, monkeypatch):
    log.write_config(tmp_path, {"epochs": 3, "limit": math.nan, "lr": 0.1})
    first = strict((tmp_path / "config.json").read_text())
    monkeypatch.setattr(sys, "argv", ["train.py", "--resume"])
    log.write_config(tmp_path, {"epochs": 5, "limit": math.nan, "lr": 0.1})
    log.write_config(tmp_path, {"epochs": 3, "limit": math.nan, "lr": 0.1, "new": 1})
    config = strict((tmp_path / "config.json").read_text())
    resumes = config.pop("resumes")
    assert {**config, "resumes": []} == first
    assert [entry["changed_settings"] for entry in resumes] == [{"epochs": 5}, {"new": 1}]
    for entry in resumes:
        assert entry["command"] == "train.py --resume"
        assert entry.keys() == {
            "time",
            "command",
            "versions",
            "device",
            "git",
            "changed_settings",
        }


@pytest.mark.parametrize("content", ["", '{"settings": {', "[]", '{"settings": 3}', "{}"])
def test_a_broken_config_is_named_and_kept(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ValueError, match=r"config\.json: not"):
        log.read_config(tmp_path)
    with pytest.raises(ValueError, match=r"config\.json: not"):
        log.write_config(tmp_path, {})
    assert (tmp_path / "config.json").read_text() == content


def test_no_config(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"config\.json: no such file"):
        log.read_config(tmp_path)


def test_the_commit_is_that_of_the_checkout_that_holds_the_package(tmp_path, monkeypatch):
    """A fake package folder: outside any checkout, inside one untracked, tracked, changed."""

    def git(*arguments):
        command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def recorded():
        workdir = tmp_path.parent / f"{tmp_path.name}-run"
        (workdir / "config.json").unlink(missing_ok=True)
        log.write_config(workdir, {})
        return log.read_config(workdir)["git"]

    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    package = tmp_path / "jaxcnn"
    package.mkdir()
    (package / "__init__.py").touch()
    monkeypatch.setattr(log, "__file__", str(package / "log.py"))
    assert recorded() == {"commit": None, "dirty": None}
    git("init", "--quiet")
    (tmp_path / "other").touch()
    git("add", "other")
    git("commit", "--quiet", "-m", "other")
    assert recorded() == {"commit": None, "dirty": None}
    git("add", ".")
    git("commit", "--quiet", "-m", "package")
    assert recorded() == {"commit": git("rev-parse", "HEAD"), "dirty": False}
    (package / "network.py").touch()
    assert recorded() == {"commit": git("rev-parse", "HEAD"), "dirty": True}
    monkeypatch.setenv("PATH", str(tmp_path))  # no git at all
    assert recorded() == {"commit": None, "dirty": None}
