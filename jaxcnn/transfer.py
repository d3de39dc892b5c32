"""Transfer learning: weights of another task, the last layer anew, parts frozen or at other rates.

Yosinski et al., 2014, arXiv:1411.1792: the first layers' features serve other tasks too. The
documented use is a network trained on ImageNet whose last layer is replaced, either trained whole
or with everything but that layer frozen.
"""

import math
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxcnn import layers, pretrained, tables, weights
from jaxcnn.optimization import Part
from jaxcnn.parameters import by_path, module
from jaxcnn.rates import check_matches, factors
from jaxcnn.settings import Settings

ALL_BUT_HEAD = "all-but-head"

_FREEZE = "freeze", "freeze_later"


def heads(network: str) -> tuple[str, ...]:
    """Return the paths of the layers that follow the number of classes, the main one last.

    Raises:
        ValueError: unknown network.
    """
    found = dict.fromkeys(module(key) for key in pretrained.head(network))
    return tuple(sorted(found, key=lambda layer: not layer.startswith("aux")))


def frozen_pattern(
    settings: Settings, names: Collection[str], *, later: bool = False
) -> str | None:
    """Return the regular expression of whole paths that are frozen; None where nothing is.

    Args:
        settings: of a run.
        names: the paths of all parameters.
        later: whether `unfreeze_at` or `freeze_at` has passed.

    Raises:
        ValueError: settings of transfer learning that do not go together, a bad pattern, one that
            matches nothing, or one that leaves nothing to train.
    """
    _check(settings)
    patterns = {name: _pattern(settings, name, names) for name in settings.given(*_FREEZE)}
    if (first := patterns.get("freeze")) is not None:
        _check_norms(settings, list(filter(selector(first), names)))
    whole = "|".join(patterns.values())
    if patterns and settings.unfreeze_at is None and all(map(selector(whole), names)):
        name = list(patterns)[-1]
        raise ValueError(f"{name}={getattr(settings, name)!r} leaves nothing to train")
    if later:
        return whole if settings.freeze_at is not None else None
    return first


def _pattern(settings: Settings, name: str, names: Collection[str]) -> str:
    """Return the expression of whole paths that `freeze` or `freeze_later` means."""
    text = getattr(settings, name)
    pattern = f"(?:{text}).*"
    if text == ALL_BUT_HEAD:
        pattern = f"(?!{_head_pattern(settings.network)}$).*"
    check_matches(f"{name}={text!r}", pattern, names, "the start of no parameter's path")
    return pattern


def parts(
    settings: Settings, names: Collection[str], steps_per_epoch: int, *, later: bool
) -> tuple[Part, ...]:
    """Return what is frozen or trained at a rate of its own.

    Args:
        settings: of a run.
        names: the paths of all parameters.
        steps_per_epoch: optimizer steps an epoch.
        later: whether `unfreeze_at` or `freeze_at` has passed.

    Raises:
        ValueError: what `frozen_pattern` and `factors` raise.
    """
    frozen_pattern(settings, names)
    held: list[tuple[str, dict[str, Any]]] = []
    if settings.freeze:
        thaw = settings.unfreeze_at
        start = None if thaw is None else thaw * steps_per_epoch
        frozen = thaw is None or not later
        held.append((_pattern(settings, "freeze", names), {"start": start, "frozen": frozen}))
    if settings.freeze_later:
        held.append((_pattern(settings, "freeze_later", names), {"frozen": later}))
    rates: list[tuple[str, dict[str, Any]]] = []
    if settings.lr_head is not None:
        # Before the frozen rest: of several groups' learning rates the first is shown.
        rates.append((_head_pattern(settings.network), {"learning_rate": settings.lr_head}))
    rates += [(pattern, {"factor": factor}) for pattern, factor in factors(settings, names)]
    found = []
    for pattern, rate in rates:
        found += [Part(f"(?=(?:{pattern})\\Z)(?:{kept})", **rate, **how) for kept, how in held]
        found.append(Part(pattern, **rate))
    return (*found, *(Part(kept, **how) for kept, how in held))


def selector(pattern: str) -> Callable[[str], bool]:
    """Return the function path -> whether the whole of it matches a pattern."""
    expression = re.compile(pattern)
    return lambda path: expression.fullmatch(path) is not None


class FrozenNorms(NamedTuple):
    """A network whose frozen batch norms use their running statistics and keep them.

    Attributes:
        model: with `apply`, as `jaxcnn.train.make_train_step` calls it.
        frozen: path of a parameter -> whether it is frozen; a norm is with its scale.
    """

    model: Any
    frozen: Callable[[str], bool]

    def apply(self, *arguments: Any, **options: Any) -> Any:
        """Apply the network; every frozen norm as in evaluation, whatever `train` says."""
        with layers.frozen_norms(lambda norm: self.frozen(f"{norm}.scale")):
            return self.model.apply(*arguments, **options)


def started(
    initial: Mapping[str, Any], drawn: dict[str, Any], replaced: Collection[str] = ()
) -> dict[str, Any]:
    """Return variables from a `state_dict`, but for replaced layers, which stay as drawn.

    Args:
        initial: PyTorch key -> array.
        drawn: the network's variables; what is loaded gets their dtypes.
        replaced: paths of layers; what the file has under them is not looked at.

    Raises:
        ValueError: one error with every missing, unexpected and wrongly shaped key.
    """
    kept = {key: value for key, value in weights.to_torch(drawn).items() if module(key) in replaced}
    taken = {k: v for k, v in initial.items() if module(k) not in replaced}
    loaded = weights.from_torch(taken | kept, drawn)
    return jax.tree.map(lambda new, old: new.astype(old.dtype), loaded, drawn)


