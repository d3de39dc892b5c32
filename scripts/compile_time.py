"""Measure what the train step of a network costs before its first step: trace, lower, compile.

    python scripts/compile_time.py resnet50 densenet121
    python scripts/compile_time.py resnet152 --remat --no-torch --format markdown

The step is the one that recipes train with: forward and backward pass, SGD with momentum, metrics.
JAX's side sees shapes only, so nothing runs: `trace` is Python's part (network to jaxpr), `lower`
turns the jaxpr into StableHLO, `compile` is XLA's part, without the persistent cache; instructions
are those of the optimised HLO, in fusions too; temporary memory is what XLA plans for the step
beside weights, optimizer state and batch. Beside it `torch.compile` of the PyTorch twin's step:
the first compiled call less a later one, after an eager step and after a small function has been
compiled, without Inductor's cache.

Every measurement has a process of its own; seconds are the median of --runs of them, the range in
brackets. `cached` is all three stages together where JAX's persistent cache already has the
program. CPU seconds are those of all threads in the three stages together: on a machine that does
other work they say more than the clock.
"""

import importlib.util
import json
import os
import platform
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from _cli import run

from jaxcnn import log, models, optim, summary, tables
from jaxcnn.train import init_state, make_train_step


@dataclass(frozen=True)
class Job:
    """What is measured: a network, what it is fed, and how; `input_shape` is (H, W, C)."""

    network: str
    batch_size: int
    input_shape: tuple[int, int, int]
    dtype: str
    remat: bool
    cache: str = ""  # JAX's persistent cache; "" for none


def main(
    networks: Annotated[
        tuple[str, ...],
        tyro.conf.Positional,
        tyro.conf.arg(metavar="NETWORK...", help_behavior_hint="(one or more)"),
    ],
    /,
    batch_size: int = 32,
    input: str | None = None,
    dtype: Literal["float32", "float64"] = "float32",
    remat: bool = False,
    runs: int = 3,
    torch: bool = True,
    torch_limit: float = 900.0,
    format: Literal["text", "markdown", "json"] = "text",
    out: Path | None = None,
) -> None:
    """Measure what the train step of a network costs before its first step.

    Args:
        networks: names (see train.py --list).
        batch_size: images a step.
        input: size of an image, CxHxW as PyTorch has it; by default each network's documented one.
        dtype: of images and weights.
        remat: recompute activations for the gradient, in the networks that offer it.
        runs: processes that each measure once.
        torch: also torch.compile the PyTorch twin, where PyTorch and a C++ compiler are found.
        torch_limit: seconds after which a process of torch's is ended.
        format: of the table.
        out: file to write the table to, in place of standard output.
    """
    if not networks:
        raise ValueError("name at least one network")
    for name, value in {"batch-size": batch_size, "runs": runs, "torch-limit": torch_limit}.items():
        if value <= 0:
            raise ValueError(f"--{name} must be above 0, got {value}")
    given = None if input is None else summary.parse_input(input)
    jobs = []
    for name in networks:
        shape, offered = given or models.input_shape(name), hasattr(models.create(name), "remat")
        jobs.append(Job(name, batch_size, shape, dtype, remat and offered))
    limit = torch_limit if torch else None
    if torch and (lacking := _lacking()):
        log.say(f"torch.compile is not measured: no {lacking} here")
        limit = None
    load = os.getloadavg()[0]
    rows = [_measure(job, runs, limit) for job in jobs]
    machine = {
        "cpus": os.cpu_count(),
        "load average": [round(load, 2), round(os.getloadavg()[0], 2)],
        "python": platform.python_version(),
        "jax": jax.__version__,
    }
    if format == "json":
        text = json.dumps({"runs": runs, "machine": machine, "rows": rows}, indent=2)
    else:
        text = tables.text(_HEADINGS, [*map(_cells, rows)], markdown=format == "markdown")
        text += "\n\n" + ", ".join(f"{name} {value}" for name, value in machine.items())
    if out is None:
        print(text)
    else:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text + "\n", encoding="utf-8")


def jax_side(job: Job) -> dict[str, Any]:
    """Trace, lower and compile the train step in this process; return seconds and sizes."""
    jax.config.update("jax_enable_compilation_cache", bool(job.cache))
    if job.cache:
        jax.config.update("jax_compilation_cache_dir", job.cache)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_enable_x64", job.dtype == "float64")
    model = models.create(job.network, **({"remat": True} if job.remat else {}))
    tx = optim.create("sgd", 0.01, momentum=0.9)
    images = jax.ShapeDtypeStruct((job.batch_size, *job.input_shape), job.dtype)
    key = jax.eval_shape(lambda: jax.random.key(0))
    zeros = partial(jnp.zeros, images.shape, images.dtype)
    state = jax.eval_shape(lambda key: init_state(model, tx, key, zeros()), key)
    batch = {"images": images, "labels": jax.ShapeDtypeStruct((job.batch_size,), jnp.int32)}
    jax.devices()  # starting the backend is not part of what is measured

    before = time.process_time()
    clock = [time.perf_counter()]
    traced = make_train_step(model, tx).trace(state, batch, key)
    clock.append(time.perf_counter())
    lowered = traced.lower()
    clock.append(time.perf_counter())
    compiled = lowered.compile()
    clock.append(time.perf_counter())
    seconds = dict(zip(_STAGES, np.diff(clock).tolist(), strict=True))
    memory = compiled.memory_analysis()
    return seconds | {
        "cpu": time.process_time() - before,
        "instructions": len(re.findall(r"^ +(?:ROOT )?%\S+ = ", compiled.as_text(), re.MULTILINE)),
        "temporary_bytes": None if memory is None else memory.temp_size_in_bytes,
    }


