"""How settings become learning rates and an optimizer."""

import ast
import inspect
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import optax

from jaxcnn import named, optim, schedules
from jaxcnn.rates import scaled
from jaxcnn.schedules import Cycle, Plateau
from jaxcnn.settings import Settings

Changes = tuple[str, dict[str, Any]]

_NO_DECAY: dict[str, Any] = {"weight_decay": 0.0}


def make_schedule(settings: Settings, steps_per_epoch: int) -> optax.Schedule | Plateau:
    """Build the schedule that settings describe, or their sequence of schedules.

    Args:
        settings: of a run.
        steps_per_epoch: optimizer steps an epoch.

    Raises:
        ValueError: an unknown name, a bad value, or an argument that a schedule does not take.
    """
    interval = steps_per_epoch if settings.decay_every == "epoch" else 1
    names = [name.strip() for name in settings.schedule.split(",")]
    given = settings.given("gamma")
    if len(names) == 1:
        if settings.schedule_milestones:
            raise ValueError(
                f"schedule_milestones={settings.schedule_milestones!r}: schedule "
                f"{settings.schedule!r} is one; expected several, joined by commas"
            )
        return _part(settings, names[0], settings.schedule_args, interval, given)
    if given:
        raise ValueError(
            f"gamma={settings.gamma}: {settings.schedule!r} are several schedules; expected gamma "
            "in the schedule_args of the one it belongs to"
        )
    texts = settings.schedule_args.split(";") if settings.schedule_args else [""] * len(names)
    if len(texts) != len(names):
        raise ValueError(
            f"schedule_args={settings.schedule_args!r}: expected {len(names)} parts divided by "
            f"semicolons, one for each of {settings.schedule!r}, got {len(texts)}"
        )
    parts = []
    for name, text in zip(names, texts, strict=True):
        part = _part(settings, name, text, interval, {})
        if isinstance(part, Plateau):
            raise ValueError(f"schedule {settings.schedule!r}: plateau cannot be one of several")
        if isinstance(part, Cycle) and part.momentum is not None:
            raise ValueError(
                f"schedule {settings.schedule!r}: {name} would cycle the momentum in its part of "
                'the run only; expected schedule_args with "cycle_momentum=False" for it'
            )
        parts.append(part)
    return schedules.sequential(parts, _milestones(settings), steps_per_epoch=interval)


class Part(NamedTuple):
    """Parameters that are trained otherwise than the rest.

    Attributes:
        pattern: a regular expression that matches the whole path of each.
        learning_rate: their initial learning rate; None is the settings'.
        start: the step at which their training begins, None where it never does.
        frozen: whether they stay as they are now.
        factor: of their learning rate, by which their weight decay is divided: what decays in a
            step stays the same.
    """

    pattern: str
    learning_rate: float | None = None
    start: int | None = 0
    frozen: bool = False
    factor: float = 1.0


def make_optimizer(
    settings: Settings,
    steps_per_epoch: int,
    parts: Sequence[Part] = (),
    names: Collection[str] = (),
) -> optax.GradientTransformation:
    """Build the optimizer that settings describe; a cycled momentum reaches it.

    The parts' optimizers count from the step at which their training begins, as torch's do for
    parameters whose first gradient comes then; their learning rates are the schedule's of the whole
    run, as a torch scheduler moves on whatever is trained.

    Args:
        settings: of a run.
        steps_per_epoch: optimizer steps an epoch.
        parts: the first whose pattern matches decides; parameters of no part are trained as the
            settings say.
        names: the paths of all parameters; only with parts.

    Raises:
        ValueError: an unknown name, a bad value, or an argument that the optimizer or the
            lookahead does not take.
    """
    arguments = _arguments(settings, settings.learning_rate, steps_per_epoch)
    rest: list[Changes] = [] if settings.norm_decay else [(optim.NORMS_AND_BIASES, _NO_DECAY)]
    changes: list[Changes] = []
    for part in parts:
        rate = settings.learning_rate if part.learning_rate is None else part.learning_rate
        own = _arguments(settings, rate, steps_per_epoch)
        if part.factor != 1:
            own = scaled(settings, own, part.factor)
        own = {name: _from(value, part.start or 0) for name, value in own.items()}
        own["frozen"] = part.frozen
        both = [(f"(?=(?:{part.pattern})\\Z){pattern}", own | more) for pattern, more in rest]
        changes += [*both, (part.pattern, own)]
    try:
        if not changes and not rest:
            tx = optim.create(settings.optimizer, **arguments)
        else:
            used = _used([*changes, *rest], names) if parts else rest
            tx = optim.groups(settings.optimizer, patterns=used, **arguments)
    except TypeError as error:  # a value of another kind than the argument takes
        raise ValueError(f"optimizer_args={settings.optimizer_args!r}: {error}") from error
    if not settings.lookahead:
        return tx
    written = written_arguments("lookahead", settings.lookahead)
    made: dict[str, Any] = {"lookahead": partial(_with_lookahead, tx, steps_per_epoch)}
    return named.build("setting", made, "lookahead", **written)


