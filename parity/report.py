"""Tables of errors, and the place where two sides part.

A float32 comparison cannot tell a small mistake from rounding: after 20 steps both are a few per
cent. So every row of the table holds four numbers: the float64 error and its budget, where a
mistake shows; the float32 error; and PyTorch's own float32 error against its float64 run of the
same numbers, which is what rounding alone costs.
"""

import dataclasses
import json
import math
import os
import platform
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import flax
import jax
import numpy as np
import optax
import torch

from jaxcnn import tables
from parity import harness
from parity.errors import worst
from parity.harness import Comparison, Pair

# A name says where a pair comes from; called with a dtype, it builds the pair in that dtype.
MakePair = Callable[[str], Pair]


@dataclass(frozen=True)
class Row:
    """One comparison of one pair; every error is the worst array's (see `parity.errors`).

    Attributes:
        network: name of the pair.
        comparison: a key of `harness.COMPARISONS`.
        float64: error of Flax against PyTorch in float64; None if not asked for.
        budget: what `float64` may be.
        where: the array with the float64 error, or else with the float32 error.
        float32: error of Flax against PyTorch in float32; None if not asked for.
        rounding: error of PyTorch in float32 against PyTorch in float64.
        images: shape (B, H, W, C) of a batch.
    """

    network: str
    comparison: str
    float64: float | None
    budget: float
    where: str
    float32: float | None
    rounding: float | None
    images: tuple[int, ...]

    @property
    def passed(self) -> bool:
        """Whether the float64 error keeps its budget; a row without one cannot fail."""
        return self.float64 is None or self.float64 <= self.budget


def rows(make: MakePair, dtypes: Sequence[str] = ("float64", "float32")) -> list[Row]:
    """Compare one pair in every way that applies to it.

    Args:
        make: dtype -> the pair, of the same seed and batches in every dtype.
        dtypes: "float64", "float32" or both.

    Returns:
        A row for each comparison; a network without statistics has none for them, and one whose
        output is not (B, K) none for training.
    """
    double = make("float64")
    single = make("float32") if "float32" in dtypes else None
    return [
        _row(name, comparison, double, single, dtypes)
        for name, comparison in harness.COMPARISONS.items()
        if comparison.applies(double)
    ]


def as_text(table: Sequence[Row]) -> str:
    """Format rows as aligned plain text."""
    return tables.text(_HEADINGS, [*map(_cells, table)])


def as_markdown(table: Sequence[Row], *, omit: Collection[str] = ()) -> str:
    """Format rows as a Markdown table, less the columns whose headings are in `omit`."""
    kept = [i for i, heading in enumerate(_HEADINGS) if heading not in omit]
    return markdown([_HEADINGS[i] for i in kept], [[_cells(r)[i] for i in kept] for r in table])


