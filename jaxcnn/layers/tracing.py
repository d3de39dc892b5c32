"""Every call of a module inside a network, recorded while the network runs or is traced."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any, NamedTuple

import jax
from flax import linen as nn
from jax.extend.core import Primitive


class Call(NamedTuple):
    """One call of a module.

    Attributes:
        path: names from the network down to the module, () for the network itself.
        module: the module, for its class and attributes.
        inputs: its positional arguments, arrays as `jax.ShapeDtypeStruct`.
        output: what it returned, arrays as `jax.ShapeDtypeStruct`; None if not called.
    """

    path: tuple[str, ...]
    module: nn.Module
    inputs: tuple
    output: Any

    @property
    def name(self) -> str:
        """The path joined with dots, PyTorch's name of the module; '' for the network itself."""
        return ".".join(self.path)


# Identities that tell where a call begins and ends in the jaxpr of a network that is only traced:
# they have no rule for running. `enter` has a number of its own; `leave` says which call of the
# list it ends (`call`), and the number of its `enter`.
enter = Primitive("enter_call")
leave = Primitive("leave_call")
enter.def_abstract_eval(lambda x, **_: x)
leave.def_abstract_eval(lambda x, **_: x)


@contextmanager
def record_calls(*, mark: bool = False) -> Iterator[list[Call]]:
    """Record every `__call__` of a Linen module in the `with` block, in the order they return.

    A module comes behind those that it calls. Works under `jax.eval_shape`, where nothing is
    computed.

    Args:
        mark: put `enter` and `leave` around every call, for `jax.make_jaxpr` and nothing else.

    Yields:
        The list that fills up.

    Raises:
        ValueError: a module's own, the name of the innermost one in front.
    """
    calls: list[Call] = []
    named: list[ValueError] = []
    numbers = count()

    def record(function, args, kwargs, context):
        path, called = context.module.path, context.method_name == "__call__"
        number = next(numbers)
        if mark and called:
            args = _bind(enter, args, number=number)
        try:
            output = function(*args, **kwargs)
        except ValueError as error:
            if error in named or not path:
                raise
            named.append(ValueError(f"{'.'.join(path)}: {error}"))
            raise named[-1] from error
        if called:
            if mark:
                output = _bind(leave, output, number=number, call=len(calls))
            calls.append(Call(path, context.module, _shapes(args), _shapes(output)))
        return output

    with nn.intercept_methods(record):
        yield calls


def _bind(primitive: Primitive, tree: Any, **numbers: int) -> Any:
    return jax.tree.map(
        lambda x: primitive.bind(x, **numbers) if isinstance(x, jax.Array) else x, tree
    )


def _shapes(tree: Any) -> Any:
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype) if isinstance(x, jax.Array) else x, tree
    )
