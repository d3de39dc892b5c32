"""Learning rates of some parameters: factors of the one that all others have.

Each part of a network has the step size that suits it, as the biases of batch norms in Keller
Jordan, 2024, arXiv:2404.00498, section 3.3. A parameter's weight decay is divided by the factor, so
that what decays in a step stays the same.
"""

import inspect
import math
import re
from collections.abc import Collection
from typing import Any

from jaxcnn import optim
from jaxcnn.schedules import Plateau
from jaxcnn.settings import Settings


def factors(settings: Settings, names: Collection[str]) -> list[tuple[str, float]]:
    """Return the patterns of whole paths of `lr_factors` with the factors of the learning rate.

    Args:
        settings: of a run.
        names: the paths of all parameters.

    Raises:
        ValueError: another form, a bad pattern or one that matches nothing, a factor that is not
            above 0 and finite.
    """
    found = []
    for part in filter(None, map(str.strip, settings.lr_factors.split(";"))):
        pattern, _, text = part.rpartition("=")
        try:
            factor = float(text)
        except ValueError:
            factor = math.nan
        if not 0 < factor < math.inf:
            raise ValueError(
                f"lr_factors={settings.lr_factors!r}: expected PATTERN=FACTOR; ..., with factors "
                f"above 0, got {part!r}"
            )
        check_matches(f"lr_factors: {pattern!r}", pattern, names, "no parameter's whole path")
        found.append((pattern, factor))
    return found


def scaled(settings: Settings, arguments: dict[str, Any], factor: float) -> dict[str, Any]:
    """Multiply a learning rate and divide the weight decay, the optimizer's default too.

    Args:
        settings: of a run.
        arguments: the optimizer's by torch's names, `learning_rate` among them.
        factor: above 0.

    Raises:
        ValueError: a plateau, whose learning rate is one number of the optimizer's state.
    """
    schedule = arguments["learning_rate"]
    if isinstance(schedule, Plateau):
        raise ValueError(f"lr_factors={settings.lr_factors!r}: not with the schedule plateau")
    scaled = {**arguments, "learning_rate": lambda step: factor * schedule(step)}
    if settings.optimizer in optim.OPTIMIZERS:
        taken = inspect.signature(optim.OPTIMIZERS[settings.optimizer]).parameters
        if "weight_decay" in taken:
            decay = arguments.get("weight_decay", taken["weight_decay"].default)
            scaled["weight_decay"] = decay / factor
    return scaled


def check_matches(setting: str, pattern: str, names: Collection[str], missed: str) -> None:
    """Raise a ValueError unless a pattern matches a whole path of a parameter.

    Args:
        setting: the setting and its value, for the error.
        pattern: a regular expression.
        names: the paths of all parameters.
        missed: what the pattern is said to match, for the error.
    """
    try:
        found = any(re.fullmatch(pattern, name) for name in names)
    except re.error as error:
        raise ValueError(f"{setting}: bad pattern: {error}") from error
    if not found:
        raise ValueError(f"{setting} matches {missed}; they are {', '.join(names)}")
