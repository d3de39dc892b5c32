"""Time a network's train step on 1, 2, 4, ... devices: how much of them is gained.

    python scripts/benchmark_devices.py resnet_cifar --batch 128
    python scripts/benchmark_devices.py cnn_mnist --devices 4 --rounds 5 --format json

The step is cross-entropy, SGD with momentum and weight decay; its batch is divided over the devices
(`jaxcnn.devices`) and lies there already. `weak` gives every device --batch images, so that more
devices do more; `strong` divides --batch images, so that each does less. Efficiency is the images/s
of n devices by n times those of one in the same round: 1 is all that can be gained. Reported are
the median over the rounds and the quartiles; the numbers of devices take turns, and each begins
equally often.

On a machine without a GPU the devices are virtual: they share the processor's cores, one device
alone already uses all of them, and an efficiency of 1 / n is all that can be expected. This shows
that the script works, and what dividing costs, not what several processors would gain. Several
devices convolve by our own CPU code, as one does; norms and the optimizer's step are XLA's there.
"""

import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import _turns
import jax
import jax.numpy as jnp
import numpy as np
import tyro
from _cli import run

from jaxcnn import devices as meshes
from jaxcnn import log, models, optim
from jaxcnn.train import init_state, make_train_step

SCALINGS = ("weak", "strong")
_VIRTUAL = 8
_HEADINGS = ["scaling", "devices", "batch", "step, ms", "images/s", "efficiency"]


def main(
    network: Annotated[str, tyro.conf.Positional] = "resnet_cifar",
    /,
    devices: int | None = None,
    batch: int = 64,
    scaling: tuple[Literal["weak", "strong"], ...] = SCALINGS,
    rounds: int = 9,
    calls: int = 5,
    format: Literal["text", "markdown", "json"] = "text",
    out: Path | None = None,
) -> None:
    """Time a network's train step on 1, 2, 4, ... devices.

    Args:
        network: see train.py --list.
        devices: the most of them; by default all, on a CPU 8 virtual ones.
        batch: images of a device (weak), of all together (strong); a multiple of the devices.
        scaling: what to time.
        rounds: blocks that each number of devices times.
        calls: steps of a block.
        format: of the table.
        out: file to write the table to, in place of standard output.
    """
    _turns.check_positive(batch=batch, rounds=rounds, calls=calls)
    _turns.check_known("network", [network], models.names())
    numbers = _numbers(devices)
    if batch % numbers[-1]:
        raise ValueError(f"--batch {batch}: expected a multiple of {numbers[-1]}, the devices")
    sides = {
        (kind, n): _block(network, n, batch * n if kind == "weak" else batch, calls)
        for kind in dict.fromkeys(scaling)
        for n in numbers
    }
    for block in sides.values():  # compiles, and warms up
        block()
    with _turns.machine() as facts:
        facts["device"] = jax.devices()[0].device_kind
        found = {
            side: [block / calls for block in blocks]
            for side, blocks in _turns.in_turn(sides, rounds).items()
        }
    rows = [_row(*side, batch, found) for side in sides]
    table = [_cells(row) for row in rows]
    last = rows[-1]
    log.say(
        f"{network}: {last['scaling']} scaling to {last['devices']} devices at an efficiency of "
        f"{last['efficiency'][1]:.2f}"
    )
    described = {"network": network, "rounds": rounds, "calls": calls}
    _turns.publish(described, facts, rows, _HEADINGS, table, format, out)


def _numbers(most: int | None) -> list[int]:
    """Return 1, 2, 4, ... to the most devices there are."""
    if most is not None and most < 1:
        raise ValueError(f"--devices must be above 0, got {most}")
    meshes.virtual(_VIRTUAL if most is None else most)
    there = jax.device_count()
    if most is not None and most > there:
        raise ValueError(f"--devices {most}: there are {there}")
    most = there if most is None else most
    return [2**i for i in range(most.bit_length())]


def _block(network: str, count: int, batch: int, calls: int) -> Callable[[], None]:
    """Return what takes some steps on so many devices."""
    mesh = meshes.make_mesh(count)
    model = models.create(network, num_classes=10)
    tx = optim.create("sgd", 0.01, momentum=0.9, weight_decay=1e-4)
    rng = np.random.default_rng(0)
    shape = models.input_shape(network)
    images = rng.normal(size=(batch, *shape)).astype(np.float32)
    labels = rng.integers(0, 10, batch).astype(np.int32)
    drawn = init_state(model, tx, jax.random.key(0), jnp.zeros((1, *shape)))
    state = meshes.replicated(drawn, mesh)
    data = meshes.placed({"images": images, "labels": labels}, mesh)
    step, key = meshes.within(mesh, make_train_step(model, tx)), jax.random.key(1)

    def block() -> None:
        nonlocal state
        for _ in range(calls):
            state, _metrics = step(state, data, key)
        jax.block_until_ready(state)

    return block


def _row(
    kind: str, count: int, batch: int, found: dict[tuple[str, int], list[float]]
) -> dict[str, Any]:
    """Compare a number of devices with one of them, round by round."""
    milliseconds, alone = found[kind, count], found[kind, 1]
    images = batch * count if kind == "weak" else batch
    speeds = [1e3 * images / ms for ms in milliseconds]
    ratios = [speed / (count * 1e3 * batch / ms) for speed, ms in zip(speeds, alone, strict=True)]
    quartiles = np.percentile(ratios, [25, 50, 75]).tolist()
    return {
        "scaling": kind,
        "devices": count,
        "batch": images,
        "milliseconds": milliseconds,
        "images_per_second": speeds,
        "efficiency": quartiles,
    }


def _cells(row: dict[str, Any]) -> list[str]:
    low, median, high = row["efficiency"]
    ms, speed = (statistics.median(row[name]) for name in ("milliseconds", "images_per_second"))
    said = [f"{ms:.2f}", f"{speed:.0f}", f"{median:.2f} ({low:.2f}-{high:.2f})"]
    return [row["scaling"], str(row["devices"]), str(row["batch"]), *said]


if __name__ == "__main__":
    run(main)
