"""One pair of networks with the same weights: a torch module, a Flax module, batches of images.

All random values are drawn in float32 and then cast, so the float64 and the float32 pair of one
seed hold the same numbers and their results differ by rounding alone.
"""

import copy
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import jax
import numpy as np
import torch
from flax import linen
from torch.nn.modules.dropout import _DropoutNd

import parity.reference
from jaxcnn import models, train, weights
from jaxcnn import precision as computed
from jaxcnn.losses import main_logits
from jaxcnn.precision import Precision
from parity.compilation import compiled, precision
from parity.randomise import randomise
from parity.sides import Arrays, named, to_nchw

DTYPES = {"float64": torch.float64, "float32": torch.float32}
Batches = Callable[[int], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True, eq=False)
class Pair:
    """Two networks and what both are fed; no comparison changes it, but it keeps what it compiled.

    Attributes:
        name: what tables call it.
        torch_module: the reference, on the CPU, in `dtype`.
        flax_module: the network under test; its `__call__` takes images and, maybe, `train`.
        variables: the torch module's values, converted.
        batch: i -> images (B, H, W, C) of `dtype` and labels (B,) int32 of the i-th batch.
        dtype: "float64" or "float32".
        seed: of everything random, the dropout masks included.
        logits: whether the (main) output is (B, K), so that a cross-entropy can train it.
        functional: whether layers without parameters may exist on one side only.
        uncounted: `num_batches_tracked` entries for which the Flax side has no counterpart.
        products: the precision that the Flax side computes in, see `jaxcnn.precision`.
    """

    name: str
    torch_module: torch.nn.Module
    flax_module: linen.Module
    variables: dict[str, Any]
    batch: Batches
    dtype: str
    seed: int
    logits: bool = True
    functional: bool = False
    uncounted: frozenset[str] = frozenset()
    products: Precision = "float32"

    def apply(self, variables: Mapping[str, Any], images: jax.Array, *, train: bool, **options):
        """Call `flax_module.apply`, with `train` where the module takes it."""
        if _takes_train(self.flax_module):
            options["train"] = train
        with computed.products(self.products):
            rounded = computed.inputs(images, self.products)
            out = self.flax_module.apply(variables, rounded, **options)
        if "mutable" in options:
            return computed.outputs(out[0], self.products), out[1]
        return computed.outputs(out, self.products)

    @property
    def depth(self) -> int:
        """Number of layers with parameters of their own."""
        modules = self.torch_module.modules()
        return sum(any(True for _ in m.parameters(recurse=False)) for m in modules)

    def twin(self, *, train: bool, step: int = 0) -> torch.nn.Module:
        """Return a copy of the torch module in a mode, its dropouts under step `step`'s masks."""
        module = copy.deepcopy(self.torch_module).train(train)
        if train:
            self.share_masks(module, step)
        return module

    def dropout_key(self, step: int = 0) -> jax.Array:
        """Return the dropout key that `jaxcnn.train` uses in a step of the run `self.key()`."""
        return train.step_keys(self.key(), step)[1]

    def key(self) -> jax.Array:
        """Return the key of the pair's training run."""
        return jax.random.key(self.seed)

    def share_masks(self, module: torch.nn.Module, step: int) -> None:
        """Make a torch module's dropouts drop what the Flax side drops in a step.

        Raises:
            ValueError: a dropout without a mask of the same name on the Flax side.
        """
        dropouts = {n: m for n, m in module.named_modules() if isinstance(m, _DropoutNd)}
        dropouts = {name: dropout for name, dropout in dropouts.items() if 0 < dropout.p < 1}
        if not dropouts:
            return
        with precision(self.dtype):
            images = jax.numpy.asarray(self.batch(step)[0])
            masks = named(self._masks(self.variables, images, self.dropout_key(step)), "mask")
        for name, dropout in dropouts.items():
            if name not in masks:
                raise ValueError(
                    f"dropout {name!r} of {self.name} has no mask on the Flax side (found: "
                    f"{sorted(masks)}); masks come from jaxcnn.layers.Dropout of the same name"
                )
            # The instance's own `forward`, so that hooks on the module still see its output.
            dropout.forward = partial(_masked, iter(masks[name]), dropout.p)

    @cached_property
    def update_statistics(self) -> Callable[..., Any]:
        """Compiled `(batch_stats, images, dropout key) -> batch_stats` of a training batch."""

        def update(stats, images, key):
            variables = {**self.variables, "batch_stats": stats}
            _, updated = self.apply(
                variables, images, train=True, rngs={"dropout": key}, mutable=["batch_stats"]
            )
            return updated.get("batch_stats", {})

        return compiled(update)

    @cached_property
    def forwards(self) -> dict[bool, Any]:
        """What `parity.harness` computed in training (True) and in evaluation mode."""
        return {}

    @cached_property
    def _masks(self) -> Callable[..., Any]:
        """(variables, images, dropout key) -> the masks; all else is no part of the program."""

        def masks(variables, images, key):
            _, updated = self.apply(
                variables,
                images,
                train=True,
                rngs={"dropout": key},
                mutable=["dropout_masks", "batch_stats"],
            )
            return updated.get("dropout_masks", {})

        return compiled(masks)


