"""The train and the evaluation step: pure, jitted functions of data.

A step sees a network only as `model.init` and `model.apply`, an optimizer only as an
`optax.GradientTransformation`; it reads no file and prints nothing. Where it is called on a mesh
(`jaxcnn.devices.within`), it divides its batch over the devices.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from jaxcnn import devices, optim
from jaxcnn.layers import masking, parts
from jaxcnn.losses import (
    AUXILIARY_WEIGHT,
    Loss,
    cross_entropy,
    main_logits,
    with_auxiliary,
)
from jaxcnn.parameters import map_by_path
from jaxcnn.precision import Precision, check, inputs, outputs, products
from jaxcnn.views import Views

Batch = Mapping[str, jax.Array]
Metrics = dict[str, jax.Array]


class TrainState(struct.PyTreeNode):
    """Everything a step changes, as data only: it can be vmapped, sharded, saved, compared.

    Attributes:
        step: () int32, optimizer steps done.
        params: nested dict of arrays.
        batch_stats: nested dict of arrays; {} for networks without batch norm.
        opt_state: the optimizer's state.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: Any


def init_state(
    model: Any, tx: optax.GradientTransformation, key: jax.Array, images: jax.Array
) -> TrainState:
    """Draw a network's variables and the optimizer's state, at step 0.

    Args:
        model: a network with `init(key, images, train=False)`.
        tx: the optimizer.
        key: a `jax.random` key; equal keys give equal states.
        images: (B, H, W, C) of the shape and dtype to be trained on; the values do not matter.
    """
    init = jax.jit(partial(model.init, train=False))
    return state_from(init(key, images), tx)


def state_from(variables: Mapping[str, Any], tx: optax.GradientTransformation) -> TrainState:
    """Build the state at step 0 from given variables, e.g. those of `jaxcnn.weights.load`."""
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=variables["params"],
        batch_stats=variables.get("batch_stats", {}),
        opt_state=tx.init(variables["params"]),
    )


def step_keys(key: jax.Array, step: jax.Array | int) -> tuple[jax.Array, jax.Array]:
    """Return the keys (augmentation, dropout) of one step of the run that `key` belongs to.

    Args:
        key: the run's key, the same for all its steps.
        step: optimizer steps done before this one.
    """
    augment_key, dropout_key = jax.random.split(jax.random.fold_in(key, step))
    return augment_key, dropout_key


def make_train_step(
    model: Any,
    tx: optax.GradientTransformation,
    loss: Loss = cross_entropy,
    *,
    preprocess: Callable[[jax.Array], jax.Array] | None = None,
    augment: Callable[[jax.Array, jax.Array], jax.Array] | None = None,
    penalty: Callable[[Any], jax.Array] | None = None,
    frozen: Callable[[str], bool] | None = None,
    auxiliary_weight: float = AUXILIARY_WEIGHT,
    precision: Precision | None = None,
    norm_parts: int = 1,
) -> Callable[[TrainState, Batch, jax.Array], tuple[TrainState, Metrics]]:
    """Build the jitted `(state, batch, key) -> (state, metrics)`; the state is donated.

    Args:
        model: a network with `apply(variables, images, train=True, ...)` -> logits, or a tuple of
            logits, the main head's first.
        tx: the optimizer; a learning-rate schedule lives in it.
        loss: (logits (B, K), labels (B,)) -> (B,); the step minimises its mean, and the penalty.
        preprocess: images as stored (uint8) or augmented -> what the network takes; None if they
            are that already.
        augment: (key, stored images) -> images, from `jaxcnn.augment`.
        penalty: params -> (), added to the mean loss; the metrics leave it out.
        frozen: path of a parameter joined with dots -> whether its gradient is 0; the backward pass
            leaves out what only they need. That they stay as they are is the optimizer's matter:
            weight decay and momentum change parameters without a gradient too.
        auxiliary_weight: what each auxiliary head's loss counts for beside the main head's; no
            matter where there is one head only.
        precision: see `jaxcnn.precision`; None computes in the images' number type, with JAX's
            default for products.
        norm_parts: parts of the batch whose statistics batch norms take, see `jaxcnn.layers.parts`.

    Returns:
        The step. Its batch is {"images": (B, H, W, C), "labels": (B,) int} and, where not all
        examples count, "mask": (B,) bool, see `jaxcnn.layers.masking`. Its key is the run's, the
        same for all steps: the step folds it with `state.step`. Metrics stay on the device: `loss`
        () the batch's mean without the penalty, `correct` () int32 (the main head's) and `count` ()
        int32.
    """
    check(precision)

    @partial(jax.jit, donate_argnums=0)
    def train_step(state: TrainState, batch: Batch, key: jax.Array) -> tuple[TrainState, Metrics]:
        augment_key, dropout_key = step_keys(key, state.step)
        batch = devices.divided(batch)
        images, mask = batch["images"], batch.get("mask")
        if augment is not None:
            images = augment(augment_key, images)
        if preprocess is not None:
            images = preprocess(images)

        def objective(params):
            if frozen is not None:
                params = _stopped(params, frozen)
            with (
                masking.counting(mask),
                parts.normalised_in(norm_parts),
                products(precision),
            ):
                logits, updated = model.apply(
                    {"params": params, "batch_stats": state.batch_stats},
                    inputs(images, precision),
                    train=True,
                    rngs={"dropout": dropout_key},
                    mutable=["batch_stats"],
                )
            # A network without batch norm returns no such collection.
            batch_stats = updated.get("batch_stats", {})
            logits = outputs(logits, precision)
            losses = with_auxiliary(loss, logits, batch["labels"], auxiliary_weight)
            value = jnp.mean(losses, where=mask)
            total = value if penalty is None else value + penalty(params)
            return total, (value, main_logits(logits), batch_stats)

        gradient = jax.grad(objective, has_aux=True)
        gradients, (value, logits, batch_stats) = gradient(state.params)
        params, opt_state = optim.step(tx, gradients, state.opt_state, state.params)
        state = TrainState(
            step=state.step + 1,
            params=params,
            batch_stats=batch_stats,
            opt_state=opt_state,
        )
        hits = _predictions(logits, batch["labels"].dtype) == batch["labels"]
        counts = jnp.ones_like(hits) if mask is None else mask
        correct, count = (jnp.sum(seen, dtype=jnp.int32) for seen in (hits & counts, counts))
        return devices.whole((state, {"loss": value, "correct": correct, "count": count}))

    return train_step


