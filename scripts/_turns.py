"""Times of two sides that take turns, ours and PyTorch's: what the benchmarks beside it share.

Each side lives in a process of its own, because the thread pools of one process disturb each other,
and the two take turns: a round times one block of calls of either. A ratio is our time by PyTorch's
in the same round, so below 1 is faster than PyTorch; reported are the median of the ratios and the
quartiles. On a machine that does other work neither the times nor the ratios say much.
"""

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

# Before JAX is imported: by default its first process takes three quarters of a GPU's memory.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import jax  # noqa: E402
import numpy as np  # noqa: E402
from _cli import run as run_main  # noqa: E402

from jaxcnn import memory, tables  # noqa: E402

Side = Callable[[dict[str, Any]], dict[str, Callable[[], Any]]]
"""job -> name -> one timed call. JSON can hold a job; its `calls` are the calls of a block. A call
named `FACTS` is not timed: at the end it returns what else the side has to tell, as JSON can."""

Name = TypeVar("Name")
ORDER = ("jax", "torch")
FACTS = "facts"
_CHILD = "--measure-one"


def run(main: Callable[..., None], sides: Mapping[str, Side]) -> None:
    """Call a script's `main` or, in a process that `measure` started, be one of its sides.

    Args:
        main: as `_cli.run` takes it.
        sides: "jax" and "torch" -> the side.
    """
    if sys.argv[1:2] == [_CHILD]:
        _child(sides, *sys.argv[2:])
    else:
        run_main(main)


def check_positive(**values: int) -> None:
    """Raise a ValueError that names the first option whose value is not above 0."""
    for name, value in values.items():
        if value <= 0:
            raise ValueError(f"--{name.replace('_', '-')} must be above 0, got {value}")


def check_known(what: str, names: Sequence[str], known: Collection[str]) -> None:
    """Raise a ValueError that names the first unknown name and lists the known ones."""
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"unknown {what} {unknown[0]!r}; known: {', '.join(known)}")


def measure(
    script: str,
    job: dict[str, Any],
    rounds: int,
    agree: Callable[[], None] = lambda: None,
    *,
    sides: Sequence[str] = ORDER,
    facts: dict[str, dict[str, Any]] | None = None,
) -> dict[str, dict[str, list[float]]]:
    """Time the sides of a job in turn.

    Args:
        script: the file of the benchmark, whose last line calls `run`.
        job: what all sides are given.
        rounds: blocks that each side times, > 0.
        agree: is called once all sides are ready, each call warm; raises where they differ.
        sides: "jax", "torch"; in "torch:compile" what follows the colon is the job's `form`.
        facts: is given side -> what its `FACTS` call returns.

    Returns:
        Side -> name of a call -> milliseconds of every round, each the fastest of a block.

    Raises:
        ValueError: a side's error, or the end of its process.
    """
    found: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
    with ExitStack() as stack:
        # All start before any is waited for.
        workers = {side: stack.enter_context(_worker(script, side, job)) for side in sides}
        for side in sides:
            _answer(workers[side])
        agree()
        for i in range(rounds):
            # Who goes first takes turns too.
            for side in sides if i % 2 else reversed(sides):
                found[side].append(_ask(workers[side]))
        if facts is not None:
            facts |= {side: _ask(workers[side], FACTS) for side in sides}
    return {
        side: {name: [one[name] for one in blocks] for name in blocks[0]}
        for side, blocks in found.items()
    }


def in_turn(blocks: Mapping[Name, Callable[[], Any]], rounds: int) -> dict[Name, list[float]]:
    """Time blocks of one process in turn; who goes first takes turns too.

    Args:
        blocks: name -> a block, warm.
        rounds: times that each is called, > 0.

    Returns:
        Name -> milliseconds of every round.
    """
    names = list(blocks)
    found: dict[Name, list[float]] = {name: [] for name in names}
    for i in range(rounds):
        first = i % len(names)
        for name in names[first:] + names[:first]:
            found[name].append(_milliseconds(blocks[name]))
    return found


