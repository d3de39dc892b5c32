"""A head trained on its input features, which the rest of the network computes once.

Feature extraction (Donahue et al., 2014, "DeCAF", arXiv:1310.1531; PyTorch's transfer learning
tutorial, "ConvNet as fixed feature extractor"): where all but the head is frozen and images are not
augmented, an image's features never change, so that an epoch over them costs what the head costs.
"""

import contextlib
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn import log
from jaxcnn.data import Arrays, Files, cache, eval_batches, statistics
from jaxcnn.data.readers import Workers
from jaxcnn.files import cache_root
from jaxcnn.layers.cut import Cut, find_cut
from jaxcnn.layers.interception import record_input, replaced_input
from jaxcnn.precision import Precision, inputs, outputs, products

_VERSION = 1  # of the kept files' layout

Variables = Mapping[str, Any]
Preprocess = Callable[[jax.Array], jax.Array]


def head_features(model: Any, head: str) -> Callable[[Variables, jax.Array], jax.Array]:
    """Return the function (variables, images (B, H, W, C)) -> features (B, ...) of a head.

    These are the head's input in evaluation mode or, where a dropout stands in front of the head,
    the dropout's input (see `jaxcnn.layers.cut.find_cut`). Jittable; what is behind them is then no
    part of the program.

    Args:
        model: a network of `jaxcnn.models`.
        head: path of its last module with parameters, joined with dots ("fc", "classifier.1").

    Raises:
        ValueError: from the function, `head` as in `find_cut`.
    """

    def features(variables: Variables, images: jax.Array) -> jax.Array:
        cut = find_cut(model, head, variables, images.shape[1:], images.dtype)
        with record_input(cut.path) as found:
            model.apply(variables, images, train=False)
        return found[0]

    return features


@dataclass(frozen=True)
class HeadModel:
    """A network from the features of its head on, with the whole network's variables.

    It stands in for the network in `jaxcnn.train`'s steps, whose batches' "images" are features
    then. The rest of the network is neither computed (in a jitted function) nor changed: its
    gradients are zero and its statistics stay as they are.

    Attributes:
        model: a network of `jaxcnn.models`, without auxiliary classifiers.
        head: path of its last module with parameters, joined with dots.
        image_shape: (H, W, C) of the images that the features were computed from.
        cut: where the features come in.

    Raises:
        ValueError: `head` as in `jaxcnn.layers.cut.find_cut`, or a network with auxiliary
            classifiers, whose heads have no part in the features.
    """

    model: Any
    head: str
    image_shape: tuple[int, int, int]
    cut: Cut = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        images = jax.ShapeDtypeStruct((1, *self.image_shape), jnp.float32)
        init = partial(self.model.init, train=False)
        variables = jax.eval_shape(init, jax.random.key(0), images)
        cut = find_cut(self.model, self.head, variables, self.image_shape, images.dtype)
        if isinstance(cut.outputs, tuple):
            raise ValueError(
                f"HeadModel: model={type(self.model).__name__} returns the logits of "
                f"{len(cut.outputs)} heads in training; expected one: switch its auxiliary "
                f"classifiers off (aux_logits=False)"
            )
        object.__setattr__(self, "cut", cut)

    def apply(
        self,
        variables: Variables,
        features: jax.Array,
        *,
        train: bool,
        rngs: Mapping[str, jax.Array] | None = None,
        mutable: Any = False,
    ) -> Any:
        """Map features (B, ...) to logits (B, num_classes), as the network's `apply` does.

        Args:
            variables: the whole network's.
            features: from `head_features`, of the variables' dtype.
            train: whether what stands behind the features, dropout in front of the head included,
                runs as in training; the rest of the network runs as in evaluation.
            rngs: {"dropout": key} where there is dropout; its masks are the whole network's.
            mutable: collections to return updated, as Flax's `apply` takes them.

        Returns:
            The logits; with `mutable`, the logits and the collections.

        Raises:
            ValueError: features of another shape than the network's.
        """
        if features.shape[1:] != self.cut.shape:
            expected = ", ".join(["B", *map(str, self.cut.shape)])
            raise ValueError(f"HeadModel: features must be ({expected}), got {features.shape}")
        images = jnp.zeros((features.shape[0], *self.image_shape), features.dtype)
        with replaced_input(self.cut.path, features):
            return self.model.apply(variables, images, train=train, rngs=rngs, mutable=mutable)


