"""Batches: every example once, the same from any start, streams equal to arrays."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from children import loading
from PIL import Image

from jaxcnn import data

N = 23


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> data.Files:
    """Return 23 image files; the pixels of each tell its number."""
    folder = tmp_path_factory.mktemp("images")
    paths = []
    for number in range(N):
        paths.append(str(folder / f"{number}.png"))
        Image.fromarray(np.full((6, 5, 3), number, np.uint8)).save(paths[-1])
    labels = np.arange(N, dtype=np.int32) % 4
    return data.Files(tuple(paths), labels, (6, 5, 3))


@pytest.fixture(scope="module")
def arrays(files) -> data.Arrays:
    images = np.stack([data.read_image(path, files.image_shape) for path in files.paths])
    return data.Arrays(images, files.labels)


def numbers(batches):
    return [np.asarray(batch["images"])[:, 0, 0, 0].tolist() for batch in batches]


def counting(batch):
    """Return the examples of a batch that are no filling."""
    mask = np.asarray(batch.get("mask", np.ones(len(batch["labels"]), bool)))
    return {key: np.asarray(value)[mask] for key, value in batch.items()}


def assert_same(got, want):
    got, want = list(got), list(want)
    assert len(got) == len(want)
    for one, other in zip(got, want, strict=True):
        assert one.keys() == other.keys()
        for key in one:
            assert one[key].dtype == other[key].dtype
            np.testing.assert_array_equal(one[key], other[key])


def test_order_is_a_pure_function_of_seed_and_epoch():
    order = data.epoch_order(50, seed=3, epoch=4)
    assert order.dtype == np.int32
    np.testing.assert_array_equal(order, np.random.default_rng([3, 4]).permutation(50))
    assert sorted(order) == list(range(50))
    for other in ({"seed": 4, "epoch": 3}, {"seed": 3, "epoch": 5}):
        assert (data.epoch_order(50, **other) != order).any()


@pytest.mark.parametrize("drop_last", [True, False])
@pytest.mark.parametrize("kind", ["arrays", "files"])
def test_every_example_comes_once_an_epoch(kind, drop_last, request):
    split = request.getfixturevalue(kind)
    batches = list(data.train_batches(split, 5, seed=0, epoch=1, drop_last=drop_last))
    assert len(batches) == data.num_batches(N, 5, drop_last) == (4 if drop_last else 5)
    assert {len(batch["labels"]) for batch in batches} == {5}
    assert {"mask" in batch for batch in batches} == {not drop_last}
    batches = [counting(batch) for batch in batches]
    assert [len(batch["labels"]) for batch in batches] == [5] * 4 + [3] * (not drop_last)
    seen = sum(numbers(batches), [])
    assert len(set(seen)) == len(seen) == (20 if drop_last else N)
    assert seen == data.epoch_order(N, seed=0, epoch=1)[: len(seen)].tolist()
    labels = np.concatenate([batch["labels"] for batch in batches])
    np.testing.assert_array_equal(labels, np.array(seen) % 4)


def test_batches_have_the_promised_types(arrays, files):
    for split in (arrays, files):
        batch = next(data.train_batches(split, 5, seed=0, epoch=0))
        assert batch["images"].shape == (5, 6, 5, 3) and batch["images"].dtype == np.uint8
        assert batch["labels"].shape == (5,) and batch["labels"].dtype == np.int32


@pytest.mark.parametrize("kind", ["arrays", "files"])
@pytest.mark.parametrize("start", [0, 2, 5])
def test_a_start_in_mid_epoch_gives_the_same_batches(kind, start, request):
    split = request.getfixturevalue(kind)
    options = {"seed": 7, "epoch": 2, "drop_last": False}
    whole = list(data.train_batches(split, 5, **options))
    assert_same(data.train_batches(split, 5, start=start, **options), whole[start:])


def test_seeds_and_epochs_differ(arrays):
    first, seed, epoch = (
        numbers(data.train_batches(arrays, 5, seed=s, epoch=e)) for s, e in [(0, 0), (1, 0), (0, 1)]
    )
    assert first != seed and first != epoch and seed != epoch


def test_the_arrays_travel_once(arrays):
    """Batches come from the device; per batch only the batch's number leaves the host."""
    on_device = data.to_device(arrays)
    assert isinstance(on_device.images, jax.Array) and len(on_device) == N
    with jax.transfer_guard_device_to_host("disallow"):
        batches = list(data.train_batches(on_device, 5, seed=0, epoch=1))
    assert all(isinstance(value, jax.Array) for batch in batches for value in batch.values())
    assert_same(batches, data.train_batches(arrays, 5, seed=0, epoch=1))
    assert data.to_device(on_device).images is on_device.images


@pytest.mark.parametrize("kind", ["arrays", "files"])
@pytest.mark.parametrize("batch_size", [5, 23, 30, 1])
def test_evaluation_sees_every_example_once_in_order(kind, batch_size, request):
    split = request.getfixturevalue(kind)
    batches = list(data.eval_batches(split, batch_size))
    assert {batch["images"].shape for batch in batches} == {(batch_size, 6, 5, 3)}
    assert all(batch["mask"].shape == (batch_size,) for batch in batches)
    assert all(batch["mask"].dtype == bool for batch in batches)
    seen = [np.asarray(b["images"])[np.asarray(b["mask"]), 0, 0, 0].tolist() for b in batches]
    assert sum(seen, []) == list(range(N))
    assert sum(int(batch["mask"].sum()) for batch in batches) == N
    assert all(0 <= batch["labels"].min() and batch["labels"].max() < 4 for batch in batches)


def test_streams_equal_arrays(arrays, files):
    assert_same(data.eval_batches(files, 5), data.eval_batches(arrays, 5))
    options = {"seed": 1, "epoch": 3, "drop_last": False}
    assert_same(data.train_batches(files, 5, **options), data.train_batches(arrays, 5, **options))


def test_worker_processes_give_the_same_batches_and_end(arrays, files):
    options = {"seed": 1, "epoch": 3, "start": 1, "drop_last": False}
    want = data.train_batches(arrays, 5, **options)
    assert_same(data.train_batches(files, 5, workers=2, **options), want)
    assert loading() == ([], [])


def test_leaving_early_ends_the_worker_processes(files):
    batches = data.eval_batches(files, 2, workers=1)
    next(batches)
    assert len(loading()[0]) == 1
    batches.close()
    assert loading() == ([], [])


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_file_is_named(files, tmp_path, workers):
    bad = tmp_path / "damaged.jpg"
    bad.write_bytes(b"\xff\xd8\xff")
    split = replace(files, paths=(*files.paths[:4], str(bad), *files.paths[5:]))
    with pytest.raises(data.DataError, match="damaged.jpg"):
        list(data.eval_batches(split, 5, workers=workers))
    assert loading() == ([], [])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda split: data.train_batches(split, 0, seed=0, epoch=0), "batch_size=0"),
        (lambda split: data.train_batches(split, 24, seed=0, epoch=0), "batch_size=24.*23 images"),
        (lambda split: data.train_batches(split, 5, seed=0, epoch=0, start=5), "start=5.*0 to 4"),
        (lambda split: data.train_batches(split, 5, seed=0, epoch=0, workers=-1), "workers=-1"),
        (lambda split: data.eval_batches(split, -1), "batch_size=-1"),
    ],
)
def test_wrong_arguments_fail_at_once(arrays, call, message):
    with pytest.raises(data.DataError, match=message):
        call(arrays)
