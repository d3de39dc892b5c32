"""What a run begins with: settings that fit its data and its folder, its state, its features."""

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn import assembly, checkpoint, log, pretrained, processes, transfer, weights, whitening
from jaxcnn.assembly import Run
from jaxcnn.data import Dataset, num_batches
from jaxcnn.data.readers import Workers
from jaxcnn.data.statistics import cached_statistics
from jaxcnn.early_stopping import EarlyStopping
from jaxcnn.features import cached_features
from jaxcnn.parameters import by_path, module
from jaxcnn.settings import Settings
from jaxcnn.train import TrainState, init_state, state_from

# What a resumed run may change without changing what it computes up to there.
_MAY_CHANGE = {"epochs"}

# What settings were before they existed: runs of that time hold good.
DEFAULTS = Settings.defaults()


def pixels(
    settings: Settings, dataset: Dataset, cache_dir: Path | None, workers: Workers = None
) -> list[list[float]] | None:
    """Return the mean and the deviation of the training images' channels, where they matter.

    Args:
        settings: of a run.
        dataset: divided as the settings say.
        cache_dir: where they are kept; None is the user's cache folder.
        workers: what decodes files, as `jaxcnn.fit.fit` takes it.

    Raises:
        ValueError: data that are not divided as the settings say.
    """
    _check_divided(settings, dataset)
    if settings.normalization != "dataset":
        return None
    mean, std = cached_statistics(dataset.train, cache_dir, workers=workers)
    return [list(mean), list(std)]


def recorded(
    settings: Settings,
    dataset: Dataset,
    workdir: Path,
    pixels: list[list[float]] | None,
    *,
    resume: bool,
) -> dict[str, Any]:
    """Return what config.json is to say of the settings, once the run folder has been looked at.

    Args:
        settings: of the run.
        dataset: whose class names are recorded.
        workdir: the run folder.
        pixels: of the function of that name.
        resume: whether the folder's run is continued.

    Raises:
        FileExistsError: the folder holds a run and `resume` is off.
        FileNotFoundError: `resume`, but the folder holds no run or no checkpoint.
        ValueError: `resume` with other settings than the run began with, all are named.
    """
    found = asdict(settings) | {"class_names": list(dataset.class_names), "pixels": pixels}
    if resume:
        before = log.read_config(workdir)["settings"]
        _check_same(before, found, workdir)
        if not saved(workdir, "latest"):
            how = "with another --workdir" if saved(workdir, "best") else "without --resume"
            raise FileNotFoundError(f"{workdir}: no checkpoint to resume from; start anew {how}")
        return {name: value for name, value in found.items() if name in before}
    if any(saved(workdir, which) for which in ("latest", "best")):
        raise FileExistsError(
            f"{workdir} already holds a run: continue it with --resume, or name another --workdir"
        )
    return found


def build(settings: Settings, dataset: Dataset, pixels: list[list[float]] | None) -> Run:
    """Build what the settings become on a data set, see `jaxcnn.assembly.build`.

    Raises:
        ValueError: settings that do not fit the data, and what `jaxcnn.assembly.build` raises.
    """
    classes = len(dataset.class_names)
    if settings.replace_head not in (None, classes):
        raise ValueError(f"replace_head={settings.replace_head}: the data have {classes} classes")
    steps = num_batches(len(dataset.train), settings.batch_size, settings.drop_last)
    return assembly.build(
        settings, num_classes=classes, steps_per_epoch=max(steps, 1), pixels=pixels
    )


def drawn_state(settings: Settings, run: Run) -> TrainState:
    """Draw the state at step 0 that the seed of the settings decides."""
    images = jnp.zeros((1, *run.input_shape), jnp.float32)
    return init_state(run.model, run.tx, jax.random.key(settings.seed), images)


def first_kernel(
    settings: Settings, run: Run, dataset: Dataset, *, resume: bool, workers: Workers = None
) -> np.ndarray | None:
    """Return the kernel with which `whiten` lets training begin; None without, and to resume.

    It is the same for all seeds.
    """
    if resume or not settings.whiten:
        return None
    params = jax.eval_shape(partial(drawn_state, settings, run)).params
    return whitening.first_kernel(
        params, settings.whiten, dataset.train, run.preprocess, workers=workers
    )


def initial_state(
    settings: Settings,
    run: Run,
    initial: Mapping[str, Any] | None,
    *,
    resume: bool,
    kernel: np.ndarray | None = None,
) -> TrainState:
    """Return the state at step 0: drawn, or of the weights that the settings start from.

    Args:
        settings: of a run.
        run: what they become.
        initial: the `state_dict` of the file `settings.init`, PyTorch key -> array.
        resume: whether a checkpoint's takes its place, so that `initial` is not wanted.
        kernel: of `first_kernel`.

    Raises:
        ValueError: `initial` does not fit the network, or is None though wanted.
    """
    state = drawn_state(settings, run)
    if kernel is not None:
        params = whitening.whitened(state.params, settings.whiten, kernel)
        return state_from({"params": params, "batch_stats": state.batch_stats}, run.tx)
    if resume or settings.init is None:
        return state
    return _started_from(initial, state, settings, run)


