"""Time networks beside their PyTorch twins: the same weights, batch and optimizer on both sides.

    python scripts/benchmark.py
    python scripts/benchmark.py resnet50 densenet121 --input 3x64x64 --batch 16 --chart chart.png
    python scripts/benchmark.py cnn_mnist --what forward --format json --out result.json
    python scripts/benchmark.py --device gpu --dtype bfloat16 --what train epoch --batch 128

`train` is one step of cross-entropy and SGD with momentum and weight decay (ours with its
metrics), `forward` the network in evaluation mode, `epoch` --epoch-steps steps over shuffled data
that lie on the device, whose losses are read at the end: of ours one call of one program; `compile`
the first call of a train step, once, beside torch.compile's (`compile_time.py` says more). PyTorch
runs eagerly in both of its memory formats, by torch.compile and, on a GPU, as a CUDA graph of the
whole step, with its fused optimizer; its fastest form counts. How the sides take turns, and what a
ratio is: `scripts/_turns.py`.

Nothing is timed before both sides agree: on logits of evaluation mode, and on what a train step
changes in parameters and batch statistics, in float64 up to rounding and in the timed precision
(what torch.compile and CUDA graphs make in that one only). `first` is the first call's time,
on our side that of tracing and compiling; `peak` the largest memory beyond what a process has
before it begins with the network; `share` what a pass achieves of the machine's matrix product,
measured in the same run, where a train step counts as three forward passes.
"""

import importlib.util
import statistics
import tempfile
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import _benchmark_jax
import _benchmark_torch
import _turns
import numpy as np
import tyro
from _benchmark_job import LOGITS, PEAK_SIZE, WEIGHTS

from jaxcnn import canvas, log, models, summary

DEFAULT = ("cnn_mnist", "alexnet_cifar", "vgg_cifar", "resnet_cifar")
INPUTS = {"resnet18": (64, 64, 3), "resnet50": (64, 64, 3), "densenet121": (64, 64, 3)}
"""Images of another size than a network's own, small enough for a CPU."""

_OURS, _COMPILED = "jax", "torch:compile"
# Largest distances of the two sides, by the length of what is compared. Batch norms of few values
# enlarge rounding.
_BOUNDS = {"float64": 1e-9, "float32": 1e-2, "tf32": 0.1, "bfloat16": 0.3}
_HEADINGS = ["network", "batch", "input", "pass", "ours, ms", "PyTorch, ms", "form", "ratio"]
_HEADINGS += ["images/s", "share", "PyTorch's", "first, s", "PyTorch's", "peak, MiB", "PyTorch's"]


