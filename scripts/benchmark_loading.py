"""Time the loading of images beside what a train step takes of them, and beside PyTorch's.

    python scripts/benchmark_loading.py
    python scripts/benchmark_loading.py --data folder:PETS --network resnet18 --size 224 --workers 8
    python scripts/benchmark_loading.py --data digits --network cnn_mnist --format json --out a.json

Of every source: `loading` is batches decoded, resized and put on the device, images/s; `step` the
train step on a batch that is there, its appetite; `loop` the training loop on batches as they come.
Loading by step above 1 is more than the step takes; where both share a processor, loop by step says
what is left of the speed, and `waited` for which part of the loop's time the device had nothing to
do for want of images. `ready` are the seconds until the source can be read for the first time:
decoded into memory, or listed and unpacked. Image files are read from memory, streamed by threads
and streamed by worker processes; beside these PyTorch's DataLoader takes turns, with ImageFolder's
way to read and as many workers (see `_turns.py`), once both have read the same pixels.

Without --data the embedded digits and, where JAXCNN_DATA names a folder of real data, its MNIST,
CIFAR-10 as Python batches, resized to 96x96 in the step, and its photographs of cats and dogs.
"""

import importlib.util
import os
import pickle
import statistics
import tempfile
from pathlib import Path
from typing import Any, Literal, NamedTuple

import _loading_sides
import _turns
import numpy as np

from jaxcnn import data, log, models
from jaxcnn.data.readers import Readers

_HEADINGS = ["source", "network", "input", "read by", "ready, s", "loading, images/s", "step"]
_HEADINGS += ["loading/step", "loop/step", "waited", "PyTorch, images/s", "time by PyTorch's"]


class Case(NamedTuple):
    """What is loaded, for which network; `size` None is the network's own."""

    source: str
    network: str
    size: int | None = None


def main(
    data: tuple[str, ...] = (),
    network: str = "resnet18",
    size: int | None = None,
    batch: int = 32,
    workers: int | None = None,
    images: int = 1024,
    rounds: int = 5,
    torch: bool = True,
    format: Literal["text", "markdown", "json"] = "text",
    out: Path | None = None,
    tfds_dir: Path | None = None,
) -> None:
    """Time the loading of images beside what a train step takes of them, and beside PyTorch's.

    Args:
        data: sources by name or as KIND:PATH, see train.py --list.
        network: that takes them.
        size: pixels a side that it takes, by default the network's own.
        batch: images a step.
        workers: processes, ours and PyTorch's; by default one a core.
        images: that a block loads, at most an epoch's.
        rounds: blocks that each side times.
        torch: time PyTorch's DataLoader too.
        format: of the table.
        out: file to write the table to, in place of standard output.
        tfds_dir: TFDS's data folder; by default $TFDS_DATA_DIR or ~/tensorflow_datasets.
    """
    given = {"batch": batch, "images": images, "rounds": rounds}
    _turns.check_positive(
        **given, **{k: v for k, v in {"workers": workers, "size": size}.items() if v is not None}
    )
    _turns.check_known("network", [network], models.names())
    if torch and importlib.util.find_spec("torch") is None:
        raise ValueError("there is no PyTorch to compare with: pip install 'jaxcnn[parity]'")
    workers = workers or Readers().parallel
    settings = {"batch": batch, "workers": workers, "images": images, "rounds": rounds}
    rows = []
    with tempfile.TemporaryDirectory() as folder, _turns.machine() as facts:
        cases = [Case(source, network, size) for source in data]
        for case in cases or _real(Path(folder)):
            job = case._asdict() | {"batch": batch, "images": images, "calls": 1, "folder": folder}
            job |= {"tfds_dir": None if tfds_dir is None else str(tfds_dir)}
            for how, options in _ways(case.source, workers):
                beside = torch and options["workers"] > 0
                row = _measure(job | options, rounds, beside) | {"read by": how}
                rows.append(row)
                log.say(f"{case.source} by {how}: loading {row['loading/step'][1]:.2f} of the step")
    _turns.publish(settings, facts, rows, _HEADINGS, [*map(_cells, rows)], format, out)


def _real(folder: Path) -> list[Case]:
    """Return the cases where none is named, those for which there are data."""
    cases = [Case("digits", "cnn_mnist")]
    root = Path(os.environ.get("JAXCNN_DATA", "no such folder"))
    if (root / "mnist").is_dir():
        cases.append(Case(f"idx:{root / 'mnist'}", "cnn_mnist"))
    if (archive := root / "cifar10-jpeg.tar.xz").is_file():
        cases.append(Case(f"cifar:{_as_batches(archive, folder)}", "resnet_cifar"))
    if (archive := root / "cats-dogs-160.tar").is_file():
        source = f"folder:{archive}"
        cases += [Case(source, "squeezenet1_1", 144), Case(source, "resnet18", 224)]
    return cases