def markdown(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Format headings and lines of cells as a Markdown table."""
    cells = [headings, ["---"] * len(headings), *lines]
    return "\n".join("| " + " | ".join(line) + " |" for line in cells)


def as_json(table: Sequence[Row], **settings) -> str:
    """Format rows as JSON, with the settings (seed, batch size), the versions and the machine."""
    rows = [{**plain(row), "passed": row.passed} for row in table]
    return json.dumps({"settings": settings, **environment(), "rows": rows}, indent=2)


def environment() -> dict[str, dict[str, Any]]:
    """Return what a table was made with: "versions" of Python and packages, and the "machine"."""
    return {
        "versions": {
            "python": platform.python_version(),
            "jax": jax.__version__,
            "flax": flax.__version__,
            "optax": optax.__version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
        },
        "machine": {"cpus": os.cpu_count(), "jax_backend": jax.default_backend()},
    }


def plain(row: Row) -> dict[str, Any]:
    """Return a row's fields as JSON can hold them: a number that is not finite becomes None."""
    fields = dataclasses.asdict(row)
    infinite = {k for k, v in fields.items() if isinstance(v, float) and not math.isfinite(v)}
    return {name: None if name in infinite else value for name, value in fields.items()}


def number(value: float | None) -> str:
    """Format an error with two digits, None as a dash."""
    return "-" if value is None else f"{value:.1e}"


@dataclass(frozen=True)
class Part:
    """Where two sides part first: the name of a layer, parameter or quantity, and its error."""

    name: str
    error: float
    step: int | None = None

    def __str__(self):
        at = "" if self.step is None else f"step {self.step}, "
        return f"{at}{self.name} (error {self.error:.1e})"


@dataclass(frozen=True)
class Divergence:
    """The first place where two sides part in each direction; None where they agree.

    Attributes:
        forward: the first layer, in order of execution; steps and layers count from 0.
        backward: the first parameter, from the loss backwards; the input comes last.
        training: the first step, and in it the first of loss, statistics, momentum, parameters.
            None too where training was not looked at (steps 0, or an output that is not (B, K)).
    """

    forward: Part | None
    backward: Part | None
    training: Part | None

    def __bool__(self) -> bool:
        return any((self.forward, self.backward, self.training))

    def __str__(self):
        return "\n".join(
            f"{field.name}: {getattr(self, field.name) or 'no divergence'}"
            for field in dataclasses.fields(self)
        )


def first_divergence(
    pair: Pair, *, rtol: float = 1e-9, train: bool = True, steps: int = 20, **run
) -> Divergence:
    """Find the first layer, the first parameter and the first step at which two sides part.

    Args:
        pair: the two sides.
        rtol: the error (see `parity.errors`) above which an array counts as different; about 1e-9
            in float64, about 1e-3 in float32, where one cannot be sure.
        train: mode of the forward and backward comparison.
        steps: training steps to look at; 0 leaves training out.
        **run: the optimizer's and schedule's arguments, as `harness.training` takes them.
    """
    got, want = harness.activations(pair, train=train)
    forward = _first(got, want, rtol, list(want))
    order = {layer: place for place, layer in enumerate(want)}

    got, want = harness.gradients(pair, train=train)
    last_first = sorted(
        (name for name in want if name != harness.INPUT),
        key=lambda name: order.get(name.rpartition(".")[0], math.inf),
        reverse=True,
    )
    backward = _first(got, want, rtol, [*last_first, harness.INPUT])

    training = _first_step(pair, rtol, steps, run) if pair.logits else None
    return Divergence(forward, backward, training)


def _first_step(pair: Pair, rtol: float, steps: int, run: dict) -> Part | None:
    advance, snapshot = harness.training(pair, **run)
    for step in range(steps):
        losses = advance(step)
        got, want = snapshot()
        got = {harness.LOSS: losses[0], **got}
        want = {harness.LOSS: losses[1], **want}
        if part := _first(got, want, rtol, list(want)):
            return dataclasses.replace(part, step=step)
    return None


def _first(got, want, rtol: float, order: list[str]) -> Part | None:
    _same_names(got, want)
    found = harness.errors(got, want)
    over = (Part(name, found[name]) for name in order if not found[name] <= rtol)
    return next(over, None)


def _row(
    name: str, comparison: Comparison, double: Pair, single: Pair | None, dtypes: Sequence[str]
) -> Row:
    # A large network's arrays take gigabytes: a side goes as soon as its error is known.
    got, want = comparison.compare(double)
    float64, where = _strict(got, want)
    del got
    float32 = rounding = None
    if single is not None:
        got32, want32 = comparison.compare(single)
        float32, where32 = _strict(got32, want32)
        del got32
        rounding, _ = worst(want32, want)
        if "float64" not in dtypes:
            float64, where = None, where32
    images = double.batch(0)[0].shape
    return Row(double.name, name, float64, comparison.budget, where, float32, rounding, images)


def _strict(got, want) -> tuple[float, str]:
    _same_names(got, want)
    return worst(got, want)


def _same_names(got, want) -> None:
    if set(got) != set(want):
        raise ValueError(f"names on one side only: {sorted(set(got) ^ set(want))}")


_HEADINGS = [
    "network",
    "images",
    "comparison",
    "float64",
    "budget",
    "",
    "worst in",
    "float32",
    "PyTorch float32 against float64",
]


def _cells(row: Row) -> list[str]:
    verdict = "" if row.float64 is None else ("ok" if row.passed else "FAIL")
    numbers = [number(n) for n in (row.float64, row.budget, row.float32, row.rounding)]
    return [
        row.network,
        "x".join(map(str, row.images)),
        row.comparison,
        *numbers[:2],
        verdict,
        row.where,
        *numbers[2:],
    ]