def pair(
    name: str,
    *,
    seed: int = 0,
    batch_size: int = 4,
    dtype: str = "float64",
    num_classes: int = 10,
    size: tuple[int, int] | None = None,
    products: Precision = "float32",
    **options,
) -> Pair:
    """Build the pair of a network of `jaxcnn.models` and its twin.

    Args:
        name: the network's and the twin's name.
        seed: of everything random.
        batch_size: images a batch.
        dtype: "float64" or "float32".
        num_classes: outputs of the last layer.
        size: (H, W) of the images, by default the network's `comparison_size`.
        products: see `make_pair`.
        **options: what both the network and the twin take, e.g. GoogLeNet's `aux_logits`.

    Raises:
        ValueError: no network or no twin of this name.
    """
    flax_module = models.create(name, num_classes=num_classes, **options)
    torch_module = parity.reference.create(name, num_classes, **options)
    return make_pair(
        torch_module,
        flax_module,
        (*(size or parity.reference.comparison_size(name)), models.input_shape(name)[2]),
        name=name,
        seed=seed,
        batch_size=batch_size,
        dtype=dtype,
        products=products,
    )


def make_pair(
    torch_module: torch.nn.Module,
    flax_module: linen.Module,
    input_shape: tuple[int, int, int],
    *,
    name: str | None = None,
    seed: int = 0,
    batch_size: int = 4,
    dtype: str = "float64",
    batches: Batches | None = None,
    randomised: bool = True,
    functional: bool = False,
    products: Precision = "float32",
) -> Pair:
    """Build a pair from any torch module and Flax module whose layers have the same names.

    Args:
        torch_module: takes (B, C, H, W) and returns a tensor or a tuple of tensors, the main one
            first; it is copied, never changed.
        flax_module: takes (B, H, W, C) and, if it has one, the keyword `train`. A parameter path
            joined with dots is the torch module's key (see `jaxcnn.weights`).
        input_shape: (H, W, C) of one image.
        name: what tables call the pair, default the torch class' name.
        seed: of everything random.
        batch_size: images a batch, of the random batches.
        dtype: "float64" or "float32".
        batches: the user's own batches (see `Pair.batch`) in place of random ones.
        randomised: False keeps the torch module's weights and statistics as they are.
        functional: True lets layers without parameters exist on one side only, for Flax code that
            calls `nn.relu` as a function where PyTorch has a module.
        products: the precision that the Flax side of a float32 pair computes in, see
            `jaxcnn.precision`; its outputs are float32.

    Raises:
        ValueError: unknown dtype or precision, a precision of a float64 pair, or parameters that
            differ in names or shapes (all are listed).
    """
    if dtype not in DTYPES:
        raise ValueError(f"dtype must be float64 or float32, got {dtype!r}")
    computed.check(products)
    if dtype == "float64" and products != "float32":
        raise ValueError(f"products={products!r}: expected dtype float32 with it, got {dtype!r}")
    module = copy.deepcopy(torch_module)
    if randomised:
        randomise(module, seed)
    module = module.to("cpu", DTYPES[dtype])
    options = {"train": False} if _takes_train(flax_module) else {}
    with precision(dtype):
        images = jax.ShapeDtypeStruct((batch_size, *input_shape), dtype)
        template = jax.eval_shape(partial(flax_module.init, **options), jax.random.key(0), images)
        known = weights.to_torch(jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), template))
        state_dict = module.state_dict()
        # Flax's own BatchNorm counts no batches: another interface, but no other values.
        uncounted = {k for k in state_dict if k.endswith("num_batches_tracked") and k not in known}
        variables = weights.from_torch(
            {key: value for key, value in state_dict.items() if key not in uncounted}, template
        )
        out = jax.eval_shape(partial(flax_module.apply, **options), variables, images)
        out = main_logits(out)
    return Pair(
        name=name or type(torch_module).__name__,
        torch_module=module,
        flax_module=flax_module,
        variables=variables,
        batch=batches or partial(_random_batch, images.shape, out.shape[-1], dtype, seed),
        dtype=dtype,
        seed=seed,
        logits=len(out.shape) == 2,
        functional=functional,
        uncounted=frozenset(uncounted),
        products=products,
    )


def arrays(tensors: Mapping[str, torch.Tensor], pair: Pair) -> Arrays:
    """Return copies of a torch module's parameters or buffers, less `pair.uncounted`."""
    return {
        name: tensor.detach().numpy().copy()
        for name, tensor in tensors.items()
        if name not in pair.uncounted
    }


def _takes_train(flax_module: linen.Module) -> bool:
    return "train" in inspect.signature(type(flax_module).__call__).parameters


def _random_batch(shape, classes: int, dtype: str, seed: int, i: int):
    rng = np.random.default_rng((seed, i))
    images = rng.normal(0.2, 1, shape).astype(np.float32).astype(dtype)
    return images, rng.integers(0, classes, shape[0]).astype(np.int32)


def _masked(masks, p: float, x: torch.Tensor) -> torch.Tensor:
    mask = torch.from_numpy(to_nchw(next(masks)).copy())
    return x * mask / (1 - p)