def _as_batches(archive: Path, folder: Path) -> Path:
    """Write a folder of 32x32 images as CIFAR-10's Python batches; return their folder."""
    found = data.load(f"folder:{archive}", (32, 32, 3), cache_dir=folder / "unpacked", stream=False)
    target = folder / "batches"
    target.mkdir()
    parts = zip(*(np.array_split(values, 5) for values in _pixels(found.train)), strict=True)
    contents = {f"data_batch_{i}": part for i, part in enumerate(parts, start=1)}
    for name, (pixels, labels) in (contents | {"test_batch": _pixels(found.test)}).items():
        content = {"data": pixels, "labels": labels.tolist()}
        (target / name).write_bytes(pickle.dumps(content))
    meta = {"label_names": list(found.class_names)}
    (target / "batches.meta").write_bytes(pickle.dumps(meta))
    return target


def _pixels(split: Any) -> tuple[np.ndarray, np.ndarray]:
    images = np.asarray(split.images).transpose(0, 3, 1, 2)
    return images.reshape(len(images), -1), np.asarray(split.labels)


def _ways(source: str, workers: int) -> list[tuple[str, dict[str, Any]]]:
    """Return how a source can be read, with the options of each way."""
    ways = [("memory", {"stream": None, "workers": 0})]
    if source.partition(":")[0] not in ("digits", "idx", "cifar"):
        ways[0][1]["stream"] = False
        ways.append(("threads", {"stream": True, "workers": 0}))
        ways.append((f"{workers} processes", {"stream": True, "workers": workers}))
    return ways


def _measure(job: dict[str, Any], rounds: int, beside: bool) -> dict[str, Any]:
    """Return a row."""
    facts: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as alike:
        times = _turns.measure(
            __file__,
            job | {"alike": alike},
            rounds,
            lambda: _agree(Path(alike)),
            sides=_turns.ORDER if beside else _turns.ORDER[:1],
            facts=facts,
        )
    ours, count = times["jax"], facts["jax"]["count"]
    row = {name: job[name] for name in ("source", "network", "batch", "stream", "workers")}
    row |= {"count": count, "input_shape": facts["jax"]["input_shape"]}
    row |= {"ready_s": facts["jax"]["ready_s"], "waited": facts["jax"]["waited"], "ours, ms": ours}
    for part, whole in (("loading", "step"), ("loop", "step")):
        shares = [b / a for a, b in zip(ours[part], ours[whole], strict=True)]
        row[f"{part}/{whole}"] = np.percentile(shares, [25, 50, 75]).tolist()
    if beside:
        compared = _turns.compare(ours["loading"], {"torch": times["torch"]["loading"]})[1]
        row |= {"torch": compared, "torch_reads_by": facts["torch"]["reads_by"]}
    return row


def _agree(folder: Path) -> None:
    """Raise a ValueError where both sides are there and have read other pixels."""
    found = [np.load(path) for path in sorted(folder.glob("*.npy"))]
    for other in found[1:]:
        if not np.array_equal(found[0], other):
            raise ValueError("not timed: the two sides read other pixels from the same files")


def _cells(row: dict[str, Any]) -> list[str]:
    def speed(milliseconds: list[float]) -> str:
        return f"{1e3 * row['count'] / statistics.median(milliseconds):,.0f}"

    def spread(quartiles: list[float]) -> str:
        low, median, high = quartiles
        return f"{median:.2f} ({low:.2f}-{high:.2f})"

    kind, colon, place = row["source"].partition(":")
    height, width, channels = row["input_shape"]
    ours, theirs = row["ours, ms"], row.get("torch")
    return [
        f"{kind}{colon}{Path(place).name}",
        row["network"],
        f"{channels}x{height}x{width}",
        row["read by"],
        f"{row['ready_s']:.1f}",
        speed(ours["loading"]),
        speed(ours["step"]),
        spread(row["loading/step"]),
        spread(row["loop/step"]),
        f"{statistics.median(row['waited']):.0%}",
        speed(theirs["torch"]) if theirs else "-",
        spread(theirs["ratio"]) if theirs else "-",
    ]


if __name__ == "__main__":
    _turns.run(main, {"jax": _loading_sides.ours, "torch": _loading_sides.theirs})
