"""What a network does between its modules, changed from outside: no network knows of it.

Each function here is a context for `model.apply`. It acts on what is traced in its `with` block: a
jitted function must open it inside, for one that is compiled already stays as it was.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import jax
from flax import linen as nn

from jaxcnn.layers.norm import BatchNorm2d

_Path = tuple[str, ...]


@contextmanager
def frozen_norms(select: Callable[[str], bool]) -> Iterator[None]:
    """Run the selected batch norms as in evaluation, whatever `train` says.

    They normalise by their running statistics, which stay as they are, and count no batches;
    gradients go through them, to their scales and biases too, and everything else (dropout) is as
    `train` says. PyTorch's `norm.eval()` in a network that is in training mode. A norm without
    running statistics has no other mode.

    Args:
        select: path of a norm joined with dots, PyTorch's name of it ("layer1.0.bn1") -> whether
            it is frozen.
    """

    def freeze(function, args, kwargs, context):
        if isinstance(context.module, BatchNorm2d) and _is_call(context):
            if select(".".join(context.module.path)):
                kwargs = kwargs | {"train": False}
        return function(*args, **kwargs)

    with nn.intercept_methods(freeze):
        yield


@contextmanager
def record_input(path: _Path) -> Iterator[list[jax.Array]]:
    """Record the first argument of every call of one module.

    Args:
        path: names from the network down to the module.

    Yields:
        The list that fills up.
    """
    inputs: list[jax.Array] = []

    def record(function, args, kwargs, context):
        if _is_call(context) and context.module.path == path:
            inputs.append(args[0])
        return function(*args, **kwargs)

    with nn.intercept_methods(record):
        yield inputs


@contextmanager
def replaced_input(path: _Path, value: jax.Array) -> Iterator[None]:
    """Give one module another input; what the network calls before it runs as in evaluation.

    From that module on, and in the modules that hold it, `train` is what the network was given.

    Args:
        path: names from the network down to the module, which is called once.
        value: in place of the module's first argument.
    """
    reached = False

    def replace(function, args, kwargs, context):
        nonlocal reached
        here = context.module.path
        if _is_call(context) and here == path:
            reached, args = True, (value, *args[1:])
        elif not reached and kwargs.get("train") and path[: len(here)] != here:
            kwargs = kwargs | {"train": False}
        return function(*args, **kwargs)

    with nn.intercept_methods(replace):
        yield


def _is_call(context: nn.module.InterceptorContext) -> bool:
    return context.method_name == "__call__"
