"""The two published documents, rendered from the stored records and nothing else.

`parity/results/parity.md` is the whole table; the README holds a line for each network between two
markers. A network without a record, a record that lacks a comparison of today's and a number over
its budget stand in both.

`parity/results/remarks.md` is written by hand and included as it is. It is a file of its own
because a new run replaces a network's record, and only its author can say whether a remark still
holds for the new numbers.
"""

import re
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from jaxcnn import models
from jaxcnn.files import write_atomically
from parity import harness, records, report
from parity.records import Record, Records
from parity.report import Row

RECORDS = Path("parity/results/parity.json")
DOCUMENT = Path("parity/results/parity.md")
REMARKS = Path("parity/results/remarks.md")
README = Path("README.md")
BEGIN, END = "<!-- parity table -->", "<!-- end of parity table -->"


# A network's states.
_OK, _OVER, _STALE, _MISSING = "ok", "over budget", "out of date", "not run"


class Column(NamedTuple):
    """A column of the short table: the worst of the comparisons whose names hold `pattern`."""

    heading: str
    pattern: str


COLUMNS = (
    Column("logits", r"^output\b"),
    Column("activations", r"^activations\b"),
    Column("gradients", r"^gradients\b"),
    Column("statistics, 10 batches", r"^statistics, 10 batches\b"),
    Column("{numbers} steps, decay per step", r"\b(\d+) steps\b.*\bper step\b"),
    Column("{numbers} steps, decay per epoch", r"\b(\d+) steps\b.*\bper epoch\b"),
)


def add(root: Path, name: str, make: report.MakePair, *, seed: int, batch_size: int) -> Record:
    """Compare a network in float64 and float32, store its record and render both documents.

    Args:
        root: the project's folder.
        name: the network's name.
        make: dtype -> the pair.
        seed: that `make` builds with.
        batch_size: that `make` builds with.

    Raises:
        ValueError: see `render`.
    """
    begun = time.perf_counter()
    table = report.rows(make)
    seconds = time.perf_counter() - begun
    record = records.make(table, seed=seed, batch_size=batch_size, seconds=seconds)
    records.store(root / RECORDS, name, record)
    render(root)
    return record


def render(root: Path) -> None:
    """Write the whole table and the README's region from the stored records.

    Raises:
        ValueError: a broken file of records, markers that are not once each in the README, or a
            column of the short table for which `harness.COMPARISONS` has nothing.
        OSError: a file that cannot be read or written.
    """
    found = records.read(root / RECORDS)
    remarks = (root / REMARKS).read_text(encoding="utf-8")
    readme = insert((root / README).read_text(encoding="utf-8"), short(found))
    write_atomically(root / DOCUMENT, document(found, remarks).encode())
    write_atomically(root / README, readme.encode())


def insert(text: str, region: str) -> str:
    """Replace what stands between the two markers.

    Raises:
        ValueError: a marker that is missing, there twice or in the wrong place.
    """
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise ValueError(f"{README} must hold {BEGIN!r} and, behind it, {END!r} once each")
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n{region}\n{END}{rest.partition(END)[2]}"


def document(found: Records, remarks: str) -> str:
    """Return the whole table as Markdown, a section for each network."""
    parts = [
        "# Parity with PyTorch: every comparison",
        _paragraph(
            "Written by `python scripts/parity.py --publish` from [parity.json](parity.json); one "
            "run of each network (the comparison is deterministic). Errors are the largest "
            "absolute difference of an array over its largest value, of the worst array."
        ),
        _paragraph(
            "`float64` against its `budget` is the proof. `float32` says what a user of single "
            "precision sees, and the last column what rounding alone costs there: PyTorch's own "
            "float32 against its float64, on the same numbers."
        ),
        _paragraph(_summary(found)),
        "\n".join(
            _paragraph(f"- {names}: {words}.", indent="  ")
            for words, names in _circumstances(found).items()
        ),
        f"## Remarks\n\n{remarks.strip()}",
    ]
    for name in _names(found):
        parts += [f"## {name}", *_section(found.get(name))]
    return "\n\n".join(part for part in parts if part) + "\n"


