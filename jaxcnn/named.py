"""Things by name: the variants that a package's files define, and builders with their arguments."""

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any


def variants(package: ModuleType) -> dict[str, Any]:
    """Return the union of the dicts `VARIANTS` of a package's files: name -> variant.

    Raises:
        RuntimeError: two files define the same name.
    """
    found = {}
    for info in pkgutil.iter_modules(package.__path__):
        module = importlib.import_module(f"{package.__name__}.{info.name}")
        for name, variant in module.VARIANTS.items():
            if name in found:
                raise RuntimeError(f"{name!r} is defined twice, again in {module.__file__}")
            found[name] = variant
    return found


def build(kind: str, table: Mapping[str, Callable], name: str, *values: Any, **arguments) -> Any:
    """Call `table[name](*values, **arguments)`, checking the name and the arguments first.

    Args:
        kind: what the table holds, for the error: "optimizer", "schedule".
        table: name -> builder, whose keyword-only parameters are the user's arguments.
        name: a key of the table.
        *values: what every builder of the table takes.
        **arguments: the user's.

    Raises:
        ValueError: unknown name, an argument that the builder does not take, or a missing one.
    """
    if name not in table:
        raise ValueError(f"unknown {kind} {name!r}; known: {', '.join(sorted(table))}")
    parameters = inspect.signature(table[name]).parameters.values()
    options = {p.name: p for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}
    if unknown := sorted(set(arguments) - set(options)):
        takes = ", ".join(options) or "no arguments"
        raise ValueError(f"{kind} {name!r} takes {takes}; got {', '.join(unknown)}")
    missing = [key for key, p in options.items() if p.default is p.empty and key not in arguments]
    if missing:
        raise ValueError(f"{kind} {name!r} needs {', '.join(missing)}")
    return table[name](*values, **arguments)
