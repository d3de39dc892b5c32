"""Seeds that are trained in one program: each as it would be alone, in a run folder of its own."""

import json
import signal
from dataclasses import replace
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import SmallNet, small_dataset

from jaxcnn import checkpoint, log, optim, pretrained, runs, schedules
from jaxcnn.data import Files, epoch_order
from jaxcnn.early_stopping import EarlyStopping
from jaxcnn.evaluate import evaluate
from jaxcnn.fit import fit
from jaxcnn.recipes import Settings, load_data
from jaxcnn.seeds import train_together
from jaxcnn.together import epoch_orders, fit_together, mapped_step, stacked
from jaxcnn.train import TrainState, init_state, make_eval_step, make_train_step

SEEDS = (4, 1, 7)
STEPS = 7  # an epoch: 50 examples in batches of 8, the last with 2
OPTIONS = {"epochs": 3, "batch_size": 8, "eval_batch_size": 5}
OPTIONS |= {"log_every": 2, "checkpoint_every": 4}
# The first seed is at its best after one epoch and stops with the second, the others go on.
STOPPING = {"early_stopping": EarlyStopping(1)}
PLATEAU = schedules.plateau(0.003, factor=0.5, patience=0, threshold=10.0, threshold_mode="abs")


def noisy(key, images):
    return images.astype(jnp.float32) / 255.0 + 0.05 * jax.random.normal(key, images.shape, "f4")


def scaled(dtype):
    def preprocess(images):
        whole = images.dtype == jnp.uint8
        return images.astype(dtype) / 255.0 if whole else images.astype(dtype)

    return preprocess


def parts(dtype, **changes):
    """Return the fresh state of a seed, the steps and other arguments of the loop."""
    tx = optim.create("sgd", PLATEAU, momentum=0.9)
    images = {"preprocess": scaled(dtype)}
    train_step = make_train_step(SmallNet(), tx, **images, augment=noisy)
    later = make_train_step(SmallNet(), tx, **images)

    @cache
    def drawn(seed):
        state = init_state(SmallNet(), tx, jax.random.key(seed), jnp.zeros((1, 8, 8, 1), "f4"))
        return jax.device_get(state)

    def fresh(seed):  # a run donates its own
        return jax.tree.map(
            lambda x: jnp.array(x, dtype if jnp.issubdtype(x.dtype, jnp.floating) else x.dtype),
            drawn(seed),
        )

    steps = (train_step, make_eval_step(SmallNet(), **images))
    return fresh, steps, {"schedule": PLATEAU, "later": (1, later), **OPTIONS, **changes}


def together(workdir, fresh, steps, options, seeds=SEEDS, **changes):
    folders = {seed: workdir / f"seed-{seed}" for seed in seeds}
    data = [small_dataset()] * len(seeds)
    return fit_together([fresh(s) for s in seeds], *steps, data, folders, **options | changes)


def latest(folder, template, which="latest"):
    return checkpoint.restore(folder / "checkpoints" / which, template)


def rows(workdir):
    times = ("seconds", "images_per_second", "waited")
    return [{k: v for k, v in r.items() if k not in times} for r in log.read_metrics(workdir)]


def assert_close(got, want, bound):
    """Compare dicts: floats to a bound, all else exactly."""
    assert got.keys() == want.keys()
    for name, value in want.items():
        near = pytest.approx(value, rel=bound, abs=bound) if isinstance(value, float) else value
        assert got[name] == near, name


def assert_close_rows(got, want, bound):
    for one, other in zip(got, want, strict=True):
        assert_close(one, other, bound)


def assert_close_states(got, want, bound):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=bound, atol=bound), got, want)


def without_times(result):
    return {k: v for k, v in result.items() if k not in ("seconds", "train_seconds")}


def test_each_seed_is_as_alone_in_float64(tmp_path, float64):
    """Batch norm, dropout, noise, a short batch, a plateau, early stopping."""
    fresh, steps, options = parts(jnp.float64, later=None, **STOPPING)
    results = together(tmp_path, fresh, steps, options)
    assert [result["epoch"] for result in results.values()] == [2, 3, 3]
    for seed, result in results.items():
        alone = fit(fresh(seed), *steps, small_dataset(), tmp_path / "one", seed=seed, **options)
        assert_close(without_times(result), without_times(alone), 1e-10)
        one, own = tmp_path / "one", tmp_path / f"seed-{seed}"
        assert_close_rows(rows(own), rows(one), 1e-10)
        for which in ("latest", "best"):
            (got, record), (want, _) = (latest(place, fresh(seed), which) for place in (own, one))
            assert_close_states(got, want, 1e-10)
        assert record["best_epoch"] == result["best_epoch"]
        one.rename(tmp_path / f"one-{seed}")


