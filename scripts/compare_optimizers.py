"""Picture every optimizer and every schedule on top of PyTorch's.

    python scripts/compare_optimizers.py --out results

Optimizers: a documented network and its PyTorch twin train side by side on real data in float64,
from the same weights over the same batches, once with each optimizer of `jaxcnn.optim`; loss
against step. sparse_adam is left out: PyTorch's takes sparse gradients, and a network of
convolutions and Linears has none. lbfgs takes fewer steps, over batches eight times as large: what
it learns of the curvature from noisy gradients amplifies rounding. Schedules: learning rate, and
cycled momentum, against step, as PyTorch's own schedulers set them in a loop.

Writes optimizers.png, optimizers.json (the losses of every step) and schedules.png.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import torch
import tyro
from _cli import run

from jaxcnn import data, log
from jaxcnn.files import write_atomically
from jaxcnn.plot_multiples import Panel, multiples
from jaxcnn.recipes import RECIPES, Settings, load_data
from parity import closure, harness, schedule_loops
from parity.schedule_loops import said
from parity.trajectory import recipe_pair

NAMES = ("PyTorch", "jaxcnn")

# Learning rates at which digits-cnn learns steadily: near the edge of stability a run amplifies
# rounding, PyTorch's as ours.
RATES: dict[str, tuple[float, dict[str, Any]]] = {
    "sgd": (0.005, {"momentum": 0.9, "weight_decay": 5e-4}),
    "asgd": (0.01, {}),
    "adagrad": (0.005, {}),
    "adadelta": (0.3, {}),
    "rmsprop": (2e-4, {}),
    "rprop": (1e-5, {"step_sizes": (1e-6, 1e-3)}),
    "adam": (5e-4, {}),
    "adamw": (5e-4, {"weight_decay": 0.05}),
    "adamax": (1e-3, {}),
    "nadam": (5e-4, {}),
    "radam": (1e-3, {}),
    "lbfgs": (1.0, {"max_iter": 1, "history_size": 5}),
}
LARGER = {"lbfgs": 8}  # batches

HEADING = (
    "Largest relative differences of the losses and, after the last step, of the parameters:\n"
    "those that count, and the idle ones, biases in front of a batch norm, which have no effect.\n"
    f"{'optimizer':10}{'arguments':58}{'last loss':>9}{'losses':>9}{'counting':>9}{'idle':>9}"
)


class Run(NamedTuple):
    """One optimizer's run on both sides.

    Attributes:
        name: the optimizer's.
        arguments: its learning rate and other arguments.
        losses: of every step, (PyTorch's, jaxcnn's).
        errors: parameter -> relative maximum difference after the last step.
        idle: parameters without effect: biases in front of a batch norm.
    """

    name: str
    arguments: dict[str, Any]
    losses: tuple[list[float], list[float]]
    errors: dict[str, float]
    idle: list[str]

    def worst_parameter(self, *, idle: bool) -> float:
        """Return the largest difference of the parameters that are idle, or of those that not."""
        return max((e for n, e in self.errors.items() if (n in self.idle) == idle), default=0.0)


def main(
    what: tuple[Literal["optimizers", "schedules"], ...] = ("optimizers", "schedules"),
    recipe: Literal[tuple(RECIPES)] = "digits-cnn",  # pyright: ignore
    data_source: Annotated[str | None, tyro.conf.arg(name="data")] = None,
    epochs: int = 3,
    batch_size: int = 16,
    examples: int | None = None,
    only: tuple[str, ...] = (),
    seed: int = 0,
    out: Path = Path("."),
    cache_dir: Path | None = None,
    tfds_dir: Path | None = None,
) -> None:
    """Picture every optimizer and every schedule on top of PyTorch's.

    Args:
        what: which pictures to make.
        recipe: whose network and data the optimizers train.
        data_source: data source by name or as KIND:PATH; by default the recipe's own.
        epochs: passes over the training set, with each optimizer.
        batch_size: examples a step; a last, smaller batch is left out.
        examples: train on so many examples only, drawn evenly per class.
        only: leave out all optimizers and schedules but these.
        seed: decides the initial weights and the order of the examples.
        out: the folder of the pictures.
        cache_dir: where decoded images are kept; by default the user's cache folder.
        tfds_dir: TFDS's data folder; by default $TFDS_DATA_DIR or ~/tensorflow_datasets.
    """
    known = [
        *(RATES if "optimizers" in what else ()),
        *(schedule_loops.NAMES if "schedules" in what else ()),
    ]
    if unknown := [name for name in only if name not in known]:
        raise ValueError(f"--only: no {', '.join(unknown)} in {' and '.join(what)}; known: {known}")
    for option, value in [("--epochs", epochs), ("--batch-size", batch_size)]:
        if value < 1:
            raise ValueError(f"{option} must be at least 1, got {value}")
    chosen = [name for name in known if not only or name in only]
    out.mkdir(parents=True, exist_ok=True)
    if names := [name for name in chosen if name in schedule_loops.NAMES]:
        draw_schedules(names, out / "schedules.png")
    if names := [name for name in chosen if name in RATES]:
        settings = RECIPES[recipe][1]
        settings = replace(
            settings,
            data=data_source or settings.data,
            batch_size=batch_size,
            examples=examples,
            drop_last=True,
        )
        dataset = load_data(settings, cache_dir=cache_dir, tfds_dir=tfds_dir)
        # So small a network leaves a second thread of PyTorch nothing but waiting for the first.
        torch.set_num_threads(1)
        runs = []
        log.say(HEADING, sys.stdout)
        for name in names:
            runs.append(train(name, settings, dataset, epochs, seed))
            log.say(_row(runs[-1]), sys.stdout)
        note = f"{settings.network}, {dataset.source}, batch {batch_size}, seed {seed}"
        draw_optimizers(runs, out, note)


def train(name: str, settings: Settings, dataset: data.Dataset, epochs: int, seed: int) -> Run:
    """Train the network and its twin side by side with one optimizer of `RATES`."""
    rate, arguments = RATES[name]
    settings = replace(settings, batch_size=LARGER.get(name, 1) * settings.batch_size)
    pair, steps = recipe_pair(settings, dataset, epochs=epochs, seed=seed)
    if name == "lbfgs":
        advance, snapshot = closure.training(pair, learning_rate=rate, **arguments)
    else:
        advance, snapshot = harness.training(
            pair, optimizer=name, learning_rate=rate, gamma=1.0, quick=False, **arguments
        )
    losses: tuple[list[float], list[float]] = ([], [])
    for epoch in range(epochs):
        with log.progress(
            steps, epoch=epoch + 1, epochs=epochs, batch_size=settings.batch_size
        ) as bar:
            for i in range(steps):
                got, want = map(float, advance(epoch * steps + i))
                losses[0].append(want)
                losses[1].append(got)
                bar.update(1, loss=got)
    parameters = [key for key, _ in pair.torch_module.named_parameters()]
    ours, torchs = ({key: side[key] for key in parameters} for side in snapshot())
    errors = harness.errors(ours, torchs)
    arguments = {"lr": rate, **arguments}
    if name in LARGER:
        arguments["batch"] = settings.batch_size
    return Run(name, arguments, losses, errors, _idle(pair.torch_module))


def draw_optimizers(runs: Sequence[Run], out: Path, note: str) -> None:
    """Write optimizers.png, a panel a run, and optimizers.json into a folder."""
    panels = [
        Panel(f"{r.name}\n{said(r.arguments)}\n{_apart(relative(*r.losses))}", r.losses)
        for r in runs
    ]
    multiples(panels, out / "optimizers.png", names=NAMES, ylabel="loss", title=note, log=True)
    found = {"run": note, "optimizers": [r._asdict() for r in runs]}
    write_atomically(out / "optimizers.json", f"{json.dumps(found)}\n".encode())
    log.say(f"written to {out / 'optimizers.png'} and {out / 'optimizers.json'}")


def draw_schedules(names: Sequence[str], path: Path) -> None:
    """Draw the named schedules' learning rates and cycled momenta, PyTorch's underneath."""
    panels = []
    for name in names:
        found = schedule_loops.loop(name)
        apart = _apart(found.difference)
        log.say(f"{name:31}{found.said:58}{apart}", sys.stdout)
        title = "\n".join(filter(None, [name, found.said, apart]))
        panels.append(Panel(title, found.rates, found.momenta))
    multiples(panels, path, names=NAMES, ylabel="learning rate", second="momentum")
    log.say(f"written to {path}")


def relative(want: Sequence[float], got: Sequence[float]) -> float:
    """Return the largest |got - want| / |want| of two series."""
    expected = np.asarray(want)
    return float(np.max(np.abs(np.asarray(got) - expected) / np.abs(expected)))


def _idle(module: torch.nn.Module) -> list[str]:
    """Name the biases in front of a batch norm, whose gradient is zero but for rounding.

    The norm takes them out again. Optimizers that divide by the gradient's size, or take its sign,
    walk them by rounding alone, which is not the same on both sides.
    """
    layers = [(n, m) for n, m in module.named_modules() if not any(True for _ in m.children())]
    return [
        f"{name}.bias"
        for (name, layer), (_, after) in pairwise(layers)
        if isinstance(after, torch.nn.BatchNorm2d) and getattr(layer, "bias", None) is not None
    ]


def _apart(difference: float) -> str:
    return f"{difference:.1e} apart" if difference else "equal"


def _row(run: Run) -> str:
    return (
        f"{run.name:10}{said(run.arguments):58}{run.losses[1][-1]:9.3g}"
        f"{relative(*run.losses):9.1e}{run.worst_parameter(idle=False):9.1e}"
        f"{run.worst_parameter(idle=True):9.1e}"
    )


if __name__ == "__main__":
    run(main)
