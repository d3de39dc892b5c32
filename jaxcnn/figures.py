"""The figures of a summary as an aligned table, as totals with units, as plain values.

The rows are those of `jaxcnn.summary.rows`.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp

from jaxcnn import tables
from jaxcnn.summary import Row


def totals(table: Sequence[Row], dtype: str = "float32") -> dict[str, str]:
    """Return what a table adds up to, as words with units.

    Args:
        table: of `rows`.
        dtype: of the parameters, for their memory.
    """
    parameters, macs = sum(row.parameters for row in table), sum(row.macs for row in table)
    return {
        "parameters": f"{parameters:,} ({_mebibytes(parameters * jnp.dtype(dtype).itemsize)})",
        "MACs": f"{macs:,} ({macs / 1e9:.3f} G)",
        "FLOPs": f"{2 * macs:,} ({2 * macs / 1e9:.3f} G)",
        "activations": _mebibytes(sum(row.activation_bytes for row in table)),
    }


def as_text(table: Sequence[Row], *, markdown: bool = False) -> str:
    """Format rows as an aligned table, the totals of its columns in the last row."""
    cells = [[column.cell(row) for column in _COLUMNS] for row in table]
    cells.append([column.total(table) for column in _COLUMNS])
    headings = [column.heading for column in _COLUMNS]
    return tables.text(headings, cells, right=_RIGHT, markdown=markdown, last_apart=True)


def as_records(table: Sequence[Row]) -> list[dict[str, Any]]:
    """Return rows as dicts of plain values, for JSON."""
    return [
        {**row._asdict(), "window": row.window and row.window._asdict(), "flops": row.flops}
        for row in table
    ]


def _times(shape: Sequence[float]) -> str:
    return "x".join(f"{size:g}" for size in shape)


def _mebibytes(size: int) -> str:
    return f"{size / 2**20:,.2f} MiB"


class _Column(NamedTuple):
    heading: str
    cell: Callable[[Row], str]
    total: Callable[[Sequence[Row]], str] = lambda _: ""


_COLUMNS = [
    _Column("name", lambda row: row.name, lambda _: "total"),
    _Column("kind", lambda row: row.kind),
    _Column("output", lambda row: _times(row.output_shape) if row.output_shape else "-"),
    _Column("kernel", lambda row: _times(row.window.kernel) if row.window else ""),
    _Column("stride", lambda row: _times(row.window.stride) if row.window else ""),
    _Column(
        "parameters",
        lambda row: f"{row.parameters:,}",
        lambda table: f"{sum(row.parameters for row in table):,}",
    ),
    _Column("MACs", lambda row: f"{row.macs:,}", lambda t: f"{sum(r.macs for r in t):,}"),
    _Column("FLOPs", lambda row: f"{row.flops:,}", lambda t: f"{sum(r.flops for r in t):,}"),
    _Column(
        "receptive field",
        lambda row: _times(row.receptive_field) if row.receptive_field else "-",
    ),
    _Column(
        "activations",
        lambda row: _mebibytes(row.activation_bytes),
        lambda table: _mebibytes(sum(row.activation_bytes for row in table)),
    ),
]
_RIGHT = ("parameters", "MACs", "FLOPs", "activations")
