"""Several seeds' runs into run folders, trained in one compiled program.

WORKDIR/seed-N/ is a run folder as `jaxcnn.runs.train` writes it for seed N alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from jaxcnn import start
from jaxcnn.data import Dataset
from jaxcnn.data.readers import Workers
from jaxcnn.runs import write_result
from jaxcnn.settings import Settings
from jaxcnn.together import fit_together, in_memory


def train_together(
    settings: Settings,
    seeds: Sequence[int],
    dataset: Dataset,
    workdir: Path,
    *,
    initial: Mapping[str, Any] | None = None,
    resume: bool = False,
    eval_batch_size: int = 500,
    log_every: int = 50,
    checkpoint_every: int = 1000,
    steps_per_call: int | None = None,
    workers: Workers = None,
    cache_dir: Path | None = None,
) -> dict[int, dict[str, Any]]:
    """Train one run a seed, all in one program, each into `workdir`/seed-N.

    The order of the examples, the keys and the initial weights of each are those of its run alone
    (`jaxcnn.runs.train`), so that it computes the same but for rounding; its folder is one that
    `jaxcnn.runs.load` and `train` go on with.

    Args:
        settings: what to compute; its seed does not matter.
        seeds: at least one, no two alike.
        dataset: what `jaxcnn.recipes.load_data` gives for the settings, held in memory.
        workdir: holds the run folders; made where it is missing.
        initial: the `state_dict` of the file `settings.init`; None where the settings name none. A
            resumed run has no need of it.
        resume: continue all seeds' runs from their latest checkpoints.
        eval_batch_size: examples an evaluation step.
        log_every: steps between two rows of metrics.
        checkpoint_every: steps between two checkpoints within an epoch.
        steps_per_call: see `jaxcnn.fit.fit`.
        workers: what decodes files, from which only features can be computed.
        cache_dir: where what is computed of the data once is kept; None is the user's cache folder.

    Returns:
        Seed -> what `jaxcnn.together.fit_together` returns of it.

    Raises:
        FileExistsError: a folder holds a run and `resume` is off.
        FileNotFoundError: `resume`, but a folder holds no run or no checkpoint.
        ValueError: no seeds, or one twice; data that are streamed; seeds that, to resume, do not
            stand at the same step; and what `jaxcnn.runs.train` raises.
        FloatingPointError: a NaN or infinite loss; names the seed and ends all.
    """
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(
            f"train_together: seeds must be at least one and different, got {list(seeds)}"
        )
    if not settings.cache_features:  # features are held in memory, whatever the images are
        for split in (dataset.train, dataset.watched[1]):
            in_memory(split)
    pixels = start.pixels(settings, dataset, cache_dir, workers)
    each = {seed: replace(settings, seed=seed) for seed in seeds}
    folders = {seed: workdir / f"seed-{seed}" for seed in seeds}
    recorded = {
        seed: start.recorded(own, dataset, folders[seed], pixels, resume=resume)
        for seed, own in each.items()
    }
    early_stopping = start.early_stopping(settings)
    run = start.build(settings, dataset, pixels)
    kernel = start.first_kernel(settings, run, dataset, resume=resume, workers=workers)
    states = {
        seed: start.initial_state(own, run, initial, resume=resume, kernel=kernel)
        for seed, own in each.items()
    }
    for seed, folder in folders.items():
        start.write_config(folder, recorded[seed], resume=resume)
    start.say_trained(settings, states[seeds[0]])
    train_step, eval_step = run.train_step, run.eval_step
    datasets = [dataset] * len(each)
    if run.on_features is not None:
        train_step, eval_step = run.on_features
        # The frozen layers are the same for all seeds where they come from a file.
        distinct = list(each)[:1] if settings.init is not None else list(each)
        found = [
            start.on_features(
                each[seed],
                run,
                states[seed],
                dataset,
                folders[seed],
                resume=resume,
                batch_size=eval_batch_size,
                workers=workers,
                cache_dir=cache_dir,
            )
            for seed in distinct
        ]
        datasets = found * (len(each) // len(found))
    results = fit_together(
        list(states.values()),
        train_step,
        eval_step,
        datasets,
        folders,
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        drop_last=settings.drop_last,
        eval_batch_size=eval_batch_size,
        log_every=log_every,
        checkpoint_every=checkpoint_every,
        schedule=run.schedule,
        later=run.later,
        early_stopping=early_stopping,
        steps_per_call=steps_per_call,
        resume=resume,
    )
    for seed, result in results.items():
        write_result(folders[seed], result)
    return results
