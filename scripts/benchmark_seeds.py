"""Time the training of several seeds in one program beside one after the other.

    python scripts/benchmark_seeds.py digits-cnn
    python scripts/benchmark_seeds.py mnist-mlp --data idx:DIR --seeds 8 --rounds 30 --format json

Timed are training steps alone, the batch's way from the training set on the device included;
evaluation, checkpoints and compilation are not. The sides are one seed alone, all seeds one after
the other, and all together (`jaxcnn.together`). They take turns in one process: a round times a
block of steps of each, and every side begins equally often. A ratio is a side's images/s by those
of the seeds one after the other in the same round, so above 1 is faster; reported are the median of
the ratios and the quartiles. On a machine that does other work neither says much.
"""

import itertools
import statistics
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import _turns
import jax
import jax.numpy as jnp
import numpy as np
import tyro
from _cli import run

from jaxcnn import log, start
from jaxcnn.assembly import Run
from jaxcnn.data import Arrays, num_batches, to_device, train_batches
from jaxcnn.fit import run_key
from jaxcnn.recipes import RECIPES, load_data
from jaxcnn.settings import Settings
from jaxcnn.together import epoch_orders, in_memory, mapped_step, stacked

ALONE, IN_TURN, TOGETHER = SIDES = ("one seed alone", "one after the other", "together")
_HEADINGS = ["training", "images/s", "ratio"]


def main(
    recipe: Annotated[str, tyro.conf.Positional],
    /,
    data: str | None = None,
    seeds: int = 4,
    batch_size: int | None = None,
    rounds: int = 15,
    steps: int = 20,
    format: Literal["text", "json"] = "text",
    out: Path | None = None,
    cache_dir: Path | None = None,
) -> None:
    """Time the training of several seeds in one program beside one after the other.

    Args:
        recipe: by name (see train.py --list).
        data: in place of the recipe's.
        seeds: how many, above 0.
        batch_size: in place of the recipe's.
        rounds: blocks that each side times.
        steps: of a seed in a block; no more than an epoch has full batches.
        format: of the table.
        out: file to write the table to, in place of standard output.
        cache_dir: where decoded images are kept; by default the user's cache folder.
    """
    _turns.check_positive(seeds=seeds, rounds=rounds, steps=steps)
    _turns.check_known("recipe", [recipe], RECIPES)
    settings = RECIPES[recipe][1]
    given = {"data": data, "batch_size": batch_size}
    settings = replace(settings, **{k: v for k, v in given.items() if v is not None})
    _turns.check_positive(batch_size=settings.batch_size)
    dataset = load_data(settings, cache_dir=cache_dir)
    split = to_device(in_memory(dataset.train))
    steps = min(steps, num_batches(len(split), settings.batch_size, drop_last=True))
    if steps == 0:
        raise ValueError(f"--batch-size {settings.batch_size}: no full batch of {len(split)}")
    made = start.build(settings, dataset, start.pixels(settings, dataset, cache_dir))
    sides = blocks(settings, made, split, seeds, steps)
    images = settings.batch_size * steps * np.array([1, seeds, seeds])
    for block in sides.values():  # compiles, and warms up
        block()
    with _turns.machine() as facts:
        facts["device"] = jax.devices()[0].device_kind
        found = measure(sides, dict(zip(SIDES, images.tolist(), strict=True)), rounds)
    rows, table = [], []
    for side in SIDES:
        ratios = [a / b for a, b in zip(found[side], found[IN_TURN], strict=True)]
        low, median, high = quartiles = np.percentile(ratios, [25, 50, 75]).tolist()
        rows.append({"training": side, "images_per_second": found[side], "ratio": quartiles})
        speed = f"{statistics.median(found[side]):.0f}"
        table.append([side, speed, f"{median:.2f} ({low:.2f}-{high:.2f})"])
    log.say(f"{recipe}: {seeds} seeds together at {rows[-1]['ratio'][1]:.2f} times the speed")
    described = {"recipe": recipe, "network": settings.title, "batch size": settings.batch_size}
    described |= {"seeds": seeds, "rounds": rounds, "steps": steps}
    _turns.publish(described, facts, rows, _HEADINGS, table, format, out)


def blocks(
    settings: Settings, made: Run, split: Arrays, count: int, steps: int
) -> dict[str, Callable[[], None]]:
    """Return each side's block: some steps of the next epoch, of one seed or of all.

    Args:
        settings: of every seed.
        made: what they become.
        split: the training set, on the device.
        count: of seeds.
        steps: of each seed in a block, at most an epoch's full batches.
    """
    seeds = list(range(count))

    def drawn(seed: int) -> Any:
        return start.initial_state(replace(settings, seed=seed), made, None, resume=False)

    def one(seed: int) -> Callable[[], None]:
        state, key, epochs = drawn(seed), run_key(seed), itertools.count()

        def block() -> None:
            nonlocal state
            epoch = next(epochs)
            batches = train_batches(split, settings.batch_size, seed=seed, epoch=epoch)
            for batch in itertools.islice(batches, steps):
                state, _ = made.train_step(state, batch, key)
            jax.block_until_ready(state)

        return block

    alone, each = one(0), [one(seed) for seed in seeds]
    states, keys = stacked([drawn(seed) for seed in seeds]), jnp.stack([*map(run_key, seeds)])
    step = jax.jit(mapped_step(made.train_step, settings.batch_size), donate_argnums=0)
    active, epochs = np.ones(count, bool), itertools.count()

    def in_turn() -> None:
        for block in each:
            block()

    def together() -> None:
        nonlocal states
        orders = epoch_orders(seeds, len(split), settings.batch_size, next(epochs))
        rest = split.images, split.labels, keys, orders, np.int32(len(split)), active
        for number in range(steps):
            states, _ = step(states, np.int32(number), *rest)
        jax.block_until_ready(states)

    return {ALONE: alone, IN_TURN: in_turn, TOGETHER: together}


def measure(
    sides: Mapping[str, Callable[[], None]], images: Mapping[str, int], rounds: int
) -> dict[str, list[float]]:
    """Time every side's block in turn.

    Args:
        sides: name -> a block, warm.
        images: name -> how many a block trains on.
        rounds: blocks that each side times.

    Returns:
        Name -> images/s of every round.
    """
    return {
        name: [1e3 * images[name] / ms for ms in found]
        for name, found in _turns.in_turn(sides, rounds).items()
    }


if __name__ == "__main__":
    run(main)