def main(
    networks: Annotated[
        tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="NETWORK...")
    ] = (),
    /,
    device: Literal["cpu", "gpu"] = "cpu",
    dtype: Literal["float32", "tf32", "bfloat16", "float64"] = "float32",
    batch: int = 16,
    input: str | None = None,
    what: tuple[Literal["forward", "train", "epoch", "compile"], ...] = ("forward", "train"),
    forms: tuple[Literal["nchw", "channels_last", "compile", "cuda_graphs"], ...] = (),
    epoch_steps: int = 48,
    rounds: int = 9,
    calls: int = 3,
    format: Literal["text", "markdown", "json"] = "text",
    out: Path | None = None,
    chart: Path | None = None,
) -> None:
    """Time networks beside their PyTorch twins.

    Args:
        networks: see train.py --list; by default the four of the small tutorials.
        device: where both sides run.
        dtype: the precision that both sides compute in, see `jaxcnn.precision`.
        batch: images a step.
        input: CxHxW of an image, by default the network's own (64x64 for those of ImageNet).
        what: passes to time.
        forms: of PyTorch's side; by default all that the device has.
        epoch_steps: steps of an epoch.
        rounds: blocks that each side times.
        calls: calls a block; its time is the fastest call's.
        format: of the table.
        out: file to write the table to, in place of standard output.
        chart: PNG file for a bar chart of the ratios.
    """
    _turns.check_positive(batch=batch, rounds=rounds, calls=calls, epoch_steps=epoch_steps)
    if not what:
        raise ValueError("--what must name at least one")
    if device == "cpu" and "cuda_graphs" in forms:
        raise ValueError("--forms cuda_graphs: expected --device gpu with it")
    if "compile" in what and forms and "compile" not in forms:
        raise ValueError(f"--what compile: expected compile among --forms, got {' '.join(forms)}")
    forms = forms or (_benchmark_torch.FORMS if device == "gpu" else _benchmark_torch.FORMS[:3])
    names = networks or DEFAULT
    _turns.check_known("network", names, models.names())
    if chart and not canvas.available():
        raise ValueError("--chart needs Matplotlib: pip install 'jaxcnn[plot]'")
    if importlib.util.find_spec("torch") is None:
        raise ValueError("there is no PyTorch to compare with: pip install 'jaxcnn[parity]'")
    settings = {"device": device, "dtype": dtype, "rounds": rounds, "calls": calls}
    rows = []
    with _turns.machine() as facts:
        for name in names:
            shape = summary.parse_input(input) if input else _input(name)
            job = settings | {"network": name, "batch_size": batch, "input_shape": shape}
            job |= {"what": [n for n in what if n != "compile"], "compile": "compile" in what}
            job |= {"precision": dtype, "epoch_steps": epoch_steps}
            job |= {"device_torch": "cuda" if device == "gpu" else "cpu"}
            found = _measure(job, [f"torch:{form}" for form in forms])
            rows += found
            told = ", ".join(f"{row['pass']} {row['ratio'][1]:.2f}" for row in found)
            log.say(f"{name}: {told} of PyTorch's time")
    if chart:
        _draw(rows, chart)
    table = [_cells(row) for row in rows]
    _turns.publish(settings, facts, rows, _HEADINGS, table, format, out)


def _input(name: str) -> tuple[int, int, int]:
    return INPUTS.get(name) or models.input_shape(name)


def _measure(job: dict[str, Any], theirs: list[str]) -> list[dict[str, Any]]:
    """Return a row a pass."""
    network = models.create(job["network"])
    first = dict.fromkeys([*job["what"], *(["train"] if job["compile"] else [])])
    job = job | {"num_classes": network.num_classes, "first": list(first)}
    macs = sum(row.macs for row in summary.rows(network, tuple(job["input_shape"])))
    facts: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        _draw_weights(job, Path(folder))
        times = _turns.measure(
            __file__,
            job | {"folder": folder},
            job["rounds"],
            partial(_agree, job, Path(folder)),
            sides=[_OURS, *theirs],
            facts=facts,
        )
    operations = 2 * macs * job["batch_size"]
    product = min(min(found["peak"]) for found in times.values())
    fastest = 2 * PEAK_SIZE**3 / product  # operations a millisecond
    about = {
        "network": job["network"],
        "batch_size": job["batch_size"],
        "input_shape": job["input_shape"],
        "matrix_product_gflops": fastest / 1e6,
    }
    rows = []
    for name in job["what"]:
        form, row = _turns.compare(times[_OURS][name], {side: times[side][name] for side in theirs})
        count = operations * {"forward": 1, "train": 3, "epoch": 3 * job["epoch_steps"]}[name]
        share = {
            side: count / statistics.median(row[key]) / fastest
            for side, key in ((_OURS, "jax"), (form, "torch"))
        }
        rows.append(
            about
            | {
                "pass": name,
                "images": job["batch_size"] * (job["epoch_steps"] if name == "epoch" else 1),
                "torch_form": form.partition(":")[2],
                "share": [share[_OURS], share[form]],
                "first_s": [facts[side]["first_s"][name] for side in (_OURS, form)],
                "peak_bytes": [facts[side]["peak_bytes"] for side in (_OURS, form)],
            }
            | {f"{side} {name}, ms": times[side][name] for side in theirs}
            | row
        )
    if job["compile"]:
        rows.append(about | _first_call(facts[_OURS], facts[_COMPILED]))
    return rows


