"""Every call of a module inside a network, recorded while the network runs or is traced."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
from flax import linen as nn


class Call(NamedTuple):
    """One call of a module.

    Attributes:
        path: names from the network down to the module, () for the network itself.
        module: the module, for its class and attributes.
        output: what it returned, arrays as `jax.ShapeDtypeStruct`; None if not called.
    """

    path: tuple[str, ...]
    module: nn.Module
    output: Any

    @property
    def name(self) -> str:
        """The path joined with dots, PyTorch's name of the module; '' for the network itself."""
        return ".".join(self.path)


@contextmanager
def record_calls() -> Iterator[list[Call]]:
    """Record every `__call__` of a Linen module in the `with` block, in the order they return.

    A module comes behind those that it calls. Works under `jax.eval_shape`, where nothing is
    computed.

    Yields:
        The list that fills up.

    Raises:
        ValueError: a module's own, the name of the innermost one in front.
    """
    calls: list[Call] = []
    named: list[ValueError] = []

    def record(function, args, kwargs, context):
        path = context.module.path
        try:
            output = function(*args, **kwargs)
        except ValueError as error:
            if error in named or not path:
                raise
            named.append(ValueError(f"{'.'.join(path)}: {error}"))
            raise named[-1] from error
        if context.method_name == "__call__":
            shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), output)
            calls.append(Call(path, context.module, shapes))
        return output

    with nn.intercept_methods(record):
        yield calls