def _with_lookahead(
    tx: optax.GradientTransformation,
    steps_per_epoch: int,
    *,
    every: int = 5,
    decay: float = 0.5,
    power: float = 0.0,
    epochs: int = 1,
) -> optax.GradientTransformation:
    """Let an optimizer's weights be pulled back, the more strongly the more epochs are done.

    Behind the last epoch the slow weights are left, as those that such a training is for.
    """
    for name, value in {"every": every, "epochs": epochs}.items():
        if not isinstance(value, int):
            raise ValueError(f"lookahead: {name} must be a whole number, got {value!r}")
    for name, value in {"decay": decay, "power": power}.items():
        if not isinstance(value, int | float):
            raise ValueError(f"lookahead: {name} must be a number, got {value!r}")
    last = epochs * steps_per_epoch
    growing = optim.growing_decay(decay, last, power)
    return optim.lookahead(tx, every=every, decay=growing, last=last)


def _arguments(settings: Settings, rate: float, steps_per_epoch: int) -> dict[str, Any]:
    """Return an optimizer's arguments, the learning rate among them, as settings say."""
    schedule = make_schedule(replace(settings, learning_rate=rate), steps_per_epoch)
    arguments = written_arguments("optimizer_args", settings.optimizer_args)
    given = settings.given("momentum", "nesterov", "weight_decay")
    arguments = _joined("optimizer_args", arguments, given)
    if isinstance(schedule, Cycle) and schedule.momentum is not None:
        arguments = with_cycled_momentum(settings.optimizer, arguments, schedule.momentum)
    return {"learning_rate": schedule, **arguments}


def _from(value: Any, start: int) -> Any:
    """Let a schedule, also one among betas, count from a later step."""
    if isinstance(value, tuple):
        return tuple(_from(entry, start) for entry in value)
    # A plateau is no function of the step.
    return (lambda step: value(step + start)) if start and callable(value) else value


def _used(changes: Sequence[Changes], names: Collection[str]) -> list[Changes]:
    """Return the groups that decide about any parameter, of all that there may be."""
    patterns = [pattern for pattern, _ in changes]
    deciding = {
        next((i for i, pattern in enumerate(patterns) if re.fullmatch(pattern, name)), None)
        for name in names
    }
    return [change for i, change in enumerate(changes) if i in deciding]


def for_its_optimizer(settings: Settings, recipe: Settings) -> Settings:
    """Drop a recipe's momentum where another optimizer was chosen, which has none.

    Args:
        settings: the recipe's, some of them overridden.
        recipe: the recipe's own.
    """
    if settings.optimizer == recipe.optimizer or settings.optimizer not in optim.OPTIMIZERS:
        return settings
    taken = inspect.signature(optim.OPTIMIZERS[settings.optimizer]).parameters
    inherited = [
        name
        for name in settings.given("momentum", "nesterov")
        if name not in taken and getattr(settings, name) == getattr(recipe, name)
    ]
    defaults = Settings.defaults()
    return replace(settings, **{name: defaults[name] for name in inherited})


def with_cycled_momentum(
    optimizer: str, arguments: Mapping[str, Any], momentum: optax.Schedule
) -> dict[str, Any]:
    """Return an optimizer's arguments with the one that torch's CyclicLR and OneCycleLR cycle.

    It is the momentum of SGD and RMSprop, and Adam's beta1.

    Args:
        optimizer: by name; of an unknown one nothing changes, for `optim.create` says more of it.
        arguments: the optimizer's, by torch's names.
        momentum: of a `Cycle`.

    Raises:
        ValueError: the optimizer has neither.
    """
    if optimizer not in optim.OPTIMIZERS:
        return dict(arguments)
    taken = inspect.signature(optim.OPTIMIZERS[optimizer]).parameters
    if "momentum" in taken:
        return {**arguments, "momentum": momentum}
    if "betas" in taken:
        return {**arguments, "betas": (momentum, arguments.get("betas", taken["betas"].default)[1])}
    raise ValueError(
        f"the schedule cycles the momentum, which optimizer {optimizer!r} has not; expected "
        "cycle_momentum=False among the schedule's arguments"
    )


def written_arguments(setting: str, text: str) -> dict[str, Any]:
    """Read arguments written as "NAME=VALUE, NAME=VALUE, ..." of Python literals.

    Args:
        setting: where they are written, for errors.
        text: "" has none.

    Raises:
        ValueError: anything else; a name that is written twice.
    """
    try:
        call: Any = ast.parse(f"dict({text.strip()})", mode="eval").body
        written = {pair.arg: ast.literal_eval(pair.value) for pair in call.keywords}
        whole = ast.unparse(call) == f"dict({', '.join(map(ast.unparse, call.keywords))})"
    except (SyntaxError, ValueError, AttributeError):
        whole, written = False, {}
    if not whole or None in written or len(written) < len(call.keywords):
        raise ValueError(
            f"{setting} must be NAME=VALUE, NAME=VALUE, ... of Python literals, got {text!r}"
        )
    return written


def _part(
    settings: Settings, name: str, text: str, steps_per_epoch: int, given: dict[str, Any]
) -> optax.Schedule | Plateau:
    arguments = _joined("schedule_args", written_arguments("schedule_args", text), given)
    try:
        return schedules.create(
            name, settings.learning_rate, steps_per_epoch=steps_per_epoch, **arguments
        )
    except TypeError as error:
        raise ValueError(f"schedule_args={text.strip()!r}: {error}") from error


def _joined(setting: str, written: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    if twice := sorted(given.keys() & written.keys()):
        raise ValueError(f"{setting} has {', '.join(twice)}, which is given by its own option too")
    return given | written


def _milestones(settings: Settings) -> list[int]:
    text = settings.schedule_milestones
    try:
        return [int(part) for part in text.split(",") if part.strip()]
    except ValueError as error:
        raise ValueError(
            f"schedule_milestones must be epochs divided by commas, got {text!r}"
        ) from error
