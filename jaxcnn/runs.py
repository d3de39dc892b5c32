"""A run folder: train into it, load from it. What it shows at the end is `jaxcnn.results`' matter.

RUN/config.json      every setting, versions, device, git commit
RUN/metrics.jsonl    a row every few steps, two an epoch
RUN/checkpoints/     latest/ and best/ (by validation accuracy, without a validation split by test)
RUN/results.json     what the run reached, and on which split
"""

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh

from jaxcnn import checkpoint, log, processes, start
from jaxcnn.assembly import Run, build
from jaxcnn.data import Dataset
from jaxcnn.data.readers import Workers
from jaxcnn.files import write_atomically
from jaxcnn.fit import fit
from jaxcnn.settings import Settings
from jaxcnn.train import TrainState


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
    steps_per_call: int | None = None,
    mesh: Mesh | None = None,
    workers: Workers = None,
    cache_dir: Path | None = None,
) -> dict[str, Any]:
    """Train into a run folder.

    Of several processes (`jaxcnn.processes`) all call it; the first reads and writes the folder.

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
        steps_per_call: see `jaxcnn.fit.fit`.
        mesh: see there.
        workers: what decodes files, as `jaxcnn.fit.fit` takes it.
        cache_dir: where what is computed of the data once is kept; None is the user's cache folder.

    Returns:
        What `jaxcnn.fit.fit` returns.

    Raises:
        FileExistsError: the folder holds a run and `resume` is off.
        FileNotFoundError: `resume`, but the folder holds no run or no checkpoint.
        ValueError: `resume` with other settings than the run began with, all are named; `initial`
            does not fit the network; data that are not divided as the settings say.
        FloatingPointError: a NaN or infinite loss.
    """
    pixels = start.pixels(settings, dataset, cache_dir, workers)
    recorded = processes.from_first(
        lambda: start.recorded(settings, dataset, workdir, pixels, resume=resume)
    )
    early_stopping = start.early_stopping(settings)
    run = start.build(settings, dataset, pixels)
    kernel = start.first_kernel(settings, run, dataset, resume=resume, workers=workers)
    state = start.initial_state(settings, run, initial, resume=resume, kernel=kernel)
    if processes.first():
        start.write_config(workdir, recorded, resume=resume)
    start.say_trained(settings, state)
    train_step, eval_step = run.train_step, run.eval_step
    if run.on_features is not None:
        train_step, eval_step = run.on_features
        dataset = start.on_features(
            settings,
            run,
            state,
            dataset,
            workdir,
            resume=resume,
            batch_size=eval_batch_size,
            workers=workers,
            cache_dir=cache_dir,
        )
    result = fit(
        state,
        train_step,
        eval_step,
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
        later=run.later,
        early_stopping=early_stopping,
        workers=workers,
        steps_per_call=steps_per_call,
        mesh=mesh,
        resume=resume,
    )
    write_result(workdir, result)
    return result


def write_result(workdir: Path, result: Mapping[str, Any]) -> None:
    """Write what a run reached into its folder's results.json, in the first process."""
    if not processes.first():
        return
    text = json.dumps(result, indent=2)
    write_atomically(workdir / "results.json", f"{text}\n".encode())


def resumable(workdir: Path) -> bool:
    """Return whether a run folder holds a checkpoint to go on from."""
    return processes.from_first(lambda: start.saved(workdir, "latest"))


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
    recorded = start.DEFAULTS | recorded
    missing = sorted({*names, "class_names"} - set(recorded))
    if missing:
        raise ValueError(f"{workdir / 'config.json'}: settings lack {', '.join(missing)}")
    settings = Settings(**{name: recorded[name] for name in names})
    class_names = tuple(recorded["class_names"])
    run = build(settings, num_classes=len(class_names), pixels=recorded.get("pixels"))
    template = jax.eval_shape(lambda: start.drawn_state(settings, run))
    state, _ = checkpoint.restore(workdir / "checkpoints" / which, template)
    return Trained(settings, run, state, class_names)