def torch_side(job: Job) -> dict[str, Any]:
    """Compile the twin's training step with torch.compile in this process; return the seconds."""
    import torch

    from parity import reference
    from parity.sides import training_loss

    dtype = getattr(torch, job.dtype)
    module = reference.create(job.network).to(dtype).train()
    optimizer = torch.optim.SGD(module.parameters(), 1e-4, momentum=0.9)
    height, width, channels = job.input_shape
    images = torch.randn((job.batch_size, channels, height, width), dtype=dtype)
    labels = np.zeros(job.batch_size, np.int64)

    def step():
        optimizer.zero_grad()
        training_loss(module(images), labels).backward()
        optimizer.step()

    def seconds(function: Callable[[], None]) -> float:
        start = time.perf_counter()
        function()
        return time.perf_counter() - start

    step()  # makes the momentum buffers: with them the program is another
    torch.compile(lambda x: x + 1)(images)  # Inductor's own start: it looks for its compiler
    compiled = torch.compile(step)
    first = seconds(compiled)
    return {"seconds": first - min(seconds(compiled), seconds(compiled))}


_SIDES = {"jax": jax_side, "torch": torch_side}


def _measure(job: Job, runs: int, torch_limit: float | None) -> dict[str, Any]:
    """Return one row: the job, and what its runs measured."""
    found = []
    for i in range(runs):
        found.append(_in_fresh_process("jax", job))
        stages = ", ".join(f"{name} {found[-1][name]:.2f} s" for name in _STAGES)
        log.say(f"{job.network}, run {i + 1} of {runs}: {stages}")
    row = asdict(job) | {name: [one[name] for one in found] for name in (*_STAGES, "cpu")}
    row |= {name: found[0][name] for name in ("instructions", "temporary_bytes")}
    with tempfile.TemporaryDirectory() as cache:
        kept = replace(job, cache=cache)
        _in_fresh_process("jax", kept)
        later = [_in_fresh_process("jax", kept) for _ in range(runs)]
    row["cached"] = [sum(one[name] for name in _STAGES) for one in later]
    log.say(f"{job.network}: {statistics.median(row['cached']):.2f} s from the cache")
    if torch_limit is not None:
        row["torch.compile"] = _measure_torch(job, runs, torch_limit)
    return row


def _measure_torch(job: Job, runs: int, limit: float) -> list[float] | str:
    """Return torch.compile's seconds, or why there are none."""
    seconds = []
    for i in range(runs):
        try:
            seconds.append(_in_fresh_process("torch", job, limit)["seconds"])
        except subprocess.TimeoutExpired:
            return f"> {limit:g} s"
        except ValueError as error:  # such as a twin whose Linear wants another input size
            log.say(f"{job.network}, torch.compile: {error}")
            return "failed"
        log.say(f"{job.network}, run {i + 1} of {runs}: torch.compile {seconds[-1]:.2f} s")
    return seconds


def _in_fresh_process(side: str, job: Job, limit: float | None = None) -> dict[str, Any]:
    """Call a side in a new Python; raise ValueError with its error, TimeoutExpired over limit."""
    command = [sys.executable, __file__, _CHILD, side, json.dumps(asdict(job))]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as cache:
        child = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env=os.environ | {"TORCHINDUCTOR_CACHE_DIR": cache},
        )
        try:
            text, _ = child.communicate(timeout=limit)
        finally:
            if child.poll() is None:  # its compilers end with it
                os.killpg(child.pid, signal.SIGKILL)
                child.communicate()
    if child.returncode:
        raise ValueError(f"{job.network}: the measuring process ended with {child.returncode}")
    answer = json.loads(text.splitlines()[-1])
    if "error" in answer:
        raise ValueError(f"{job.network}: {answer['error']}")
    return answer


def _child(side: str, job: str) -> None:
    """Be the fresh process: measure one side and print what it found, or its error, as JSON."""
    try:
        answer = _SIDES[side](Job(**json.loads(job)))
    except (ValueError, TypeError, RuntimeError) as error:
        answer = {"error": str(error).partition("\n")[0]}
    print(json.dumps(answer))


def _lacking() -> str:
    """Return what torch.compile needs and does not find, '' if nothing."""
    compilers = [os.environ.get("CXX"), "g++", "clang++", "c++"]
    if not any(shutil.which(compiler) for compiler in compilers if compiler):
        return "C++ compiler"
    return "" if importlib.util.find_spec("torch") else "PyTorch"


_CHILD = "--measure-one"
_STAGES = ("trace", "lower", "compile")
_HEADINGS = ["network", "batch", "input", "dtype", *(f"{name}, s" for name in _STAGES)]
_HEADINGS += ["CPU, s", "cached, s", "instructions", "temporary, MiB", "torch.compile, s"]


def _cells(row: dict[str, Any]) -> list[str]:
    height, width, channels = row["input_shape"]
    memory, torch_seconds = row["temporary_bytes"], row.get("torch.compile", "-")
    return [
        row["network"] + " (remat)" * row["remat"],
        f"{row['batch_size']}",
        f"{channels}x{height}x{width}",
        row["dtype"],
        *(_spread(row[name]) for name in (*_STAGES, "cpu", "cached")),
        f"{row['instructions']:,}",
        "-" if memory is None else f"{memory / 2**20:,.0f}",
        torch_seconds if isinstance(torch_seconds, str) else _spread(torch_seconds),
    ]


def _spread(seconds: Sequence[float]) -> str:
    median = f"{statistics.median(seconds):.2f}"
    return median if len(seconds) == 1 else f"{median} ({min(seconds):.2f}-{max(seconds):.2f})"


if __name__ == "__main__":
    if sys.argv[1:2] == [_CHILD]:
        _child(*sys.argv[2:])
    else:
        run(main)
