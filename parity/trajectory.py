"""A training run in lockstep: train step, optimizer and schedule against `torch.optim`."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

from jaxcnn import data, models, optim, schedules, train, weights
from jaxcnn.optimization import with_cycled_momentum
from jaxcnn.settings import Settings
from parity import reference
from parity.compilation import precision, quick_compilation
from parity.pair import DTYPES, Pair, arrays, make_pair
from parity.schedule_loops import torch_scheduler
from parity.sides import Arrays, Sides, to_nchw, training_loss

LOSS, MOMENTUM = "loss", "momentum of "

OPTIMIZERS: dict[str, type[torch.optim.Optimizer]] = {
    "adadelta": torch.optim.Adadelta,
    "adagrad": torch.optim.Adagrad,
    "adam": torch.optim.Adam,
    "adamax": torch.optim.Adamax,
    "adamw": torch.optim.AdamW,
    "asgd": torch.optim.ASGD,
    "nadam": torch.optim.NAdam,
    "radam": torch.optim.RAdam,
    "rmsprop": torch.optim.RMSprop,
    "rprop": torch.optim.Rprop,
    "sgd": torch.optim.SGD,
}
"""torch's optimizers of dense gradients, which are all a network here has, by our names."""

_SGD = {"momentum": 0.9, "weight_decay": 5e-4}


def trajectory(pair: Pair, *, steps: int = 20, **run) -> Sides:
    """Compare a training run: every step's loss, and everything a step changes at the end.

    Args:
        pair: the two sides.
        steps: optimizer steps, each on the next batch.
        **run: the optimizer's and schedule's arguments, see `training`.

    Returns:
        Both sides: `loss` (steps,), statistics, the optimizer's arrays and parameters after all
        steps.
    """
    advance, snapshot = training(pair, **run)
    got, want = zip(*(advance(i) for i in range(steps)), strict=True)
    ends = snapshot()
    return {LOSS: np.array(got), **ends[0]}, {LOSS: np.array(want), **ends[1]}


def training(
    pair: Pair,
    *,
    optimizer: str = "sgd",
    learning_rate: float = 2e-4,
    gamma: float = 0.95,
    schedule: tuple[str, Mapping[str, Any]] | None = None,
    steps_per_epoch: int = 1,
    foreach: bool = False,
    quick: bool = True,
    **arguments,
) -> tuple[Callable[[int], tuple[np.ndarray, np.ndarray]], Callable[[], Sides]]:
    """Start one training run on both sides, in lockstep.

    The Flax side is the real train step, optimizer and schedule of `jaxcnn`; the torch side is the
    optimizer of `torch.optim` and its scheduler, stepped once in `steps_per_epoch` steps. Both take
    the same batches in the same order. torch keeps the scalars of an optimizer's state (ASGD's eta)
    in its default dtype, which is the pair's while the optimizer steps. The default learning rate
    keeps the loss bounded and rounding small: with ten times as much, ten steps of
    `googlenet_cifar` on batches of four amplify it from 5e-15 to 4e-6, and from there its errors
    say nothing.

    Args:
        pair: the two sides.
        optimizer: a key of `OPTIMIZERS`; sparse_adam is none, for torch's takes sparse gradients
            only.
        learning_rate: the optimizer's, >= 0.
        gamma: of the exponential schedule, > 0.
        schedule: another schedule in its place, a name of `schedules.SCHEDULES` and its arguments.
            A cycled momentum takes the place of the optimizer's momentum or first beta.
        steps_per_epoch: steps between two `scheduler.step()`.
        foreach: whether torch steps all parameters at once or one by one.
        quick: compile quickly, which suits tens of steps; False makes a program of hundreds of
            steps that takes longer to compile and less time a step.
        **arguments: the optimizer's own, by torch's names; sgd's momentum is 0.9 and its
            weight_decay 5e-4 where not given.

    Returns:
        `advance(i)` takes step i (0, 1, ... in order) and returns both sides' losses; `snapshot()`
        returns what the steps so far have changed, in the order in which a step changes it:
        statistics, the optimizer's arrays ("momentum of fc.weight", "exp_avg of fc.weight"),
        parameters.

    Raises:
        ValueError: the output is not (B, K), so that no cross-entropy can train it; an unknown
            optimizer or schedule, or an argument that it does not take.
    """
    if not pair.logits:
        raise ValueError(f"{pair.name}: training needs logits (B, K)")
    if optimizer not in OPTIMIZERS:
        known = ", ".join(OPTIMIZERS)
        raise ValueError(f"training: optimizer must be one of {known}, got {optimizer!r}")
    if optimizer == "sgd":
        arguments = _SGD | arguments
    name, options = schedule or ("exponential", {"gamma": gamma})
    with precision(pair.dtype):
        rate = schedules.create(name, learning_rate, steps_per_epoch=steps_per_epoch, **options)
        if isinstance(rate, schedules.Plateau):
            raise ValueError(f"training: schedule must follow the step, got {name!r}")
        ours = arguments
        if isinstance(rate, schedules.Cycle) and rate.momentum is not None:
            ours = with_cycled_momentum(optimizer, arguments, rate.momentum)
        tx = optim.create(optimizer, rate, **ours)
        train_step = train.make_train_step(pair, tx)
        # The step donates its state; the pair keeps its own arrays.
        state = jax.tree.map(jnp.copy, train.state_from(pair.variables, tx))
    module = pair.twin(train=True)
    with _default_dtype(pair):
        torchs = OPTIMIZERS[optimizer](
            module.parameters(), lr=learning_rate, foreach=foreach, **arguments
        )
        scheduler = torch_scheduler(name, torchs, **options)
    compiled_steps = {}  # an epoch's last batch may be a smaller one

    def advance(i: int) -> tuple[np.ndarray, np.ndarray]:
        nonlocal state
        images, labels = pair.batch(i)
        pair.share_masks(module, i)
        torchs.zero_grad()
        loss = training_loss(module(torch.from_numpy(to_nchw(images))), labels)
        loss.backward()
        with _default_dtype(pair):
            torchs.step()
            if (i + 1) % steps_per_epoch == 0:
                scheduler.step()
        with precision(pair.dtype):
            batch = {"images": jnp.asarray(images), "labels": jnp.asarray(labels)}
            values = state, batch, pair.key()
            if len(labels) not in compiled_steps:
                lowered = train_step.lower(*values)
                compiler_options = quick_compilation() if quick else None
                compiled_steps[len(labels)] = lowered.compile(compiler_options=compiler_options)
            state, metrics = compiled_steps[len(labels)](*values)
            return np.asarray(metrics["loss"]), loss.detach().numpy()

    def snapshot() -> Sides:
        parameters = dict(module.named_parameters())
        groups = [{"params": list(parameters), "lr": learning_rate}]
        with precision(pair.dtype):
            got = weights.to_torch({"batch_stats": state.batch_stats})
            kept = optim.to_torch(optimizer, state.opt_state, groups)["state"]
            got.update(_slots(parameters, kept))
            got.update(weights.to_torch({"params": state.params}))
        want = arrays(dict(module.named_buffers()), pair)
        kept = {
            index: {
                slot: value.numpy() for slot, value in torchs.state[p].items() if value is not None
            }
            for index, p in enumerate(parameters.values())
        }
        want.update(_slots(parameters, kept))
        want.update(arrays(parameters, pair))
        return got, want

    return advance, snapshot


