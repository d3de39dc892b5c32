"""A training run in lockstep: train step, optimizer and schedule against `torch.optim`."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch

from jaxcnn import optim, schedules, train, weights
from parity.compilation import precision, quick_compilation
from parity.pair import Pair, arrays
from parity.sides import Sides, to_nchw, training_loss

LOSS, MOMENTUM = "loss", "momentum of "


def trajectory(pair: Pair, *, steps: int = 20, **run) -> Sides:
    """Compare a training run: every step's loss, and everything a step changes at the end.

    Args:
        pair: the two sides.
        steps: optimizer steps, each on the next batch.
        **run: the optimizer's and schedule's arguments, see `training`.

    Returns:
        Both sides: `loss` (steps,), statistics, momentum buffers and parameters after all steps.
    """
    advance, snapshot = training(pair, **run)
    got, want = zip(*(advance(i) for i in range(steps)), strict=True)
    ends = snapshot()
    return {LOSS: np.array(got), **ends[0]}, {LOSS: np.array(want), **ends[1]}


def training(
    pair: Pair,
    *,
    learning_rate: float = 2e-4,
    gamma: float = 0.95,
    steps_per_epoch: int = 1,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    nesterov: bool = False,
) -> tuple[Callable[[int], tuple[np.ndarray, np.ndarray]], Callable[[], Sides]]:
    """Start one training run on both sides, in lockstep.

    The Flax side is the real train step, optimizer and schedule of `jaxcnn`; the torch side is
    `torch.optim.SGD` under `ExponentialLR`, stepped once in `steps_per_epoch` steps. Both take the
    same batches in the same order. The default learning rate keeps the loss bounded and rounding
    small: with ten times as much, ten steps of `googlenet_cifar` on batches of four amplify it from
    5e-15 to 4e-6, and from there its errors say nothing.

    Returns:
        `advance(i)` takes step i (0, 1, ... in order) and returns both sides' losses; `snapshot()`
        returns what the steps so far have changed, in the order in which a step changes it:
        statistics, momentum buffers, parameters.

    Raises:
        ValueError: if the output is not (B, K), so that no cross-entropy can train it.
    """
    if not pair.logits:
        raise ValueError(f"{pair.name}: training needs logits (B, K)")
    sgd = {"momentum": momentum, "weight_decay": weight_decay, "nesterov": nesterov}
    module = pair.twin(train=True)
    optimizer = torch.optim.SGD(module.parameters(), learning_rate, **sgd)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma)
    with precision(pair.dtype):
        schedule = schedules.create(
            "exponential", learning_rate, steps_per_epoch=steps_per_epoch, gamma=gamma
        )
        tx = optim.create("sgd", schedule, **sgd)
        train_step = train.make_train_step(pair, tx)
        # The step donates its state; the pair keeps its own arrays.
        state = train.state_from(jax.tree.map(jnp.copy, pair.variables), tx)
    compiled_step = None

    def advance(i: int) -> tuple[np.ndarray, np.ndarray]:
        nonlocal state, compiled_step
        images, labels = pair.batch(i)
        pair.share_masks(module, i)
        optimizer.zero_grad()
        loss = training_loss(module(torch.from_numpy(to_nchw(images))), labels)
        loss.backward()
        optimizer.step()
        if (i + 1) % steps_per_epoch == 0:
            scheduler.step()
        with precision(pair.dtype):
            batch = {"images": jnp.asarray(images), "labels": jnp.asarray(labels)}
            arguments = state, batch, pair.key()
            if compiled_step is None:
                lowered = train_step.lower(*arguments)
                compiled_step = lowered.compile(compiler_options=quick_compilation())
            state, metrics = compiled_step(*arguments)
            return np.asarray(metrics["loss"]), loss.detach().numpy()

    def snapshot() -> Sides:
        with precision(pair.dtype):
            got = weights.to_torch({"batch_stats": state.batch_stats})
            if momentum:
                buffers = optax.tree_utils.tree_get(state.opt_state, "trace")
                found = weights.to_torch({"params": buffers})
                got.update({MOMENTUM + name: value for name, value in found.items()})
            got.update(weights.to_torch({"params": state.params}))
        want = arrays(dict(module.named_buffers()), pair)
        parameters = dict(module.named_parameters())
        if momentum:
            for name, parameter in parameters.items():
                buffer = optimizer.state[parameter]["momentum_buffer"]
                want[MOMENTUM + name] = buffer.numpy().copy()
        want.update(arrays(parameters, pair))
        return got, want

    return advance, snapshot
