"""A training run with L-BFGS in lockstep: our step with a loss against torch's with a closure."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import torch

from jaxcnn import optim, weights
from jaxcnn.losses import cross_entropy, main_logits
from parity.compilation import precision
from parity.pair import Pair, arrays
from parity.sides import Sides, to_nchw, training_loss


def training(
    pair: Pair, *, learning_rate: float, **arguments
) -> tuple[Callable[[int], tuple[np.ndarray, np.ndarray]], Callable[[], Sides]]:
    """Start one training run with `jaxcnn.optim.lbfgs` and one with `torch.optim.LBFGS`.

    The statistics of batch norms change at every evaluation of the loss, on both sides.

    Args:
        pair: the two sides, without dropout: torch draws new masks at every evaluation.
        learning_rate: > 0.
        **arguments: L-BFGS's own, by torch's names.

    Returns:
        `advance(i)` takes step i (0, 1, ... in order) on batch i and returns both sides' losses at
        its start; `snapshot()` returns both sides' statistics and parameters.

    Raises:
        ValueError: the network has dropout.
    """
    module = pair.twin(train=True)
    if any(isinstance(m, torch.nn.modules.dropout._DropoutNd) for m in module.modules()):
        raise ValueError(f"{pair.name}: L-BFGS is compared without dropout only, and it has one")
    torchs = torch.optim.LBFGS(module.parameters(), lr=learning_rate, **arguments)
    ours = optim.lbfgs(learning_rate, **arguments)

    @jax.jit
    def step(params, state, batch_stats, images, labels):
        def loss(params, batch_stats):
            variables = {"params": params, "batch_stats": batch_stats}
            outputs, updated = pair.apply(variables, images, train=True, mutable=["batch_stats"])
            losses = cross_entropy(main_logits(outputs), labels)
            return jnp.mean(losses), updated.get("batch_stats", {})

        return ours.step(loss, params, state, batch_stats)

    with precision(pair.dtype):
        params, batch_stats = pair.variables["params"], pair.variables.get("batch_stats", {})
        state = ours.init(params)

    def advance(i: int) -> tuple[np.ndarray, np.ndarray]:
        nonlocal params, state, batch_stats
        images, labels = pair.batch(i)
        inputs = torch.from_numpy(to_nchw(images))

        def closure():
            torchs.zero_grad()
            loss = training_loss(module(inputs), labels)
            loss.backward()
            return loss

        want = torchs.step(closure)
        with precision(pair.dtype):
            values = params, state, batch_stats, jnp.asarray(images), jnp.asarray(labels)
            params, state, got, batch_stats = step(*values)
            return np.asarray(got), want.detach().numpy()

    def snapshot() -> Sides:
        with precision(pair.dtype):
            got = weights.to_torch({"params": params, "batch_stats": batch_stats})
        want = arrays(dict(module.named_buffers()), pair)
        return got, {**want, **arrays(dict(module.named_parameters()), pair)}

    return advance, snapshot
