"""Time one step of every optimizer over a network's parameters beside torch.optim's, on a CPU.

    python scripts/benchmark_optimizers.py
    python scripts/benchmark_optimizers.py sgd adam --rounds 30 --format json

A step is the update alone: gradients are given, and of the network only the parameters' shapes are
used. Ours is one jitted function that is given parameters and state to overwrite, as the train step
does it; PyTorch's is `optimizer.step()` in each of its forms, for-loop, foreach and, where it has
one, fused, of which the one with the smallest median counts. GB/s is ours, as if every array was
read once and what changes written once. How the two take turns, and what a ratio is:
`scripts/_turns.py`.

Before an optimizer is timed, both sides do the same 8 steps from the same numbers; where any
parameter ends further apart than 32 units of rounding there is an error instead of times.
"""

import inspect
import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import _turns
import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro

from jaxcnn import log, models, optim


@dataclass(frozen=True)
class Case:
    """An optimizer's class in torch.optim, and arguments that both sides take."""

    torch: str
    learning_rate: float = 1e-3
    arguments: dict[str, Any] = field(default_factory=dict)


CASES = {
    "adadelta": Case("Adadelta", 1.0),
    "adagrad": Case("Adagrad", 1e-2),
    "adam": Case("Adam"),
    "adamax": Case("Adamax"),
    "adamw": Case("AdamW", arguments={"weight_decay": 1e-2}),
    "asgd": Case("ASGD"),
    "nadam": Case("NAdam"),
    "radam": Case("RAdam"),
    "rmsprop": Case("RMSprop", arguments={"momentum": 0.9}),
    "rprop": Case("Rprop"),
    "sgd": Case("SGD", 1e-2, {"momentum": 0.9, "weight_decay": 5e-4}),
}
LEFT_OUT = {
    "lbfgs": "its time is that of the losses it evaluates",
    "sparse_adam": "PyTorch's takes sparse gradients only, ours dense ones",
}

# Powers of two: signs change, as Rprop's steps need, and RAdam rectifies from the sixth step on.
_FACTORS = (1.0, 0.5, -0.25, 0.5, 1.0, -0.5, 0.25, 1.0)
_OURS = "ours"
_BOUND = 32  # units of rounding, of the larger of 1 and the value
_HEADINGS = ["optimizer", "ours, ms", "GB/s", "PyTorch, ms", "PyTorch's form", "ratio"]


def main(
    names: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="NAME...")] = (),
    /,
    network: str = "resnet18",
    dtype: Literal["float32", "float64"] = "float32",
    rounds: int = 15,
    calls: int = 3,
    format: Literal["text", "json"] = "text",
    out: Path | None = None,
) -> None:
    """Time one step of every optimizer over a network's parameters beside torch.optim's, on a CPU.

    Args:
        names: of optimizers; by default all that have a case.
        network: whose parameters' shapes are taken (see train.py --list).
        dtype: of parameters, gradients and state.
        rounds: blocks that each side times.
        calls: steps a block; its time is the fastest step's.
        format: of the table.
        out: file to write the table to, in place of standard output.
    """
    _turns.check_positive(rounds=rounds, calls=calls)
    for name in names:
        if name in LEFT_OUT:
            raise ValueError(f"{name} is left out: {LEFT_OUT[name]}")
    _turns.check_known("optimizer", names, CASES)
    jax.config.update("jax_platforms", "cpu")
    shapes = _shapes(network)
    settings = {
        "network": network,
        "parameters": sum(map(math.prod, shapes)),
        "arrays": len(shapes),
        "dtype": dtype,
        "rounds": rounds,
        "calls": calls,
    }
    rows = []
    with _turns.machine() as facts:
        for name in names or CASES:
            rows.append(_measure(name, settings | {"shapes": shapes}))
            log.say(f"{name}: {rows[-1]['ratio'][1]:.2f} of PyTorch's time")
    table = []
    for row in rows:
        ours, theirs, ratio = _turns.cells(row)
        speed = f"{row['bytes'] / np.median(row['jax']) / 1e6:.1f}"
        table.append([row["optimizer"], ours, speed, theirs, row["torch_form"], ratio])
    _turns.publish(settings, facts, rows, _HEADINGS, table, format, out)


