"""What has been compared, kept in one JSON file: a record for every network.

A record holds the network's rows and what they were computed with. Records are replaced one at a
time, so that a publication of hours that breaks off keeps what it had.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxcnn.files import write_atomically
from parity import harness, report
from parity.report import Row


@dataclass(frozen=True)
class Record:
    """One network's rows and what they were computed with.

    Attributes:
        settings: "seed", "batch_size" and "input_shape" [H, W, C].
        versions: of Python and packages, see `report.environment`.
        machine: see `report.environment`.
        seconds: what the comparison took.
        comparisons: names of all comparisons asked for; one without a row did not apply.
        rows: of the network, float64 and float32.
    """

    settings: Mapping[str, Any]
    versions: Mapping[str, str]
    machine: Mapping[str, Any]
    seconds: float
    comparisons: Sequence[str]
    rows: Sequence[Row]

    @property
    def current(self) -> bool:
        """Whether today's comparisons were asked for."""
        return set(self.comparisons) == set(harness.COMPARISONS)

    @property
    def passed(self) -> bool:
        """Whether every row keeps its budget."""
        return all(row.passed for row in self.rows)

    @property
    def size(self) -> str:
        """The images' size as HxWxC."""
        return "x".join(map(str, self.settings["input_shape"]))


Records = Mapping[str, Record]


def make(table: Sequence[Row], *, seed: int, batch_size: int, seconds: float) -> Record:
    """Make the record of one network from its rows and what they were computed with."""
    settings = {"seed": seed, "batch_size": batch_size, "input_shape": list(table[0].images[1:])}
    return Record(
        settings,
        **report.environment(),
        seconds=round(seconds, 1),
        comparisons=list(harness.COMPARISONS),
        rows=table,
    )


def read(path: Path) -> dict[str, Record]:
    """Return the stored records: network -> record; none where the file is not there yet.

    Raises:
        ValueError: the file is not JSON.
    """
    if not path.exists():
        return {}
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not JSON: {error}") from None
    return {name: _from_json(name, fields) for name, fields in stored.items()}


def store(path: Path, name: str, record: Record) -> None:
    """Put a network's record in place of its old one; the others stay.

    Raises:
        ValueError: the file is not JSON.
    """
    # Read again each time: another process may be storing other networks.
    records = sorted({**read(path), name: record}.items())
    stored = {name: _to_json(record) for name, record in records}
    write_atomically(path, f"{json.dumps(stored, indent=1, allow_nan=False)}\n".encode())


def _to_json(record: Record) -> dict[str, Any]:
    # The network and the images' shape stand once in a record, not in every row.
    rows = [{**report.plain(row), "passed": row.passed} for row in record.rows]
    rows = [{k: v for k, v in row.items() if k not in ("network", "images")} for row in rows]
    return {**vars(record), "rows": rows}


def _from_json(name: str, fields: dict[str, Any]) -> Record:
    settings = fields["settings"]
    images = (settings["batch_size"], *settings["input_shape"])
    rows = []
    for row in fields["rows"]:
        # Both dtypes were compared: a number that is None was not finite.
        row = {k: math.inf if v is None else v for k, v in row.items() if k != "passed"}
        rows.append(Row(network=name, images=images, **row))
    return Record(**{**fields, "rows": rows})
