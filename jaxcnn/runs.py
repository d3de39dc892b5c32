"""A run folder: train into it, load from it. What it shows at the end is `jaxcnn.results`' matter.

RUN/config.json      every setting, versions, device, git commit
RUN/metrics.jsonl    a row every few steps, two an epoch
RUN/checkpoints/     latest/ and best/ (by validation accuracy, without a validation split by test)
RUN/results.json     what the run reached, and on which split
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn import checkpoint, log, pretrained, weights
from jaxcnn.data import Dataset, num_batches
from jaxcnn.files import write_atomically
from jaxcnn.fit import fit
from jaxcnn.recipes import Run, Settings, build
from jaxcnn.train import TrainState, init_state, state_from

# What a resumed run may change without changing what it computes up to there.
_MAY_CHANGE = {"epochs"}

# What settings were before they existed: runs of that time hold good.
_DEFAULTS = Settings.defaults()


class Trained(NamedTuple):
    """A run loaded from its folder."""

    settings: Settings
    run: Run
    state: TrainState
    class_names: tuple[str, ...]


def train(
    settings: Settings,
    dataset: Dataset,
    workdir: Path,
    *,
    initial: Mapping[str, Any] | None = None,
    resume: bool = False,
    eval_batch_size: int = 500,
    log_every: int = 50,
    checkpoint_every: int = 1000,
    workers: int = 0,
) -> dict[str, Any]:
    """Train into a run folder.

    Args:
        settings: what to compute.
        dataset: what `jaxcnn.recipes.load_data` gives for the settings.
        workdir: the run folder; made where it is missing.
        initial: the `state_dict` of the file `settings.init`, PyTorch key -> array; None where the
            settings name none. A resumed run has no need of it.
        resume: continue the folder's run from its latest checkpoint.
        eval_batch_size: examples an evaluation step.
        log_every: steps between two rows of metrics.
        checkpoint_every: steps between two checkpoints within an epoch.
        workers: worker processes that decode files.

    Returns:
        What `jaxcnn.fit.fit` returns.

    Raises:
        FileExistsError: the folder holds a run and `resume` is off.
        FileNotFoundError: `resume`, but the folder holds no run or no checkpoint.
        ValueError: `resume` with other settings than the run began with, all are named; `initial`
            does not fit the network; data that are not divided as the settings say.
        FloatingPointError: a NaN or infinite loss.
    """
    _check_divided(settings, dataset)
    recorded = asdict(settings) | {"class_names": list(dataset.class_names)}
    if resume:
        before = log.read_config(workdir)["settings"]
        _check_same(before, recorded, workdir)
        recorded = {name: value for name, value in recorded.items() if name in before}
        if not _saved(workdir, "latest"):
            raise FileNotFoundError(
                f"{workdir}: no checkpoint to resume from; start anew with another --workdir"
            )
    elif any(_saved(workdir, which) for which in ("latest", "best")):
        raise FileExistsError(
            f"{workdir} already holds a run: continue it with --resume, or name another --workdir"
        )
    steps = num_batches(len(dataset.train), settings.batch_size, settings.drop_last)
    run = build(settings, num_classes=len(dataset.class_names), steps_per_epoch=max(steps, 1))
    state = _fresh(settings, run)
    if not resume:
        if settings.init is not None:
            state = _started_from(initial, state, settings, run)
        for name in ("config.json", "metrics.jsonl"):  # of a run without a checkpoint
            (workdir / name).unlink(missing_ok=True)
    log.write_config(workdir, recorded)
    result = fit(
        state,
        run.train_step,
        run.eval_step,
        dataset,
        workdir,
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        seed=settings.seed,
        drop_last=settings.drop_last,
        eval_batch_size=eval_batch_size,
        log_every=log_every,
        checkpoint_every=checkpoint_every,
        schedule=run.schedule,
        workers=workers,
        resume=resume,
    )
    text = json.dumps(result, indent=2)
    write_atomically(workdir / "results.json", f"{text}\n".encode())
    return result


def load(workdir: Path, which: str = "best") -> Trained:
    """Load a run's network with the weights of one of its checkpoints.

    Args:
        workdir: the run folder.
        which: "best" or "latest".

    Raises:
        FileNotFoundError: no run or no such checkpoint there.
        ValueError: a damaged config or checkpoint.
    """
    recorded = log.read_config(workdir)["settings"]
    names = [field.name for field in fields(Settings)]
    recorded = _DEFAULTS | recorded
    missing = sorted({*names, "class_names"} - set(recorded))
    if missing:
        raise ValueError(f"{workdir / 'config.json'}: settings lack {', '.join(missing)}")
    settings = Settings(**{name: recorded[name] for name in names})
    class_names = tuple(recorded["class_names"])
    run = build(settings, num_classes=len(class_names))
    template = jax.eval_shape(lambda: _fresh(settings, run))
    state, _ = checkpoint.restore(workdir / "checkpoints" / which, template)
    return Trained(settings, run, state, class_names)


def _saved(workdir: Path, which: str) -> bool:
    return checkpoint.saved_step(workdir / "checkpoints" / which) is not None


def _fresh(settings: Settings, run: Run) -> TrainState:
    images = jnp.zeros((1, *run.input_shape), jnp.float32)
    return init_state(run.model, run.tx, jax.random.key(settings.seed), images)


def _started_from(
    initial: Mapping[str, Any] | None, state: TrainState, settings: Settings, run: Run
) -> TrainState:
    """Return the state at step 0 with given weights instead of the drawn ones, in their dtypes."""
    if initial is None:
        raise ValueError(f"init={settings.init!r}: initial is None, expected the file's state_dict")
    drawn = {"params": state.params, "batch_stats": state.batch_stats}
    try:
        loaded = weights.from_torch(initial, drawn)
    except ValueError as error:
        reason = _other_classes(initial, weights.to_torch(drawn), pretrained.head(settings.network))
        raise ValueError(f"{settings.init}: {reason or error}") from error
    loaded = jax.tree.map(lambda new, old: new.astype(old.dtype), loaded, drawn)
    count = sum(leaf.size for leaf in jax.tree.leaves(loaded["params"]))
    log.say(f"starts from {settings.init}: {len(initial)} arrays, {count:,} parameters")
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
    return f"the file has {classes[0]} classes, the data {classes[1]} ({', '.join(other)})"


def _check_divided(settings: Settings, dataset: Dataset) -> None:
    held = dataset.validation is not None
    if held != (settings.validation > 0) or settings.examples not in (None, len(dataset.train)):
        raise ValueError(
            f"validation={settings.validation}, examples={settings.examples}: the data have "
            f"{len(dataset.train)} training images and {'a' if held else 'no'} validation split; "
            "expected what jaxcnn.recipes.load_data gives"
        )


def _check_same(before: dict[str, Any], now: dict[str, Any], workdir: Path) -> None:
    before = _DEFAULTS | before
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