def table(settings: Settings, params: Mapping[str, Any]) -> str:
    """Return as text which layers are loaded, replaced and frozen, and their learning rates.

    Layers that agree share a row with the layer that holds them.

    Args:
        settings: of a run.
        params: its parameters, or their shapes.
    """
    sizes = {name: int(np.prod(leaf.shape)) for name, leaf in by_path(params).items()}
    first, then = (
        selector(frozen_pattern(settings, sizes.keys(), later=later) or "")
        for later in (False, True)
    )
    scales = [(selector(pattern), factor) for pattern, factor in factors(settings, sizes.keys())]
    head = selector(_head_pattern(settings.network))

    def fate(name: str) -> tuple[str, str, str]:
        drawn = settings.init is None or (settings.replace_head is not None and head(name))
        origin = "drawn" if drawn else "loaded"
        if name == f"{settings.whiten}.kernel":
            origin = "whitening"
        rate = settings.learning_rate
        if head(name) and settings.lr_head is not None:
            rate = settings.lr_head
        else:
            rate *= next((factor for matches, factor in scales if matches(name)), 1.0)
        if settings.unfreeze_at is not None and first(name):
            return origin, f"after epoch {settings.unfreeze_at}", f"{rate:g}"
        if first(name):
            return origin, "no", "-"
        if settings.freeze_at is not None and then(name):
            return origin, f"to epoch {settings.freeze_at}", f"{rate:g}"
        return origin, "yes", f"{rate:g}"

    rows = [
        [place, f"{len(names)}", f"{sum(sizes[name] for name in names):,}", *fate(names[0])]
        for place, names in _agreeing(tuple(sizes), fate)
    ]
    headings = ("layer", "arrays", "parameters", "weights", "trained", "learning rate")
    return tables.text(headings, rows, right=("arrays", "parameters", "learning rate"))


def _agreeing(
    names: tuple[str, ...], fate: Callable[[str], Any], depth: int = 1
) -> list[tuple[str, tuple[str, ...]]]:
    """Group paths under the shortest starts below which all have the same fate."""
    groups: dict[str, tuple[str, ...]] = {}
    for name in names:
        start = ".".join(name.split(".")[:depth])
        groups[start] = (*groups.get(start, ()), name)
    found = []
    for start, members in groups.items():
        if len(set(map(fate, members))) == 1:
            found.append((start, members))
        else:
            found += _agreeing(members, fate, depth + 1)
    return found


def _head_pattern(network: str) -> str:
    return rf"(?:{'|'.join(map(re.escape, heads(network)))})\.[^.]+"


def _check_norms(settings: Settings, frozen: Collection[str]) -> None:
    """Raise a ValueError where settings say of frozen norms what there are none for."""
    norms = [name for name in frozen if name.endswith(".scale")]
    if settings.freeze_norms and not norms:
        raise ValueError(f"freeze_norms: freeze={settings.freeze!r} matches no batch norm")
    if settings.cache_features and norms and not settings.freeze_norms:
        raise ValueError(
            f"cache_features: the batch norms of {settings.network} would see other statistics in "
            "every batch; expected freeze_norms with it"
        )


def _check(settings: Settings) -> None:
    """Raise a ValueError where settings of transfer learning do not go together."""
    given = settings.given
    if settings.replace_head is not None and settings.init is None:
        raise ValueError(
            f"replace_head={settings.replace_head}: expected init, the weights that keep the rest"
        )
    if given("unfreeze_at", "freeze_norms") and not settings.freeze:
        name, value = next(iter(given("unfreeze_at", "freeze_norms").items()))
        raise ValueError(f"{name}={value}: nothing is frozen; expected freeze with it")
    for name, epochs in given("unfreeze_at", "freeze_at").items():
        if epochs < 1:
            raise ValueError(f"{name} must be at least 1, got {epochs}")
    if bool(settings.freeze_later) != (settings.freeze_at is not None):
        raise ValueError(
            f"freeze_later={settings.freeze_later!r}, freeze_at={settings.freeze_at}: expected "
            "both or neither"
        )
    if settings.freeze_later and (settings.unfreeze_at is not None or settings.cache_features):
        name = "cache_features" if settings.cache_features else "unfreeze_at"
        raise ValueError(f"freeze_later={settings.freeze_later!r}: not with {name}")
    if settings.lr_head is not None and not 0 <= settings.lr_head < math.inf:
        raise ValueError(f"lr_head must be finite and at least 0, got {settings.lr_head}")
    if settings.cache_features:
        if settings.freeze != ALL_BUT_HEAD or settings.unfreeze_at is not None:
            raise ValueError(
                f"cache_features: the features stay the same only with freeze={ALL_BUT_HEAD!r} and "
                f"without unfreeze_at, got freeze={settings.freeze!r}, "
                f"unfreeze_at={settings.unfreeze_at}"
            )
        if len(heads(settings.network)) > 1:
            raise ValueError(
                f"cache_features: {settings.network} has auxiliary classifiers, which see other "
                f"features than its last layer: {', '.join(heads(settings.network))}"
            )
        if settings.augment:
            raise ValueError(
                f"cache_features: augment={settings.augment!r} would change the images every time; "
                "expected no augment with it"
            )