def _first_call(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
    """Return the row of a train step's first call, of both sides' facts."""
    first = [side["first_s"]["train"] for side in (ours, theirs)]
    _, row = _turns.compare([1e3 * first[0]], {_COMPILED: [1e3 * first[1]]})
    return row | {
        "pass": "compile",
        "torch_form": "compile",
        "first_s": first,
        "peak_bytes": [side["peak_bytes"] for side in (ours, theirs)],
    }


def _draw_weights(job: dict[str, Any], folder: Path) -> None:
    """Save the weights that both sides start with, as PyTorch draws them."""
    import torch

    from parity import reference

    torch.manual_seed(0)
    module = reference.create(job["network"], job["num_classes"])
    np.savez(folder / WEIGHTS, **{n: value.numpy() for n, value in module.state_dict().items()})


def _agree(job: dict[str, Any], folder: Path) -> None:
    """Raise a ValueError if one of PyTorch's forms computed something else than our side."""
    start = np.load(folder / WEIGHTS)
    for dtype in dict.fromkeys(("float64", job["precision"])):
        ours = np.load(folder / f"{_OURS} {dtype}.npz")
        for path in sorted(folder.glob(f"torch * {dtype}.npz")):
            theirs = np.load(path)
            if missing := set(ours.files) ^ set(theirs.files):
                raise ValueError(f"{job['network']}: only one side has {sorted(missing)[0]}")
            learned = [name for name in ours.files if name != LOGITS]
            before = [start[name] for name in learned]
            found = {
                "the logits": _distance([ours[LOGITS]], [theirs[LOGITS]], [0.0]),
                "what a step changes": _distance(
                    [ours[name] for name in learned], [theirs[name] for name in learned], before
                ),
            }
            for what, error in found.items():
                if not error <= _BOUNDS[dtype]:
                    raise ValueError(
                        f"{job['network']} is not timed: {what} in {path.stem} differs from ours "
                        f"by {error:.1e} of its length, more than {_BOUNDS[dtype]:.0e}"
                    )


def _distance(ours: list[Any], theirs: list[Any], before: list[Any]) -> float:
    """Return the distance of two lists of arrays by that of the second from `before`."""
    apart, changed = (
        sum(float(np.sum(np.square(a - b, dtype=np.float64))) for a, b in zip(x, y, strict=True))
        for x, y in ((ours, theirs), (theirs, before))
    )
    return float(np.sqrt(apart / changed)) if changed else float(apart > 0)


def _cells(row: dict[str, Any]) -> list[str]:
    ours, theirs, ratio = _turns.cells(row)
    height, width, channels = row["input_shape"]
    timed = row["pass"] != "compile"
    speed = f"{1e3 * row['images'] / statistics.median(row['jax']):,.0f}" if timed else "-"
    share = [f"{share:.0%}" for share in row["share"]] if timed else ["-", "-"]
    return [
        row["network"],
        str(row["batch_size"]),
        f"{channels}x{height}x{width}",
        row["pass"],
        ours,
        theirs,
        row["torch_form"],
        ratio,
        speed,
        *share,
        *(f"{seconds:.1f}" for seconds in row["first_s"]),
        *(f"{size / 2**20:,.0f}" for size in row["peak_bytes"]),
    ]


def _draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw the ratios as bars, a group a network and a bar a pass, with their quartiles."""
    names = list(dict.fromkeys(row["network"] for row in rows))
    passes = list(dict.fromkeys(row["pass"] for row in rows))
    figure = canvas.make_figure(7, 1.2 + 0.3 * len(rows), "Time by PyTorch's in its fastest form")
    axes = figure.add_subplot()
    for row in rows:
        index = passes.index(row["pass"])
        at = names.index(row["network"]) + 0.8 * (index - (len(passes) - 1) / 2) / len(passes)
        low, middle, high = row["ratio"]
        axes.barh(at, middle, 0.7 / len(passes), color=canvas.colour(index))
        axes.plot([low, high], [at, at], color=canvas.GRAY, lw=1.5)
        axes.text(high, at, f" {middle:.2f}", va="center", fontsize=8)
    axes.axvline(1, color=canvas.GRAY, lw=1, ls="--")
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlabel("ratio; below 1 we are faster, lines are quartiles")
    axes.spines[["top", "right"]].set_visible(False)
    canvas.legend(figure, passes)
    canvas.save(figure, path)


if __name__ == "__main__":
    sides = {"jax": _benchmark_jax.side, "torch": _benchmark_torch.side}
    _turns.run(main, sides)
