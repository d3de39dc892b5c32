"""Training on image files that are decoded as it goes: the run in memory, and its waiting told."""

import time

import pytest
from children import loading, processes
from PIL import Image
from small import small_dataset
from test_fit import BATCH, assert_same_run, fresh, run, steps

from jaxcnn import log
from jaxcnn.data import DataError, Dataset, Files, decode, readers
from jaxcnn.fit import fit


@pytest.fixture(scope="module")
def streamed(tmp_path_factory):
    """The small data set as PNG files."""
    folder, found = tmp_path_factory.mktemp("images"), small_dataset()

    def files(name, split):
        paths = [str(folder / f"{name}-{number}.png") for number in range(len(split))]
        for path, image in zip(paths, split.images, strict=True):
            Image.fromarray(image[..., 0]).save(path)
        return Files(tuple(paths), split.labels, (8, 8, 1))

    return Dataset("files", found.class_names, files("a", found.train), files("b", found.test))


def train(dataset, workdir, **options):
    _, schedule, train_step, eval_step = steps()
    arguments = {"epochs": 3, "batch_size": BATCH, "seed": 3, "eval_batch_size": 5}
    arguments |= {"log_every": 2, "schedule": schedule} | options
    return fit(fresh(), train_step, eval_step, dataset, workdir, **arguments)


def test_the_same_run_as_in_memory_by_one_set_of_processes(streamed, tmp_path, monkeypatch):
    started, popen = [], readers.subprocess.Popen
    monkeypatch.setattr(
        readers.subprocess, "Popen", lambda *a, **k: started.append(a[0]) or popen(*a, **k)
    )
    run(tmp_path / "memory")
    train(streamed, tmp_path / "files", workers=2)
    assert_same_run(tmp_path / "memory", tmp_path / "files")
    workers = [command for command in started if command[-1].endswith("worker.py")]
    assert 1 <= len(workers) <= 2  # for three epochs and three evaluations
    assert loading() == ([], [])


def test_waiting_is_recorded_and_said_where_it_is_long(streamed, tmp_path, monkeypatch, capsys):
    def slow(*arguments):
        time.sleep(0.025)
        return decode.read_image(*arguments)

    monkeypatch.setattr(readers, "read_image", slow)
    monkeypatch.setattr(readers, "_cores", lambda: 2)
    train(streamed, tmp_path / "slow", workers=0, epochs=2)
    row, again = (row for row in log.read_metrics(tmp_path / "slow") if row["kind"] == "train")
    # 50 images, two at a time; said once.
    assert 0.5 < row["waited"] < row["seconds"] and again["waited"] > 0.5
    said = f"epoch 1: waited {row['waited']:.1f} of {row['seconds']:.1f} s for images; more"
    err = capsys.readouterr().err
    assert said in err and err.count("waited") == 1
    run(tmp_path / "memory", epochs=1)
    (row,) = (row for row in log.read_metrics(tmp_path / "memory") if row["kind"] == "train")
    assert row["waited"] == 0.0 and "waited" not in capsys.readouterr().err


def test_a_damaged_file_ends_the_run_and_its_processes(streamed, tmp_path):
    bad = tmp_path / "damaged.png"
    bad.write_bytes(b"\x89PNG\r\n\x1a\n")
    paths = (*streamed.train.paths[:20], str(bad), *streamed.train.paths[21:])
    split = Files(paths, streamed.train.labels, (8, 8, 1))
    with pytest.raises(DataError, match="damaged.png"):
        train(Dataset("files", streamed.class_names, split, streamed.test), tmp_path, workers=1)
    assert loading() == ([], [])


def test_an_error_in_a_step_leaves_nothing_running(streamed, tmp_path):
    _, _, train_step, eval_step = steps()
    seen = []

    def broken(state, batch, key):
        seen.append(len(processes()))
        if len(seen) == 2:
            raise KeyboardInterrupt
        return train_step(state, batch, key)

    options = {"epochs": 1, "batch_size": BATCH, "seed": 0, "workers": 1}
    with pytest.raises(KeyboardInterrupt):
        fit(fresh(), broken, eval_step, streamed, tmp_path, **options)
    assert seen == [1, 1] and loading() == ([], [])