def short(found: Records) -> str:
    """Return the README's region as Markdown, a line for each network.

    Raises:
        ValueError: a column for which `harness.COMPARISONS` has nothing.
    """
    circumstances = _circumstances(found)
    uniform = f" ({next(iter(circumstances))})" if len(circumstances) == 1 else ""
    introduction = _paragraph(
        "Largest relative error of any array in float64, in training and in evaluation mode"
        f"{uniform}; the last column is the largest float32 error of the logits beside what "
        "PyTorch's own float32 differs from its float64. In parentheses the budgets; a dash where "
        "a comparison does not apply: statistics without batch norm, a deep network's longer run."
    )
    everything = [row for record in found.values() for row in record.rows]
    headings = ["network", "input", *(_heading(column, everything) for column in COLUMNS)]
    headings.append("float32 logits / PyTorch's own")
    lines = []
    for name in _names(found):
        record, status = found.get(name), _status(found.get(name))
        mark = "" if status == _OK else f" **{status}**"
        cells = [""] * (len(COLUMNS) + 2)
        if record:
            numbers = [_worst(matching(column, record.rows)) for column in COLUMNS]
            cells = [record.size, *numbers, _float32(matching(COLUMNS[0], record.rows))]
        lines.append([f"`{name}`{mark}", *cells])
    differing = "" if uniform else ", with the settings and versions that differ between networks,"
    conclusion = _paragraph(
        f"Every comparison{differing} is in [{DOCUMENT}]({DOCUMENT}), with the float32 errors of "
        "each and remarks on what stands out. `python scripts/parity.py NETWORK... --publish` runs "
        "networks, all where none is named, and writes their numbers into both tables."
    )
    table = report.markdown(headings, lines)
    return "\n\n".join([introduction, _paragraph(_summary(found)), table, conclusion])


def matching(column: Column, rows: Sequence[Row]) -> list[Row]:
    """Return the rows whose comparison belongs to a column."""
    return [row for row in rows if re.search(column.pattern, row.comparison)]


def _names(found: Records) -> list[str]:
    return sorted({*models.names(), *found})


def _status(record: Record | None) -> str:
    if record is None:
        return _MISSING
    if not record.current:
        return _STALE
    return _OK if record.passed else _OVER


def _summary(found: Records) -> str:
    """Count the networks that keep every budget, and name the others."""
    states = {name: _status(found.get(name)) for name in _names(found)}
    kept = list(states.values()).count(_OK)
    counts = [f"{kept} of {len(states)} networks keep every budget"]
    for state in (_OVER, _STALE, _MISSING):
        if those := [f"`{name}`" for name in states if states[name] == state]:
            counts.append(f"**{state}**: {', '.join(those)}")
    return "; ".join(counts) + "."


def _section(record: Record | None) -> list[str]:
    """Return the paragraphs and the table of one network."""
    if record is None:
        return [f"**{_MISSING}**"]
    parts = [f"Images {record.size}; {record.seconds:.0f} s."]
    if not record.current:
        changed = "; ".join(sorted(set(record.comparisons) ^ set(harness.COMPARISONS)))
        parts.append(f"**{_STALE}**: run before these were added or removed: {changed}.")
    return [*parts, report.as_markdown(record.rows, omit=("network", "images"))]


def _circumstances(found: Records) -> dict[str, str]:
    """Return settings, versions and machine as words -> the networks run under them."""
    groups: dict[str, list[str]] = {}
    for name, record in sorted(found.items()):
        versions = dict(record.versions)
        packages = [f"Python {versions.pop('python')}", *(f"{k} {v}" for k, v in versions.items())]
        words = (
            f"seed {record.settings['seed']}, batches of {record.settings['batch_size']}; "
            f"{', '.join(packages)}; {record.machine['cpus']} CPU cores, JAX on "
            f"{record.machine['jax_backend']}"
        )
        groups.setdefault(words, []).append(f"`{name}`")
    if len(groups) == 1:
        return dict.fromkeys(groups, "every network")
    return {words: ", ".join(names) for words, names in groups.items()}


def _heading(column: Column, rows: Sequence[Row]) -> str:
    """Return a column's heading with the budget, or the smallest and the largest."""
    matches = [re.search(column.pattern, comparison) for comparison in harness.COMPARISONS]
    matches = [match for match in matches if match]
    if not matches:
        known = "; ".join(harness.COMPARISONS)
        raise ValueError(f"no comparison for the column {column.heading!r}; there are: {known}")
    numbers = sorted({int(n) for match in matches for n in match.groups()})
    budgets = sorted({row.budget for row in matching(column, rows)})
    ends = dict.fromkeys([*budgets[:1], *budgets[-1:]])
    shown = " to ".join(f"{budget:g}".replace("e-0", "e-") for budget in ends)
    heading = column.heading.format(numbers=" and ".join(map(str, numbers)))
    return f"{heading} ({shown})" if shown else heading


def _worst(rows: Sequence[Row]) -> str:
    """Return the largest float64 error, marked where a row is over its budget."""
    if not rows:
        return "-"
    text = report.number(max(row.float64 for row in rows))
    return text if all(row.passed for row in rows) else f"**{text} FAIL**"


def _float32(rows: Sequence[Row]) -> str:
    """Return the largest float32 error and PyTorch's own rounding in the same comparison."""
    if not rows:
        return "-"
    worst = max(rows, key=lambda row: row.float32)
    return f"{report.number(worst.float32)} / {report.number(worst.rounding)}"


def _paragraph(text: str, indent: str = "") -> str:
    return textwrap.fill(
        text, 120, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
