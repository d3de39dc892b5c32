"""Features kept on disk: read where nothing has changed, computed where anything has."""

import os
from functools import partial

import jax
import numpy as np
import pytest
from data_trees import SHAPE
from small import SmallNet, small_dataset

from jaxcnn import data, features

IMAGE_SHAPE = (8, 8, 1)


@pytest.fixture(scope="module")
def variables():
    images = np.zeros((1, *IMAGE_SHAPE), np.float32)
    return jax.device_get(jax.jit(partial(SmallNet().init, train=False))(jax.random.key(0), images))


@pytest.fixture
def get(variables, tmp_path, capsys):
    """Return `cached_features` of the small network: the split, and whether it was computed."""

    def call(changed=(), split=None, description="small"):
        found = features.cached_features(
            SmallNet(),
            "fc",
            changed or variables,
            small_dataset().train if split is None else split,
            data.standardize,
            description,
            batch_size=16,
            cache_dir=tmp_path / "kept",
        )
        said = capsys.readouterr().err
        assert (": computed" in said) != (": read from" in said)
        return found, ": computed" in said

    return call


def changed(variables, collection, module, leaf):
    """Return variables of which one value is another."""
    value = variables[collection][module][leaf].copy()
    value.flat[-1] += 1
    part = variables[collection]
    return variables | {collection: part | {module: part[module] | {leaf: value}}}


def test_features_are_computed_once(get, tmp_path):
    (first, computed), (again, computed_again) = get(), get()
    assert (computed, computed_again) == (True, False)
    np.testing.assert_array_equal(first.images, again.images)
    np.testing.assert_array_equal(first.labels, again.labels)
    assert again.images.dtype == np.float32
    (path,) = (tmp_path / "kept").iterdir()
    assert path.name.startswith("features-")


@pytest.mark.parametrize(
    ("collection", "module", "leaf"),
    [
        ("params", "conv", "kernel"),
        ("params", "bn", "bias"),
        ("batch_stats", "bn", "var"),
    ],
)
def test_another_body_has_features_of_its_own(get, variables, collection, module, leaf):
    first, _ = get()
    other, computed = get(changed(variables, collection, module, leaf))
    assert computed
    assert not np.array_equal(first.images, other.images)
    assert not get()[1]


def test_another_head_has_the_same_features_and_other_labels_are_the_splits(get, variables):
    get()
    split = small_dataset().train
    relabelled = data.Arrays(split.images, split.labels[::-1].copy())
    found, computed = get(changed(variables, "params", "fc", "kernel"), relabelled)
    assert not computed
    np.testing.assert_array_equal(found.labels, relabelled.labels)


def test_other_images_or_another_description_are_computed(get):
    split = small_dataset().train
    images = split.images.copy()
    images[7, 0, 0, 0] ^= 1
    first, _ = get()
    other, computed = get(split=data.Arrays(images, split.labels))
    assert computed
    rows = np.flatnonzero((first.images != other.images).any(axis=(1, 2, 3)))
    assert rows.tolist() == [7]
    assert get(description="another crop")[1]


@pytest.mark.parametrize("damage", ["cut", "foreign", "misnamed", "short"])
def test_a_damaged_or_foreign_file_is_computed_again(get, tmp_path, damage):
    first, _ = get()
    (path,) = (tmp_path / "kept").iterdir()
    content = path.read_bytes()
    if damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "foreign":
        path.write_bytes(b"something else")
    else:
        with np.load(path) as stored:
            key, rows = stored["fingerprint"], stored["features"]
        other = {"others": rows} if damage == "misnamed" else {"features": rows[1:]}
        np.savez(path, fingerprint=key, **other)
    found, computed = get()
    assert computed
    np.testing.assert_array_equal(found.images, first.images)
    assert not get()[1]


def test_files_are_known_by_names_sizes_and_times(tree, load, tmp_path, capsys):
    model = SmallNet()
    images = np.zeros((1, *SHAPE), np.float32)
    given = jax.jit(partial(model.init, train=False))(jax.random.key(0), images)
    split = load(tree, stream=True).train

    def computed() -> bool:
        features.cached_features(
            model,
            "fc",
            given,
            split,
            data.standardize,
            "",
            batch_size=6,
            cache_dir=tmp_path / "kept",
        )
        return ": computed, 0.0 MiB" in capsys.readouterr().err

    assert (computed(), computed()) == (True, False)
    os.utime(split.paths[2], ns=(0, 1))
    assert (computed(), computed()) == (True, False)