def write_config(workdir: Path, recorded: Mapping[str, Any], *, resume: bool) -> None:
    """Write config.json; unless `resume`, what a run without a checkpoint left goes first.

    Args:
        workdir: the run folder.
        recorded: of the function of that name.
        resume: whether the folder's run is continued.
    """
    if not resume:
        for name in ("config.json", "metrics.jsonl"):
            (workdir / name).unlink(missing_ok=True)
    log.write_config(workdir, recorded)


def say_trained(settings: Settings, state: TrainState) -> None:
    """Say what transfer learning trains and keeps, where there is any."""
    if settings.given("init", "freeze", "freeze_later", "lr_head", "lr_factors"):
        log.say(transfer.table(settings, state.params))


def on_features(
    settings: Settings,
    run: Run,
    state: TrainState,
    dataset: Dataset,
    workdir: Path,
    *,
    resume: bool,
    **places: Any,
) -> Dataset:
    """Return the data set whose images are the features that the last layer sees of them.

    Args:
        settings: of a run, with `cache_features`.
        run: what they become.
        state: at step 0.
        dataset: of images.
        workdir: the run folder.
        resume: whether the frozen layers are those of the folder's latest checkpoint.
        places: `batch_size`, `workers` and `cache_dir` of `jaxcnn.features.cached_features`.
    """
    if resume:
        state = processes.from_first(
            lambda: checkpoint.restore(workdir / "checkpoints/latest", state)[0]
        )
    description = {
        name: getattr(settings, name)
        for name in ("network", "attention", "dropout", "normalization", "stored_size")
    }
    find = partial(
        cached_features,
        run.model,
        transfer.heads(settings.network)[-1],
        {"params": state.params, "batch_stats": state.batch_stats},
        preprocess=run.preprocess,
        description=json.dumps([run.input_shape, run.pixels, description]),
        precision=settings.precision,
        **places,
    )
    watched, held = dataset.watched
    return replace(dataset, train=find(dataset.train), **{watched: find(held)})


def early_stopping(settings: Settings) -> EarlyStopping | None:
    """Return the early stopping that settings ask for, None without.

    Raises:
        ValueError: a bad value, or one that means nothing without early stopping.
    """
    if settings.early_stopping is None:
        for name, value in settings.given("early_stopping_metric", "min_delta").items():
            raise ValueError(f"{name}={value!r}: expected early_stopping with it")
        return None
    return EarlyStopping(
        settings.early_stopping, settings.early_stopping_metric, settings.min_delta
    )


def saved(workdir: Path, which: str) -> bool:
    """Return whether a run folder holds its "best" or "latest" checkpoint."""
    return checkpoint.saved_step(workdir / "checkpoints" / which) is not None


def _started_from(
    initial: Mapping[str, Any] | None, state: TrainState, settings: Settings, run: Run
) -> TrainState:
    """Return the state at step 0 with given weights instead of the drawn ones, in their dtypes."""
    if initial is None:
        raise ValueError(f"init={settings.init!r}: initial is None, expected the file's state_dict")
    drawn = {"params": state.params, "batch_stats": state.batch_stats}
    replaced = () if settings.replace_head is None else transfer.heads(settings.network)
    try:
        loaded = transfer.started(initial, drawn, replaced)
    except ValueError as error:
        reason = _other_classes(initial, weights.to_torch(drawn), pretrained.head(settings.network))
        raise ValueError(f"{settings.init}: {reason or error}") from error
    arrays = sum(module(key) not in replaced for key in initial)
    leaves = by_path(loaded["params"]).items()
    count = sum(leaf.size for path, leaf in leaves if module(path) not in replaced)
    log.say(f"starts from {settings.init}: {arrays} arrays, {count:,} parameters")
    return state_from(loaded, run.tx)


def _other_classes(
    found: Mapping[str, Any], wanted: Mapping[str, Any], class_axes: Mapping[str, int]
) -> str | None:
    """Say so where a state_dict fits but for the number of classes."""
    if found.keys() != wanted.keys():
        return None
    other = [key for key, value in wanted.items() if np.shape(found[key]) != value.shape]
    if not other or not class_axes.keys() >= set(other):
        return None
    key, axis = other[0], class_axes[other[0]]
    classes = [np.shape(state_dict[key])[axis] for state_dict in (found, wanted)]
    return (
        f"the file has {classes[0]} classes, the data {classes[1]} ({', '.join(other)}); "
        f"replace_head={classes[1]} draws that layer anew"
    )


def _check_divided(settings: Settings, dataset: Dataset) -> None:
    held = dataset.validation is not None
    if held != (settings.validation > 0) or settings.examples not in (None, len(dataset.train)):
        raise ValueError(
            f"validation={settings.validation}, examples={settings.examples}: the data have "
            f"{len(dataset.train)} training images and {'a' if held else 'no'} validation split; "
            "expected what jaxcnn.recipes.load_data gives"
        )


def _check_same(before: dict[str, Any], now: dict[str, Any], workdir: Path) -> None:
    before = DEFAULTS | before
    changed = [
        f"{name}: {before.get(name)!r} -> {value!r}"
        for name, value in now.items()
        if before.get(name) != value and name not in _MAY_CHANGE
    ]
    if changed:
        raise ValueError(
            f"{workdir}: a resumed run keeps the settings it began with, but these differ:\n  "
            + "\n  ".join(changed)
        )
