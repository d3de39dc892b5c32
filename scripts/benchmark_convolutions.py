"""Time grouped, depthwise and separable convolutions beside PyTorch's, on a CPU.

    python scripts/benchmark_convolutions.py
    python scripts/benchmark_convolutions.py depthwise-56 separable-28 --rounds 30 --format json

Each side lives in a process of its own, because the thread pools of one process disturb each other,
and the two take turns: a round times one block of calls of either. `forward` is the layer;
`training` is the layer and the gradients of its images and weights. PyTorch runs in both of its
memory formats, and the one with the smaller median counts. A ratio is our time by PyTorch's in the
same round, so below 1 is faster than PyTorch; the table has the median of the ratios and the
quartiles in brackets. On a machine that does other work neither the times nor the ratios say much.
"""

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from _cli import run

from jaxcnn import log
from jaxcnn.layers import Conv2d, DepthwiseSeparableConv2d


@dataclass(frozen=True)
class Case:
    """A 3x3 layer with padding 1 on (batch, size, size, channels) images."""

    channels: int
    size: int
    features: int
    groups: int
    stride: int = 1
    separable: bool = False


CASES = {
    "depthwise-56": Case(64, 56, 64, 64),
    "depthwise-56-stride2": Case(64, 56, 64, 64, stride=2),
    "depthwise-28": Case(128, 28, 128, 128),
    "depthwise-28-stride2": Case(128, 28, 128, 128, stride=2),
    "multiplier-28": Case(64, 28, 128, 64),
    "grouped-28": Case(256, 28, 256, 32),
    "grouped-14-stride2": Case(512, 14, 512, 32, stride=2),
    "separable-28": Case(128, 28, 256, 128, separable=True),
}
_PASSES = ("forward", "training")


def main(
    cases: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="CASE...")] = (),
    /,
    batch_size: int = 16,
    dtype: Literal["float32", "float64"] = "float32",
    rounds: int = 15,
    calls: int = 3,
    format: Literal["text", "json"] = "text",
    out: Path | None = None,
) -> None:
    """Time grouped, depthwise and separable convolutions beside PyTorch's, on a CPU.

    Args:
        cases: names of layers; by default all.
        batch_size: images a call.
        dtype: of images and weights.
        rounds: blocks that each side times.
        calls: calls a block; its time is the fastest call's.
        format: of the table.
        out: file to write the table to, in place of standard output.
    """
    for name, value in {"batch-size": batch_size, "rounds": rounds, "calls": calls}.items():
        if value <= 0:
            raise ValueError(f"--{name} must be above 0, got {value}")
    if unknown := [name for name in cases if name not in CASES]:
        raise ValueError(f"unknown case {unknown[0]!r}; known: {', '.join(CASES)}")
    load = os.getloadavg()[0]
    rows = []
    for name in cases or CASES:
        job = {"case": asdict(CASES[name]), "batch_size": batch_size, "dtype": dtype}
        rows += [{"case": name} | row for row in _measure(job | {"calls": calls}, rounds)]
        found = [f"{row['pass']} {row['ratio'][1]:.2f}" for row in rows[-len(_PASSES) :]]
        log.say(f"{name}: {', '.join(found)} of PyTorch's time")
    machine = {
        "cpus": os.cpu_count(),
        "load average": [round(load, 2), round(os.getloadavg()[0], 2)],
        "python": platform.python_version(),
        "jax": jax.__version__,
    }
    settings = {"batch_size": batch_size, "dtype": dtype, "rounds": rounds, "calls": calls}
    if format == "json":
        text = json.dumps({**settings, "machine": machine, "rows": rows}, indent=2)
    else:
        text = _table(rows) + "\n\n"
        text += ", ".join(f"{name} {value}" for name, value in (settings | machine).items())
    if out is None:
        print(text)
    else:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text + "\n", encoding="utf-8")


def jax_side(job: dict[str, Any]) -> dict[str, Callable[[], None]]:
    """Return name -> one timed call of our layer."""
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_enable_x64", job["dtype"] == "float64")
    case = Case(**job["case"])
    options = {"stride": case.stride, "padding": 1}
    if case.separable:
        layer = DepthwiseSeparableConv2d(case.features, 3, **options)
    else:
        layer = Conv2d(case.features, 3, groups=case.groups, **options)
    images = jnp.asarray(_images(job).transpose(0, 2, 3, 1))
    variables = layer.init(jax.random.key(0), images)
    forward = jax.jit(layer.apply)
    direction = jnp.cos(forward(variables, images))

    @jax.jit
    def training(variables, images, direction):
        result, pull = jax.vjp(layer.apply, variables, images)
        return result, pull(direction)

    return {
        "forward": lambda: jax.block_until_ready(forward(variables, images)),
        "training": lambda: jax.block_until_ready(training(variables, images, direction)),
    }


