"""Things built by name with PyTorch's arguments: one lookup and one error for all tables."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any


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