def compare(ours: list[float], theirs: Mapping[str, list[float]]) -> tuple[str, dict[str, Any]]:
    """Compare our milliseconds of every round with those of PyTorch's fastest form.

    Args:
        ours: a value a round.
        theirs: name of a form -> the same; the one with the smallest median counts.

    Returns:
        The form's name; both sides' milliseconds and the quartiles of the paired ratios.
    """
    best = min(theirs, key=lambda name: statistics.median(theirs[name]))
    ratios = [a / b for a, b in zip(ours, theirs[best], strict=True)]
    quartiles = np.percentile(ratios, [25, 50, 75]).tolist()
    return best, {"jax": ours, "torch": theirs[best], "ratio": quartiles}


def cells(row: Mapping[str, Any]) -> tuple[str, str, str]:
    """Return a row's median times, ours and PyTorch's, and its ratio, as text."""
    low, median, high = row["ratio"]
    ours, theirs = (f"{statistics.median(row[side]):.2f}" for side in ORDER)
    return ours, theirs, f"{median:.2f} ({low:.2f}-{high:.2f})"


@contextmanager
def machine() -> Iterator[dict[str, Any]]:
    """Yield what is known of the machine; the load of before and after is there at the end."""
    facts: dict[str, Any] = {"cpus": os.cpu_count()}
    load = os.getloadavg()[0]
    yield facts
    facts["load average"] = [round(load, 2), round(os.getloadavg()[0], 2)]
    facts |= {"python": platform.python_version(), "jax": jax.__version__}


def publish(
    settings: dict[str, Any],
    facts: dict[str, Any],
    rows: list[dict[str, Any]],
    headings: Sequence[str],
    table: Sequence[Sequence[str]],
    format: str,
    out: Path | None,
) -> None:
    """Print what was found or write it to a file.

    Args:
        settings: options of the benchmark.
        facts: of the machine.
        rows: everything that was found, for JSON.
        headings: of the table.
        table: rows of cells, for text.
        format: "text", "markdown" or "json".
        out: the file; None for standard output.
    """
    if format == "json":
        text = json.dumps({**settings, "machine": facts, "rows": rows}, indent=2)
    else:
        text = tables.text(headings, table, markdown=format == "markdown") + "\n\n"
        text += ", ".join(f"{name} {value}" for name, value in (settings | facts).items())
    if out is None:
        print(text)
    else:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text + "\n", encoding="utf-8")


@contextmanager
def _worker(script: str, side: str, job: dict[str, Any]) -> Iterator[subprocess.Popen]:
    """Start a process that times a block at every line it reads, and end it."""
    name, _, form = side.partition(":")
    command = [sys.executable, script, _CHILD, name, json.dumps(job | {"form": form})]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as child:
        try:
            yield child
        finally:
            child.kill()


def _ask(worker: subprocess.Popen, for_what: str = "") -> dict[str, Any]:
    assert worker.stdin is not None
    try:
        worker.stdin.write(f"{for_what}\n")
        worker.stdin.flush()
    except BrokenPipeError:
        raise ValueError(f"a measuring process ended with {worker.wait()}") from None
    return _answer(worker)


def _answer(worker: subprocess.Popen) -> dict[str, Any]:
    assert worker.stdout is not None
    line = worker.stdout.readline()
    if not line:
        raise ValueError(f"a measuring process ended with {worker.wait()}")
    answer = json.loads(line)
    if "error" in answer:
        raise ValueError(answer["error"])
    return answer


def _child(sides: Mapping[str, Side], side: str, text: str) -> None:
    """Be a side's process: print {} when ready, then a block's milliseconds a line read."""
    job = json.loads(text)
    if side == "jax":
        memory.keep_freed()  # as every script of ours does
    try:
        timed = sides[side](job)
        facts = timed.pop(FACTS, dict)
        for call in timed.values():
            call()
    except (ValueError, ImportError, RuntimeError) as error:
        print(json.dumps({"error": str(error).partition("\n")[0]}))
        return
    print("{}", flush=True)
    for line in sys.stdin:
        if line.strip() == FACTS:
            print(json.dumps(facts()), flush=True)
            continue
        block = {
            n: min(_milliseconds(call) for _ in range(job["calls"])) for n, call in timed.items()
        }
        print(json.dumps(block), flush=True)


def _milliseconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return 1e3 * (time.perf_counter() - start)