def recipe_pair(
    settings: Settings, dataset: data.Dataset, *, epochs: int = 1, dtype: str = "float64", seed: int
) -> tuple[Pair, int]:
    """Build the pair of a recipe's network, as the seed draws it, on the recipe's training batches.

    Args:
        settings: the network, the batch size and how images are normalised.
        dataset: the data.
        epochs: passes over the training set, each in an order of its own.
        dtype: "float64" or "float32".
        seed: of the twin's initial weights and the order of the examples.

    Returns:
        The pair, whose batches must be taken in order, and how many there are an epoch.
    """
    torch.manual_seed(seed)
    twin = reference.create(settings.network, len(dataset.class_names))
    shape = models.input_shape(settings.network)
    preprocess = jax.jit(data.make_preprocess(shape, normalization=settings.normalization))
    batches = (
        batch
        for epoch in range(epochs)
        for batch in data.train_batches(
            dataset.train, settings.batch_size, seed=seed, epoch=epoch, drop_last=settings.drop_last
        )
    )

    @lru_cache(maxsize=1)  # a step may ask twice for its batch; the steps come in order
    def batch(i: int) -> tuple[np.ndarray, np.ndarray]:
        taken = next(batches)
        # PyTorch's loader does not fill the last batch up.
        counts = np.asarray(taken.get("mask", True)) & np.ones_like(taken["labels"], bool)
        images = np.asarray(preprocess(taken["images"])).astype(dtype)
        return images[counts], np.asarray(taken["labels"])[counts]

    pair = make_pair(
        twin,
        models.create(settings.network, num_classes=len(dataset.class_names)),
        shape,
        name=settings.network,
        batch_size=settings.batch_size,
        dtype=dtype,
        batches=batch,
        randomised=False,
    )
    return pair, data.num_batches(len(dataset.train), settings.batch_size, settings.drop_last)


def _slots(names: Iterable[str], states: Mapping[int, Mapping[str, Any]]) -> Arrays:
    """Return copies of an optimizer's arrays, less the count of its steps."""
    return {
        (MOMENTUM if slot == "momentum_buffer" else f"{slot} of ") + name: np.array(value)
        for index, name in enumerate(names)
        for slot, value in states.get(index, {}).items()
        if slot != "step"
    }


@contextmanager
def _default_dtype(pair: Pair) -> Iterator[None]:
    """Make the pair's dtype torch's default one."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(DTYPES[pair.dtype])
    try:
        yield
    finally:
        torch.set_default_dtype(before)