def make_eval_step(
    model: Any,
    loss: Loss = cross_entropy,
    *,
    preprocess: Callable[[jax.Array], jax.Array] | None = None,
    precision: Precision | None = None,
    views: Views | None = None,
) -> Callable[[TrainState, Batch], Metrics]:
    """Build the jitted `(state, batch) -> metrics` of evaluation mode; nothing is donated.

    The batch carries `mask` (B,) bool beside images and labels: False marks the rows that fill up
    the last batch, so that one compiled program serves every batch.

    Args:
        model: as in `make_train_step`.
        loss: see there.
        preprocess: see there.
        precision: see there.
        views: from `jaxcnn.views`: preprocessed images -> (weight, images) of every view, whose
            logits are averaged; None looks at the images alone.

    Returns:
        The step. Metrics stay on the device, and mean nothing where the mask is False: `loss` (B,),
        `predictions` (B,) of the labels' dtype, `probabilities` (B, K), the logits' softmax.
    """
    check(precision)

    @jax.jit
    def eval_step(state: TrainState, batch: Batch) -> Metrics:
        batch = devices.divided(batch)
        images = batch["images"] if preprocess is None else preprocess(batch["images"])
        variables = {"params": state.params, "batch_stats": state.batch_stats}
        seen = [(1.0, images)] if views is None else views(images)
        # One application to all views: one program of the network, not one a view.
        images = jnp.concatenate([view for _, view in seen])
        with products(precision):
            logits = model.apply(variables, inputs(images, precision), train=False)
        logits = outputs(logits, precision)
        pieces = zip(seen, jnp.split(logits, len(seen)), strict=True)
        logits = jnp.sum(jnp.stack([weight * piece for (weight, _), piece in pieces]), 0)
        found = {
            "loss": loss(logits, batch["labels"]),
            "predictions": _predictions(logits, batch["labels"].dtype),
            "probabilities": jax.nn.softmax(logits),
        }
        return devices.whole(found)

    return eval_step


def _stopped(params: Any, frozen: Callable[[str], bool]) -> Any:
    return map_by_path(lambda path, w: jax.lax.stop_gradient(w) if frozen(path) else w, params)


def _predictions(logits: jax.Array, dtype: jnp.dtype) -> jax.Array:
    # argmax gives int64 in x64 mode, labels may be of any integer type: strict promotion forbids
    # to compare them as they are.
    return jnp.argmax(logits, axis=-1).astype(dtype)
