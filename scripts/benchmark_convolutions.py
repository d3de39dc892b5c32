"""Time grouped, depthwise and separable convolutions beside PyTorch's, on a CPU.

    python scripts/benchmark_convolutions.py
    python scripts/benchmark_convolutions.py depthwise-56 separable-28 --rounds 30 --format json

`forward` is the layer; `training` is the layer and the gradients of its images and weights. A call
runs several such layers, each on images of its own: a network's step is one program of many layers,
and starting a program costs JAX a tenth of a millisecond or two. PyTorch runs in both of its memory
formats, and the one with the smaller median counts. How the two take turns, and what a ratio is:
`scripts/_turns.py`.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import _turns
import jax
import jax.numpy as jnp
import numpy as np
import tyro

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
_HEADINGS = ["layer", "pass", "ours, ms", "PyTorch, ms", "PyTorch's layout", "ratio"]


def main(
    cases: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="CASE...")] = (),
    /,
    batch_size: int = 16,
    layers: int = 4,
    dtype: Literal["float32", "float64"] = "float32",
    rounds: int = 15,
    calls: int = 10,
    format: Literal["text", "json"] = "text",
    out: Path | None = None,
) -> None:
    """Time grouped, depthwise and separable convolutions beside PyTorch's, on a CPU.

    Args:
        cases: names of layers; by default all.
        batch_size: images a layer.
        layers: of one call; times are of all of them.
        dtype: of images and weights.
        rounds: blocks that each side times.
        calls: calls a block; its time is the fastest call's. The first ones of a block bring back
            into the caches what the other side's block drove out of them.
        format: of the table.
        out: file to write the table to, in place of standard output.
    """
    _turns.check_positive(batch_size=batch_size, layers=layers, rounds=rounds, calls=calls)
    _turns.check_known("case", cases, CASES)
    settings = {"batch_size": batch_size, "layers": layers, "dtype": dtype}
    settings |= {"rounds": rounds, "calls": calls}
    rows = []
    with _turns.machine() as facts:
        for name in cases or CASES:
            rows += [{"case": name} | row for row in _measure(CASES[name], settings)]
            found = [f"{row['pass']} {row['ratio'][1]:.2f}" for row in rows[-len(_PASSES) :]]
            log.say(f"{name}: {', '.join(found)} of PyTorch's time")
    table = []
    for row in rows:
        ours, theirs, ratio = _turns.cells(row)
        table.append([row["case"], row["pass"], ours, theirs, row["torch_layout"], ratio])
    _turns.publish(settings, facts, rows, _HEADINGS, table, format, out)


def jax_side(job: dict[str, Any]) -> dict[str, Callable[[], None]]:
    """Return name -> one timed call of our layers."""
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_enable_x64", job["dtype"] == "float64")
    case = Case(**job["case"])
    options = {"stride": case.stride, "padding": 1}
    if case.separable:
        layer = DepthwiseSeparableConv2d(case.features, 3, **options)
    else:
        layer = Conv2d(case.features, 3, groups=case.groups, **options)
    images = [jnp.asarray(x.transpose(0, 2, 3, 1)) for x in _images(job)]
    variables = [layer.init(jax.random.key(i), x) for i, x in enumerate(images)]

    @jax.jit
    def forward(variables, images):
        return [layer.apply(v, x) for v, x in zip(variables, images, strict=True)]

    @jax.jit
    def training(variables, images, directions):
        results, pull = jax.vjp(forward, variables, images)
        return results, pull(directions)

    directions = [jnp.cos(out) for out in forward(variables, images)]
    return {
        "forward": lambda: jax.block_until_ready(forward(variables, images)),
        "training": lambda: jax.block_until_ready(training(variables, images, directions)),
    }


def torch_side(job: dict[str, Any]) -> dict[str, Callable[[], None]]:
    """Return name -> one timed call of PyTorch's layers, in each of its memory formats."""
    import torch

    case = Case(**job["case"])
    dtype = getattr(torch, job["dtype"])
    options = {"stride": case.stride, "padding": 1}
    features = case.channels if case.separable else case.features
    timed = {}
    for name in ("contiguous_format", "channels_last"):
        layout = {"memory_format": getattr(torch, name)}
        layers = []
        for array in _images(job):
            parts = [torch.nn.Conv2d(case.channels, features, 3, groups=case.groups, **options)]
            if case.separable:
                parts.append(torch.nn.Conv2d(features, case.features, 1))
            layer = torch.nn.Sequential(*parts).to(dtype).to(**layout)
            images = torch.from_numpy(array).contiguous(**layout).requires_grad_()
            layers.append((layer, images, torch.cos(layer(images).detach())))

        def forward(layers=layers):
            with torch.no_grad():
                return [layer(images) for layer, images, _ in layers]

        def training(layers=layers):
            return [
                torch.autograd.grad(layer(images), [images, *layer.parameters()], direction)
                for layer, images, direction in layers
            ]

        timed |= {f"forward {name}": forward, f"training {name}": training}
    return timed


def _images(job: dict[str, Any]) -> np.ndarray:
    """Return images (layers, B, C, H, W)."""
    case = Case(**job["case"])
    shape = (job["layers"], job["batch_size"], case.channels, case.size, case.size)
    return np.random.default_rng(0).normal(size=shape).astype(job["dtype"])


def _measure(case: Case, settings: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a row a pass: milliseconds of every round, and quartiles of the paired ratios."""
    found = _turns.measure(__file__, settings | {"case": asdict(case)}, settings["rounds"])
    rows = []
    for name in _PASSES:
        theirs = {n: times for n, times in found["torch"].items() if n.startswith(name)}
        best, row = _turns.compare(found["jax"][name], theirs)
        rows.append({"pass": name, "torch_layout": best.removeprefix(name).strip()} | row)
    return rows


if __name__ == "__main__":
    _turns.run(main, {"jax": jax_side, "torch": torch_side})