def compute_features(
    model: Any,
    head: str,
    variables: Variables,
    split: Arrays | Files,
    preprocess: Preprocess | None = None,
    *,
    batch_size: int,
    precision: Precision | None = None,
    workers: Workers = 0,
) -> Arrays:
    """Compute the features of every image of a split once, in order.

    Args:
        model: a network of `jaxcnn.models`.
        head: as `head_features` takes it.
        variables: the network's.
        split: N images.
        preprocess: stored images -> what the network takes; None if they are that already.
        batch_size: images a step; one program serves every split of the same image size.
        precision: that the network computes in, see `jaxcnn.precision`.
        workers: what decodes `Files`, as `jaxcnn.data.eval_batches` takes it.

    Returns:
        A split on the host, whose `images` are the features (N, ...), floating, and whose labels
        are the split's, for `train_batches` and `eval_batches`.

    Raises:
        ValueError: `head` as in `find_cut`; an empty split, a batch size below 1, a damaged file.
    """
    variables = jax.device_put(dict(variables))
    features, done = np.empty(0), 0
    with contextlib.closing(eval_batches(split, batch_size, workers=workers)) as batches:
        for batch in batches:
            images = batch["images"]
            found = np.asarray(_features(model, head, preprocess, precision, variables, images))
            if done == 0:
                features = np.empty((len(split), *found.shape[1:]), found.dtype)
            rows = min(batch_size, len(split) - done)  # the last batch is filled up
            features[done : done + rows] = found[:rows]
            done += rows
    return Arrays(features, split.labels)


def cached_features(
    model: Any,
    head: str,
    variables: Variables,
    split: Arrays | Files,
    preprocess: Preprocess | None,
    description: str,
    *,
    batch_size: int,
    precision: Precision | None = None,
    workers: Workers = 0,
    cache_dir: Path | None = None,
) -> Arrays:
    """Return `compute_features` of a split, computed once and kept in the cache.

    They are kept under a digest of the network's variables (all but the head's), of the split's
    pixels or, of `Files`, of their names, sizes and modification times, of `head` and of
    `description`; computed again where one of them changes, or where the kept file is damaged.
    A line on standard error says which, and how large they are.

    Args:
        model: as `compute_features` takes it, as the arguments up to `preprocess`.
        head: see there.
        variables: see there.
        split: see there.
        preprocess: see there.
        description: all else that the features follow from, in words: the network, its options and
            what `preprocess` does.
        batch_size: as `compute_features` takes it.
        precision: as `compute_features` takes it.
        workers: as `compute_features` takes it.
        cache_dir: where they are kept; None is $XDG_CACHE_HOME/jaxcnn or ~/.cache/jaxcnn. The files
            (features-*.npz) may be deleted at any time.

    Raises:
        ValueError: as `compute_features`.
        OSError: a file of the split is not there.
    """
    key = _fingerprint(head, variables, split, f"{description} {precision}")
    path = cache_root(cache_dir) / f"features-{key[:24]}.npz"
    said = f"features of {len(split):,} images"
    kept = (cache.read_arrays(path, key) or {}).get("features")
    if kept is not None and kept.dtype.kind == "f" and kept.shape[:1] == (len(split),):
        log.say(f"{said}: read from {path}, {_size(kept)}")
        return Arrays(kept, split.labels)
    how = {"batch_size": batch_size, "precision": precision, "workers": workers}
    computed = compute_features(model, head, variables, split, preprocess, **how)
    features = np.asarray(computed.images)
    log.say(f"{said}: computed, {_size(features)}; writing {path}")
    cache.write_arrays(path, key, {"features": features}, what=("features", "computed"))
    return computed


@partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _features(
    model: Any,
    head: str,
    preprocess: Preprocess | None,
    precision: Precision | None,
    variables: Variables,
    images: jax.Array,
) -> jax.Array:
    images = images if preprocess is None else preprocess(images)
    with products(precision):
        found = head_features(model, head)(variables, inputs(images, precision))
    return outputs(found, precision)


def _fingerprint(head: str, variables: Variables, split: Arrays | Files, description: str) -> str:
    pixels = statistics.fingerprint(split)
    digest = hashlib.sha256(f"features {_VERSION}\n{head}\n{description}\n{pixels}\n".encode())
    for path, leaf in jax.tree_util.tree_flatten_with_path(dict(variables))[0]:
        names = [entry.key for entry in path]
        if head in (".".join(names[1:end]) for end in range(2, len(names))):
            continue
        value = np.asarray(leaf)
        digest.update(f"{names} {value.dtype} {value.shape}\n".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()


def _size(features: np.ndarray) -> str:
    return f"{features.nbytes / 2**20:.1f} MiB"