def torch_side(job: dict[str, Any]) -> dict[str, Callable[[], None]]:
    """Return name -> one timed call of PyTorch's layer, in each of its memory formats."""
    import torch

    case = Case(**job["case"])
    dtype = getattr(torch, job["dtype"])
    options = {"stride": case.stride, "padding": 1}
    features = case.channels if case.separable else case.features
    timed = {}
    for name in ("contiguous_format", "channels_last"):
        layout = {"memory_format": getattr(torch, name)}
        parts = [torch.nn.Conv2d(case.channels, features, 3, groups=case.groups, **options)]
        if case.separable:
            parts.append(torch.nn.Conv2d(features, case.features, 1))
        layer = torch.nn.Sequential(*parts).to(dtype).to(**layout)
        images = torch.from_numpy(_images(job)).contiguous(**layout).requires_grad_()
        direction = torch.cos(layer(images).detach())

        def forward(layer=layer, images=images):
            with torch.no_grad():
                layer(images)

        def training(layer=layer, images=images, direction=direction):
            torch.autograd.grad(layer(images), [images, *layer.parameters()], direction)

        timed |= {f"forward {name}": forward, f"training {name}": training}
    return timed


_SIDES = {"jax": jax_side, "torch": torch_side}


def _images(job: dict[str, Any]) -> np.ndarray:
    case = Case(**job["case"])
    shape = (job["batch_size"], case.channels, case.size, case.size)
    return np.random.default_rng(0).normal(size=shape).astype(job["dtype"])


def _measure(job: dict[str, Any], rounds: int) -> list[dict[str, Any]]:
    """Return a row a pass: milliseconds of every round, and quartiles of the paired ratios."""
    found: dict[str, list[dict[str, float]]] = {side: [] for side in _SIDES}
    with _worker("jax", job) as ours, _worker("torch", job) as theirs:
        workers = {"jax": ours, "torch": theirs}
        for i in range(rounds):
            # Who goes first takes turns too.
            for side in ("jax", "torch") if i % 2 else ("torch", "jax"):
                found[side].append(_ask(workers[side]))
    rows = []
    for name in _PASSES:
        ours = [one[name] for one in found["jax"]]
        layouts = [n for n in found["torch"][0] if n.startswith(name)]
        columns = {n: [one[n] for one in found["torch"]] for n in layouts}
        best = min(columns, key=lambda n: statistics.median(columns[n]))
        ratios = [a / b for a, b in zip(ours, columns[best], strict=True)]
        layout = best.removeprefix(name).strip()
        row = {"pass": name, "jax": ours, "torch": columns[best], "torch_layout": layout}
        rows.append(row | {"ratio": np.percentile(ratios, [25, 50, 75]).tolist()})
    return rows


@contextmanager
def _worker(side: str, job: dict[str, Any]) -> Iterator[subprocess.Popen]:
    """Start a process that times a block at every line it reads, and end it."""
    command = [sys.executable, __file__, _CHILD, side, json.dumps(job)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as child:
        try:
            yield child
        finally:
            child.kill()


def _ask(worker: subprocess.Popen) -> dict[str, float]:
    assert worker.stdin is not None and worker.stdout is not None
    try:
        worker.stdin.write("\n")
        worker.stdin.flush()
        return json.loads(worker.stdout.readline())
    except (BrokenPipeError, json.JSONDecodeError):
        raise ValueError(f"a measuring process ended with {worker.wait()}") from None


def _child(side: str, text: str) -> None:
    """Be a side's process: print the milliseconds of a block for every line read."""
    job = json.loads(text)
    timed = _SIDES[side](job)
    for call in timed.values():
        call()
    for _ in sys.stdin:
        block = {
            n: min(_milliseconds(call) for _ in range(job["calls"])) for n, call in timed.items()
        }
        print(json.dumps(block), flush=True)


def _milliseconds(call: Callable[[], None]) -> float:
    start = time.perf_counter()
    call()
    return 1e3 * (time.perf_counter() - start)


_CHILD = "--measure-one"


def _table(rows: list[dict[str, Any]]) -> str:
    cells = [["layer", "pass", "ours, ms", "PyTorch, ms", "PyTorch's layout", "ratio"]]
    for row in rows:
        low, median, high = row["ratio"]
        times = [f"{statistics.median(row[side]):.2f}" for side in _SIDES]
        ratio = f"{median:.2f} ({low:.2f}-{high:.2f})"
        cells.append([row["case"], row["pass"], *times, row["torch_layout"], ratio])
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    cells.insert(1, ["-" * width for width in widths])
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    )


if __name__ == "__main__":
    if sys.argv[1:2] == [_CHILD]:
        _child(*sys.argv[2:])
    else:
        run(main)
