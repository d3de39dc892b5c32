"""Train a documented network by recipe, on a CPU or a GPU.

    python scripts/train.py digits-cnn
    python scripts/train.py mnist-cnn --data idx:DIR --seeds 3
    python scripts/train.py digits-cnn --resume --workdir runs/digits-cnn-20260101-120000
    python scripts/train.py --list

Every option of a recipe can be overridden: `train.py RECIPE --help` lists them with the recipe's
values. Ctrl-C saves and stops; --resume goes on, bit for bit.

Several processes, on one host or many, train one run when each is started with the same options and
its own number; its batches are divided over the devices of all:

    python scripts/train.py digits-cnn --coordinator HOST:PORT --processes 2 --process 0   # and 1
"""

import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Annotated

import _mesh
import _weights
import numpy as np
import tyro
from _cli import run
from jax.sharding import Mesh

from jaxcnn import (
    augment,
    data,
    devices,
    log,
    models,
    optim,
    plot,
    processes,
    programs,
    results,
    runs,
    schedules,
    seeds,
    weights,
)
from jaxcnn.optimization import for_its_optimizer
from jaxcnn.recipes import RECIPES, Settings, load_data


@dataclass(frozen=True)
class Options:
    """One recipe with the options of this run."""

    settings: Annotated[Settings, tyro.conf.arg(name="")]
    workdir: Path | None = None
    """Run folder; by default runs/RECIPE-DATE-TIME, with --resume the recipe's newest."""
    resume: bool = False
    """Continue the run folder's run; --epochs may be raised, other settings must stay."""
    seeds: int = 1
    """Train so many runs, with seeds SEED, SEED + 1, ..., into WORKDIR/seed-N."""
    together: bool = False
    """Train the seeds in one program, step by step side by side."""
    log_every: int = 50
    """Steps between two rows of metrics."""
    checkpoint_every: int = 1000
    """Steps between two checkpoints within an epoch; one follows each epoch."""
    eval_batch_size: int = 500
    """Examples an evaluation step."""
    steps_per_call: int | None = None
    """The most steps of one call of the compiled program; by default a third of a second's."""
    workers: int | None = None
    """Processes that decode image files, where the data are streamed; by default one a core, 0
    takes threads."""
    cache_dir: Path | None = None
    """Where decoded images are kept; by default the user's cache folder."""
    compilation_cache: bool = True
    """Keep compiled programs in the user's cache folder; a later run then starts sooner."""
    devices: int | None = None
    """Devices to divide every batch over; by default one, with several processes all of theirs."""
    coordinator: str | None = None
    """HOST:PORT of process 0, where there are several; "auto" under Slurm or Open MPI."""
    processes: int | None = None
    """How many processes there are."""
    process: int | None = None
    """This one's, from 0."""
    process_timeout: int = 60
    """Seconds without a sign of life after which a process counts as lost, and ends all."""
    tfds_dir: Path | None = None
    """TFDS's data folder; by default $TFDS_DATA_DIR or ~/tensorflow_datasets."""


def show_list() -> None:
    """Print recipes, networks, data sources, optimizers and schedules."""
    for title, entries in {
        "recipes": {name: text for name, (text, _) in RECIPES.items()},
        "networks": {name: f"input {models.input_shape(name)}" for name in models.names()},
        "data": data.sources(),
        "optimizers": {name: _options(made) for name, made in optim.OPTIMIZERS.items()},
        "schedules": {name: _options(made) for name, made in schedules.SCHEDULES.items()},
        "augmentations": augment.describe(),
    }.items():
        print(f"{title}:")
        width = max(map(len, entries))
        for name, text in entries.items():
            print(f"  {name:{width}}  {text}".rstrip())


def _options(builder: Callable) -> str:
    """Return the arguments that may be written in --optimizer-args or --schedule-args."""
    parameters = inspect.signature(builder).parameters.values()
    return ", ".join(
        p.name if p.default is p.empty else f"{p.name}={p.default!r}"
        for p in parameters
        if p.kind is p.KEYWORD_ONLY
    )


def main() -> None:
    """Parse the command line, train one run a seed, print what came out."""
    if "--list" in sys.argv[1:]:
        show_list()
        return
    choices = {name: (text, Options(settings)) for name, (text, settings) in RECIPES.items()}
    options = tyro.extras.overridable_config_cli(choices, description=__doc__)
    recipe = sys.argv[1]
    if options.seeds < 1:
        raise ValueError(f"--seeds must be at least 1, got {options.seeds}")
    if options.together and options.seeds < 2:
        raise ValueError(f"--together: expected --seeds of at least 2, got {options.seeds}")
    if not options.compilation_cache:
        programs.keep(False)
    own = options.processes, options.process, options.process_timeout
    mesh = _mesh.joined(options.devices, options.coordinator, *own)
    if options.together and mesh is not None and (mesh.size > 1 or processes.several()):
        raise ValueError("--together trains on one device in one process")
    devices.check_divisible(mesh, batch_size=options.settings.batch_size)
    workdir = processes.from_first(lambda: _workdir(recipe, options))
    options = replace(options, settings=for_its_optimizer(options.settings, RECIPES[recipe][1]))
    settings = options.settings
    dataset = load_data(settings, cache_dir=options.cache_dir, tfds_dir=options.tfds_dir)
    validation = "" if dataset.validation is None else f", {len(dataset.validation)} validation"
    log.say(
        f"{settings.title} on {settings.data}: {_training_images(settings, dataset)}{validation} "
        f"and {len(dataset.test)} test images, {len(dataset.class_names)} classes; "
        f"run folder {workdir}"
    )
    if not plot.available():
        log.say("no pictures: Matplotlib is missing; install jaxcnn[plot]")
    numbers = range(settings.seed, settings.seed + options.seeds)
    if options.together:
        accuracies = _train_together(numbers, dataset, workdir, options)
    else:
        accuracies = {}
        for seed in numbers:
            one = replace(settings, seed=seed)
            folder = workdir if options.seeds == 1 else workdir / f"seed-{seed}"
            accuracies[seed] = _train_one(one, dataset, folder, options, mesh)
    if options.seeds > 1 and processes.first():
        summary = results.over_seeds(accuracies, workdir)
        chosen = "best test" if dataset.validation is None else "test"
        log.say(
            f"{chosen} accuracy over {options.seeds} seeds: {100 * summary['mean']:.2f} % "
            f"+- {100 * summary['deviation']:.2f} (mean and standard deviation)"
        )