def jax_side(job: dict[str, Any]) -> dict[str, Callable[[], None]]:
    """Do the steps of the comparison, write the parameters, and return our timed step."""
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_enable_x64", job["dtype"] == "float64")
    tx = _create(job["name"])

    @partial(jax.jit, donate_argnums=(0, 1))
    def step(params, state, gradients):
        return optim.step(tx, gradients, state, params)

    values, gradients = (list(map(jnp.array, arrays)) for arrays in _numbers(job))
    now = values, jax.jit(tx.init)(values)
    for factor in _FACTORS:
        now = step(*now, [factor * gradient for gradient in gradients])
    _write(job, _OURS, now[0])

    def call():
        nonlocal now
        now = jax.block_until_ready(step(*now, gradients))

    return {_OURS: call}


def torch_side(job: dict[str, Any]) -> dict[str, Callable[[], None]]:
    """Do the same in each of PyTorch's forms."""
    import torch

    torch.set_default_dtype(getattr(torch, job["dtype"]))  # of the scalars in its states too
    case = CASES[job["name"]]
    optimizer_class = getattr(torch.optim, case.torch)
    forms = {"for-loop": {"foreach": False}, "foreach": {"foreach": True}}
    if "fused" in inspect.signature(optimizer_class).parameters:
        forms["fused"] = {"fused": True}
    timed = {}
    for form, options in forms.items():
        values, gradients = (list(map(torch.from_numpy, arrays)) for arrays in _numbers(job))
        parameters = [torch.nn.Parameter(value) for value in values]
        optimizer = optimizer_class(parameters, lr=case.learning_rate, **case.arguments, **options)
        for factor in _FACTORS:  # the last is 1: the gradients of the timed steps
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = factor * gradient
            optimizer.step()
        _write(job, form, [parameter.detach().numpy() for parameter in parameters])
        timed[form] = optimizer.step
    return timed


def _create(name: str) -> optax.GradientTransformation:
    case = CASES[name]
    return optim.create(name, case.learning_rate, **case.arguments)


def _shapes(network: str) -> list[tuple[int, ...]]:
    """Return the shapes of a network's parameters."""
    model = models.create(network)
    images = jax.ShapeDtypeStruct((1, *models.input_shape(network)), jnp.float32)
    key = jax.eval_shape(lambda: jax.random.key(0))
    variables = jax.eval_shape(partial(model.init, train=False), key, images)
    return [leaf.shape for leaf in jax.tree.leaves(variables["params"])]


def _numbers(job: dict[str, Any]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Draw the parameters and the gradients that both sides start from."""
    rng = np.random.default_rng(0)
    values, gradients = (
        [rng.standard_normal(shape, job["dtype"]) for shape in job["shapes"]] for _ in range(2)
    )
    return values, gradients


def _write(job: dict[str, Any], form: str, values: list[Any]) -> None:
    path = Path(job["folder"]) / f"{form}.npy"
    np.save(path, np.concatenate([np.ravel(value) for value in values]))


def _measure(name: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Return one row: milliseconds of every round, and quartiles of the paired ratios."""
    with tempfile.TemporaryDirectory() as folder:
        job = settings | {"name": name, "folder": folder}
        agree = partial(_agree, name, settings["dtype"], Path(folder))
        found = _turns.measure(__file__, job, settings["rounds"], agree)
    form, row = _turns.compare(found["jax"][_OURS], found["torch"])
    traffic = _traffic(name, settings["shapes"]) * np.dtype(settings["dtype"]).itemsize
    return {"optimizer": name, "torch_form": form, "bytes": traffic} | row


def _agree(name: str, dtype: str, folder: Path) -> None:
    """Raise a ValueError if a form of PyTorch's ended elsewhere than ours."""
    ours = np.load(folder / f"{_OURS}.npy")
    bound = _BOUND * float(np.finfo(dtype).eps)
    for path in sorted(path for path in folder.glob("*.npy") if path.stem != _OURS):
        theirs = np.load(path)
        error = float(np.max(np.abs(ours - theirs) / np.maximum(np.abs(theirs), 1)))
        if not error <= bound:
            raise ValueError(
                f"{name} is not timed: after {len(_FACTORS)} steps ours is {error:.1e} from "
                f"PyTorch's {path.stem}, more than {bound:.1e}"
            )


def _traffic(name: str, shapes: list[tuple[int, ...]]) -> int:
    """Count the values that a step must read and write at least."""
    params = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    state = jax.eval_shape(_create(name).init, params)
    count, kept = (sum(leaf.size for leaf in jax.tree.leaves(tree)) for tree in (params, state))
    return 3 * count + 2 * kept


if __name__ == "__main__":
    _turns.run(main, {"jax": jax_side, "torch": torch_side})
