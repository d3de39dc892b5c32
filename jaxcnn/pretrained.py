"""Weights that others trained: PyTorch `state_dict`s from files to networks by name.

The networks with torchvision's names have torchvision's keys, so that its checkpoints load with no
table. This works on PyTorch key -> NumPy array and needs no PyTorch; `scripts/_weights.py` reads
the files.
"""

import re
from collections.abc import Mapping
from functools import cache, lru_cache, partial
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn import models, weights
from jaxcnn.models.resnet import Attention

# torchvision.models.densenet._load_state_dict: names from before modules could not contain dots.
_LEGACY_DENSENET = re.compile(
    r"^(.*denselayer\d+\.(?:norm|relu|conv))\.((?:[12])\.(?:weight|bias|running_mean|running_var))$"
)


def clean(state_dict: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return a checkpoint's entries under the keys of the network that it was trained for.

    The prefix `module.` of torch.nn.DataParallel goes where every key has it; torchvision's old
    DenseNet keys become today's (`denselayer1.norm.1.weight` -> `denselayer1.norm1.weight`); the
    batch counters that files older than PyTorch 0.4.1 lack become 0, as PyTorch's loader has it.

    Raises:
        ValueError: two keys become one.
    """
    prefix = "module."
    wrapped = all(key.startswith(prefix) for key in state_dict)
    cleaned = {}
    for key, value in state_dict.items():
        key = key.removeprefix(prefix) if wrapped else key
        key = _LEGACY_DENSENET.sub(r"\1\2", key)
        if key in cleaned:
            raise ValueError(f"two entries for {key}")
        cleaned[key] = value
    counter, mean = "num_batches_tracked", "running_mean"
    if not any(key.endswith(counter) for key in cleaned):
        norms = [key.removesuffix(mean) for key in cleaned if key.endswith(f".{mean}")]
        cleaned |= {f"{norm}{counter}": np.zeros((), np.int64) for norm in norms}
    return cleaned


def shapes(name: str, **options) -> dict[str, tuple[int, ...]]:
    """Return PyTorch key -> shape, in PyTorch's layout, of a network's `state_dict`.

    Args:
        name: one of `jaxcnn.models.names()`.
        **options: what `jaxcnn.models.create` takes.

    Raises:
        ValueError: unknown network or a bad option.
    """
    return weights.shapes(_template(name, **options))


def head(name: str) -> dict[str, int]:
    """Return the keys whose shape follows num_classes -> the axis, in PyTorch's layout, that does.

    These are the last layer's weight and bias, and those of auxiliary classifiers.

    Raises:
        ValueError: unknown network.
    """
    default = models.create(name).num_classes
    few, more = shapes(name), shapes(name, num_classes=default + 1)
    axes = {key: _differing_axis(shape, more[key]) for key, shape in few.items()}
    return {key: axis for key, axis in axes.items() if axis is not None}


def options(name: str, state_dict: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Return the options of `jaxcnn.models.create` that a `state_dict` tells of.

    `num_classes` is as in the file; `aux_logits`, where the network can have auxiliary classifiers,
    and `attention`, where it can have that, are those whose keys are closest to the file's. What
    leaves no trace in a file (GoogLeNet's `transform_input`, with which torchvision trained its
    ImageNet weights) is for the caller to give.

    Raises:
        ValueError: unknown network, or a file without its last layer or with several numbers of
            classes.
    """
    axes = head(name)
    counts = {
        key: state_dict[key].shape[axis]
        for key, axis in axes.items()
        if key in state_dict and state_dict[key].ndim > axis
    }
    if not counts:
        raise ValueError(f"the weights have none of the last layer's keys: {', '.join(axes)}")
    if len(set(counts.values())) > 1:
        raise ValueError(f"the weights have several numbers of classes: {counts}")
    form = min(_forms(name), key=lambda form: len(shapes(name, **form).keys() ^ state_dict.keys()))
    return {"num_classes": next(iter(counts.values())), **form}


def guess(state_dict: Mapping[str, np.ndarray]) -> list[str]:
    """Return the names of the networks that have a `state_dict`'s keys and shapes, sorted."""
    return [name for name in models.names() if _fits(name, state_dict)]


def closest(state_dict: Mapping[str, np.ndarray]) -> str | None:
    """Return the network that a `state_dict` follows longest, layer for layer from the first.

    Of several the one with the fewest missing, unexpected and wrongly shaped keys; None where no
    network has even its first layer in the file.
    """
    layers = _layers(state_dict)
    counts = {
        name: max(_follow(name, layers, **form)[0] for form in _forms(name))
        for name in models.names()
    }
    longest = max(counts.values())
    found = {key: value.shape for key, value in state_dict.items()}

    def misfits(name: str) -> int:
        wanted = shapes(name)
        return sum(found.get(key) != wanted.get(key) for key in found.keys() | wanted.keys())

    return min((n for n in counts if counts[n] == longest), key=misfits) if longest else None


def load(name: str, state_dict: Mapping[str, np.ndarray], **given) -> tuple[Any, dict[str, Any]]:
    """Build the network that a `state_dict` belongs to, with its weights.

    Args:
        name: one of `jaxcnn.models.names()`; `guess` finds it.
        state_dict: PyTorch key -> array, as `clean` returns it.
        **given: options of `jaxcnn.models.create`; those that are not given are `options`'.

    Returns:
        The model and its variables, in the dtypes that `jaxcnn.weights.from_torch` gives.

    Raises:
        ValueError: unknown network, or one error that lists every missing, unexpected and wrongly
            shaped key and names the networks that the weights do fit.
        TypeError: an option that the network does not have.
    """
    models.input_shape(name)  # an unknown name is no matter of the weights
    try:
        chosen = options(name, state_dict) | given
        model = models.create(name, **chosen)
        return model, weights.from_torch(state_dict, _template(name, **chosen))
    except ValueError as error:
        fitting = [other for other in guess(state_dict) if other != name]
        hint = f"\nthe weights fit {' and '.join(fitting)}" if fitting else ""
        raise ValueError(f"{name}: {error}{hint}") from error


@cache
def _template(name: str, **chosen) -> dict[str, Any]:
    return _trace(models.create(name, **chosen), models.input_shape(name))


def _trace(model: Any, image_shape: tuple[int, int, int], **options) -> dict[str, Any]:
    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    init = partial(model.init, train=False, **options)
    return jax.eval_shape(lambda x: init(jax.random.key(0), x), images)


def _differing_axis(a: tuple[int, ...], b: tuple[int, ...]) -> int | None:
    return next((axis for axis, (m, n) in enumerate(zip(a, b, strict=True)) if m != n), None)


def _fits(name: str, state_dict: Mapping[str, np.ndarray]) -> bool:
    found = {key: value.shape for key, value in state_dict.items()}
    for form in _forms(name):
        _, template = _follow(name, _layers(state_dict), **form)
        if template is None:
            continue
        wanted = weights.shapes(template)
        if wanted.keys() != found.keys():
            continue
        other = [key for key in wanted if wanted[key] != found[key]]
        if not other:
            return True
        pairs = zip(wanted[other[0]], found[other[0]], strict=False)
        num_classes = next((n for m, n in pairs if m != n), 0)  # if it is a key of the head
        return num_classes > 0 and shapes(name, num_classes=num_classes, **form) == found
    return False


def _forms(name: str) -> list[dict[str, Any]]:
    """Return the options that change which layers a network has, the default first."""
    model = models.create(name)
    if hasattr(model, "aux_logits"):
        return [{"aux_logits": True}, {"aux_logits": False}]
    if hasattr(model, "attention"):
        return [{"attention": kind} for kind in get_args(Attention)]
    return [{}]


def _layers(state_dict: Mapping[str, np.ndarray]) -> frozenset[str]:
    """Return the names of the modules that a `state_dict`'s keys lie in."""
    return frozenset(
        key[:end] for key in state_dict for end, letter in enumerate(key) if letter == "."
    )


class _OtherNetworkError(Exception):
    """A network has a layer that the weights lack."""


@lru_cache(maxsize=64)
def _follow(name: str, layers: frozenset[str], **form) -> tuple[int, dict[str, Any] | None]:
    """Trace a network up to its first layer with parameters that is not among `layers`.

    Returns the number of layers up to there, and the template where all are among them. Tracing
    every network to its end takes half a minute; their first layers tell most of them apart.
    """
    count = 0

    def check(module: Any, _) -> bool:
        nonlocal count
        if module.path and module.variables:
            if ".".join(module.path) not in layers:
                raise _OtherNetworkError
            count += 1
        return False  # captures nothing

    model = models.create(name, **form)
    try:
        template = _trace(model, models.input_shape(name), capture_intermediates=check)
    except _OtherNetworkError:
        return count, None
    return count, template