@pytest.mark.parametrize("shared", [True, False])
def test_a_step_gathers_each_seeds_batch_and_leaves_a_stopped_seed_alone(shared):
    def train_step(state, batch, key):
        images, drawn = batch["images"], jax.random.randint(key, (), 0, 100)
        seen = images.sum(0, where=batch["mask"][:, None])
        state = state.replace(step=state.step + 1, params=state.params + seen)
        return state, {"labels": batch["labels"], "mask": batch["mask"], "drawn": drawn}

    keys = [jax.random.key(seed) for seed in SEEDS]
    states = [TrainState(jnp.int32(i), jnp.full(2, i), {}, ()) for i in range(3)]
    images, labels = jnp.arange(12).reshape(6, 2), jnp.arange(6)
    pixels = images if shared else jnp.stack([images, images, 10 * images])
    step = mapped_step(train_step, 4, masked=True, shared=shared)
    orders, active = epoch_orders(SEEDS, 6, 4, 2), np.array([True, False, True])
    rest = pixels, labels, jnp.stack(keys), orders, np.int32(6), active
    state, metrics = step(stacked(states), np.int32(1), *rest)
    rows = np.stack([epoch_order(6, seed=seed, epoch=2)[4:] for seed in SEEDS])
    np.testing.assert_array_equal(metrics["labels"], rows[:, [0, 1, 1, 1]])
    assert metrics["mask"].tolist() == [[True, True, False, False]] * 3
    assert metrics["drawn"].tolist() == [jax.random.randint(k, (), 0, 100) for k in keys]
    assert state.step.tolist() == [1, 1, 3]
    moved = [images[rows[i]].sum(0) * (10 if i == 2 and not shared else 1) for i in range(3)]
    np.testing.assert_array_equal(state.params, [moved[0], [1, 1], 2 + moved[2]])


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Three seeds in float32, not interrupted, the first of which stops early."""
    workdir, made = tmp_path_factory.mktemp("whole"), parts(jnp.float32, **STOPPING)
    return workdir, made, together(workdir, *made)


def interrupt_at(monkeypatch, step):
    """Press Ctrl-C where the row of a step is written."""
    write = log.append_metrics

    def pressed(workdir, row):
        write(workdir, row)
        if row["step"] == step and row["kind"] == "step" and "seed-7" in str(workdir):
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(log, "append_metrics", pressed)


@pytest.mark.parametrize("step", [pytest.param(2, marks=pytest.mark.slow), 2 * STEPS + 2])
def test_interrupted_and_resumed_to_the_bit(step, whole, tmp_path, monkeypatch):
    """Also where a seed has stopped early before: it stays as it is."""
    workdir, made, results = whole
    done = {seed: result["step"] for seed, result in results.items() if result["stopped_early"]}
    assert done == {4: 2 * STEPS, 7: 3 * STEPS} and results[1]["step"] == 3 * STEPS
    with monkeypatch.context() as patch:
        interrupt_at(patch, step)
        broken = together(tmp_path, *made)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    stands = {r["step"] for r in broken.values() if r["interrupted"]}
    assert len(stands) == 1 and step <= stands.pop() < step + STEPS
    for seed, result in broken.items():
        folder = tmp_path / f"seed-{seed}"
        assert checkpoint.saved_step(folder / "checkpoints/latest") == result["step"]
        assert result["interrupted"] or result["step"] == done[seed]
    again = together(tmp_path, *made, resume=True)
    for seed, result in results.items():
        assert without_times(again[seed]) == without_times(result)
        ours, theirs = tmp_path / f"seed-{seed}", workdir / f"seed-{seed}"
        assert rows(ours) == rows(theirs)
        (got, record), (want, other) = (latest(place, made[0](seed)) for place in (ours, theirs))
        jax.tree.map(np.testing.assert_array_equal, got, want)
        assert record == other


def test_a_nan_names_the_seed_and_ends_all_at_the_same_checkpoint(tmp_path):
    fresh, (train_step, eval_step), options = parts(jnp.float32)
    theirs = jax.random.key_data(jax.random.fold_in(jax.random.key(4), 1))

    def broken(state, batch, key):
        here = jnp.all(jax.random.key_data(key) == theirs) & (state.step == 5)
        state, metrics = train_step(state, batch, key)
        return state, metrics | {"loss": jnp.where(here, jnp.nan, metrics["loss"])}

    message = r"^seed 4: the training loss is nan at step 6 \(epoch 1\); the last .* is step 4 in "
    with pytest.raises(FloatingPointError, match=message):
        together(tmp_path, fresh, (broken, eval_step), options)

    def infinite(state, batch, key):
        here = jnp.all(jax.random.key_data(key) == theirs) & (state.step == 7)
        state, metrics = train_step(state, batch, key)
        params = jax.tree.map(lambda p: jnp.where(here, jnp.inf, p), state.params)
        return state.replace(params=params), metrics

    options = options | {"later": (1, infinite)}
    with pytest.raises(FloatingPointError, match=r"^seed 4: step 8: NaN or infinity in \.params"):
        together(tmp_path / "state", fresh, (train_step, eval_step), options)
    for folder, step in ((tmp_path, 4), (tmp_path / "state", 7)):
        for seed in SEEDS:
            assert checkpoint.saved_step(folder / f"seed-{seed}/checkpoints/latest") == step


def settings_of(**changes):
    values = {"epochs": 1, "batch_size": 64, "learning_rate": 0.05, "examples": 128}
    return Settings("mlp_mnist", "digits", **values | changes)


def random_weights():
    rng = np.random.default_rng(0)
    shapes = pretrained.shapes("mlp_mnist").items()
    return {key: 0.05 * rng.normal(size=shape).astype(np.float32) for key, shape in shapes}


@pytest.mark.parametrize(
    ("changes", "initial"),
    [
        ({"normalization": "dataset"}, None),
        ({"freeze": "all-but-head", "cache_features": True}, None),
        ({"freeze": "all-but-head", "cache_features": True, "init": "some.npz"}, random_weights()),
        ({"freeze": "fc1", "unfreeze_at": 1, "init": "some.npz", "epochs": 2}, random_weights()),
    ],
    ids=["plain", "features", "features-init", "unfrozen"],
)
def test_folders_are_those_of_runs_alone(changes, initial, tmp_path):
    settings = settings_of(**changes)
    dataset, options = load_data(settings), {"log_every": 1, "cache_dir": tmp_path / "cache"}
    results = train_together(
        settings, (5, 2), dataset, tmp_path / "all", initial=initial, **options
    )
    assert list(results) == [5, 2]
    for seed, result in results.items():
        own, one = tmp_path / f"all/seed-{seed}", tmp_path / f"one-{seed}"
        mine = replace(settings, seed=seed)
        runs.train(mine, dataset, one, initial=initial, **options)
        assert {path.name for path in own.iterdir()} == {path.name for path in one.iterdir()}
        assert json.loads((own / "results.json").read_text()) == result
        configs = [log.read_config(place)["settings"] for place in (own, one)]
        assert configs[0] == configs[1]
        assert_close_rows(rows(own), rows(one), 1e-5)
        got, want = (runs.load(place) for place in (own, one))
        assert got.settings == mine
        assert_close_states(got.state, want.state, 1e-5)
        found = evaluate(got.run.eval_step, got.state, dataset.test, 500)
        assert found["accuracy"] == result["best_accuracy"]


def test_runs_go_on_together_from_the_same_step_only(tmp_path):
    settings = settings_of()
    dataset = load_data(settings)
    train_together(settings, (0, 1), dataset, tmp_path)
    with pytest.raises(FileExistsError, match="seed-0 already holds a run"):
        train_together(settings, (2, 0), dataset, tmp_path)
    with pytest.raises(FileNotFoundError, match=r"seed-2.config\.json"):
        train_together(settings, (0, 2), dataset, tmp_path, resume=True)
    assert not (tmp_path / "seed-2").exists()
    # One of them goes on alone.
    longer = replace(settings, epochs=2)
    assert runs.train(longer, dataset, tmp_path / "seed-0", resume=True)["step"] == 4
    last = replace(settings, epochs=3)
    with pytest.raises(
        ValueError, match=r"stand at\n  .*seed-0: step 4\n  .*seed-1: step 2\nresume them one"
    ):
        train_together(last, (0, 1), dataset, tmp_path, resume=True)
    runs.train(replace(longer, seed=1), dataset, tmp_path / "seed-1", resume=True)
    results = train_together(last, (0, 1), dataset, tmp_path, resume=True)
    assert [result["step"] for result in results.values()] == [6, 6]


def test_mistakes_are_errors_before_anything_is_written(tmp_path):
    settings = settings_of()
    dataset = load_data(settings)
    for seeds in ((), (1, 2, 1)):
        with pytest.raises(ValueError, match=r"^train_together: seeds must be at least one and "):
            train_together(settings, seeds, dataset, tmp_path / "new")
    streamed = Files(("a.png",) * 128, np.zeros(128, np.int32), (8, 8, 1))
    for split in ("train", "test"):
        data = replace(dataset, **{split: streamed})
        with pytest.raises(ValueError, match="streamed from files.* one after the other$"):
            train_together(settings, (0, 1), data, tmp_path / "new")
    with pytest.raises(ValueError, match=r"^init='f\.npz': initial is None"):
        train_together(replace(settings, init="f.npz"), (0, 1), dataset, tmp_path / "new")
    with pytest.raises(ValueError, match="steps_per_call must be at least 1, got -1"):
        train_together(settings, (0, 1), dataset, tmp_path / "other", steps_per_call=-1)
    assert not (tmp_path / "new").exists()