def _train_one(
    settings: Settings, dataset: data.Dataset, folder: Path, options: Options, mesh: Mesh | None
) -> float:
    """Train one run; return the test accuracy of its best checkpoint."""
    # With several seeds some may not have been started when the command was interrupted.
    resume = options.resume and (options.seeds == 1 or runs.resumable(folder))
    result = runs.train(
        settings,
        dataset,
        folder,
        initial=_initial(settings, resume),
        resume=resume,
        mesh=mesh,
        **_numbers(options),
    )
    return _finish(result, settings, dataset, folder, options)


def _train_together(
    numbers: range, dataset: data.Dataset, workdir: Path, options: Options
) -> dict[int, float]:
    """Train the seeds' runs in one program; return what `_train_one` does, by seed."""
    found = seeds.train_together(
        options.settings,
        numbers,
        dataset,
        workdir,
        initial=_initial(options.settings, options.resume),
        resume=options.resume,
        **_numbers(options),
    )
    # Those that have stopped early are pictured, also where the others were interrupted.
    in_turn = sorted(found, key=lambda seed: found[seed]["interrupted"])
    return {
        seed: _finish(
            found[seed],
            replace(options.settings, seed=seed),
            dataset,
            workdir / f"seed-{seed}",
            options,
        )
        for seed in in_turn
    }


def _numbers(options: Options) -> dict:
    names = ("eval_batch_size", "log_every", "checkpoint_every", "steps_per_call")
    names += ("cache_dir", "workers")
    return {name: getattr(options, name) for name in names}


def _finish(
    result: dict, settings: Settings, dataset: data.Dataset, folder: Path, options: Options
) -> float:
    """Picture a run that has been trained, in the first process; return its test accuracy."""
    if result["interrupted"]:
        log.say(f"stopped at step {result['step']}, saved in {folder}; continue with --resume")
        raise KeyboardInterrupt
    return processes.from_first(lambda: _show(result, settings, dataset, folder, options))


def _show(
    result: dict, settings: Settings, dataset: data.Dataset, folder: Path, options: Options
) -> float:
    """Picture a run's best checkpoint; return its test accuracy."""
    best = runs.load(folder)
    tested = results.picture(
        folder,
        best,
        dataset,
        folder,
        eval_batch_size=options.eval_batch_size,
        workers=options.workers,
    )["accuracy"]
    results.export(folder, best)
    if result["split"] == "test":
        tested, once = result["best_accuracy"], ""
    else:
        once = f"; test accuracy {100 * tested:.2f} % (of the best)"
    log.say(
        f"{settings.title}, seed {settings.seed}, {_training_images(settings, dataset)} images: "
        f"{result['split']} accuracy {100 * result['best_accuracy']:.2f} % "
        f"(best, epoch {result['best_epoch']}), {100 * result['accuracy']:.2f} % (last){once}; "
        f"{result['seconds']:.0f} s; results and pictures in {folder}"
    )
    return tested


def _initial(settings: Settings, resume: bool) -> dict[str, np.ndarray] | None:
    """Read the weights to start from: a file's, or those of a run's best checkpoint."""
    if settings.init is None or resume:
        return None
    path = Path(settings.init)
    return processes.from_first(lambda: _read(path))


def _read(path: Path) -> dict[str, np.ndarray]:
    if not path.is_dir():
        return _weights.read_state_dict(path)
    state = runs.load(path).state
    return weights.to_torch({"params": state.params, "batch_stats": state.batch_stats})


def _training_images(settings: Settings, dataset: data.Dataset) -> str:
    drawn = "" if settings.examples is None else " (a part, drawn evenly)"
    return f"{len(dataset.train)} training{drawn}"


def _workdir(recipe: str, options: Options) -> Path:
    if options.workdir is not None:
        return options.workdir
    if not options.resume:
        return Path("runs") / f"{recipe}-{datetime.now():%Y%m%d-%H%M%S}"
    found = sorted(Path("runs").glob(f"{recipe}-[0-9]*"))
    if not found:
        raise FileNotFoundError(f"--resume: no run of {recipe} in runs/; name its --workdir")
    return found[-1]


if __name__ == "__main__":
    run(main, parse=False)
