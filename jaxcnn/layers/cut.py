"""Where a network is cut in two, so that its head can be trained on what the rest puts out once."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
from flax import linen as nn
from jax.extend.core import Literal

from jaxcnn.layers.regularize import Dropout, Dropout2d
from jaxcnn.layers.tracing import enter, leave, record_calls


class Cut(NamedTuple):
    """The input of a module that all that the images tell the logits goes through.

    Attributes:
        path: names from the network down to the module.
        shape: of its input, less the batch.
        outputs: what the network returns in training, as `jax.ShapeDtypeStruct`, auxiliary heads'
            logits included.
    """

    path: tuple[str, ...]
    shape: tuple[int, ...]
    outputs: Any


def find_cut(
    model: nn.Module,
    head: str,
    variables: Mapping[str, Any],
    image_shape: Sequence[int],
    dtype: Any,
) -> Cut:
    """Find where to cut a network for its head, by tracing it; nothing is computed.

    That is the input of the head or, where its input is a function of a dropout's output alone
    (SqueezeNet), of that dropout, the first of several: so that in training the dropout applies to
    what was computed before it.

    Args:
        model: a network with `apply(variables, images, train=...)`.
        head: path of a module joined with dots, as in `state_dict` keys.
        variables: arrays or `jax.ShapeDtypeStruct`s.
        image_shape: (H, W, C).
        dtype: of the images.

    Raises:
        ValueError: no module of this name, one that is called several times or recomputed for the
            gradient (`remat`), or one that the images reach the logits past.
    """

    def run(variables, images):
        key = jax.random.key(0)
        mutable = ["batch_stats"]
        return model.apply(variables, images, train=True, rngs={"dropout": key}, mutable=mutable)[0]

    # Two images: batch norm in training wants more than one value a channel.
    images = jax.ShapeDtypeStruct((2, *image_shape), dtype)
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), dict(variables))
    with record_calls(mark=True) as calls:
        closed, outputs = jax.make_jaxpr(run, return_shape=True)(shapes, images)
    program = closed.jaxpr
    inputs, results = {}, {}  # number of a call -> the variable
    for equation in program.eqns:
        if equation.primitive is enter:
            inputs.setdefault(equation.params["number"], equation.invars[0])
        elif equation.primitive is leave:
            number, call = equation.params["number"], calls[equation.params["call"]]
            results.setdefault(number, (equation.outvars[0], call))
    called = [number for number, (_, call) in results.items() if call.name == head]
    if len(called) != 1:
        last = ", ".join(repr(call.name) for _, call in list(results.values())[-4:-1])
        raise ValueError(
            f"head={head!r}: expected a module that {type(model).__name__} calls once; its last "
            f"modules are {last}"
        )
    makers = {variable: equation for equation in program.eqns for variable in equation.outvars}
    dropouts = {
        variable: number
        for number, (variable, call) in results.items()
        if isinstance(call.module, Dropout | Dropout2d)
    }
    (place,) = called
    while len(origins := _origins([inputs[place]], makers, dropouts)) == 1:
        (origin,) = origins
        if origin not in dropouts:
            break
        place = dropouts[origin]
    result, call = results[place]
    # The main head's logits come first, the images last.
    if program.invars[-1] in _origins(program.outvars[:1], makers, [result]):
        raise ValueError(
            f"head={head!r}: the logits of {type(model).__name__} follow from the images not only "
            f"through it; expected the last module with parameters"
        )
    return Cut(call.path, inputs[place].aval.shape[1:], outputs)


def _origins(variables: Iterable[Any], makers: Mapping[Any, Any], ends: Iterable[Any]) -> set[Any]:
    """Return what variables are computed from: inputs of the program, and which of the `ends`."""
    ends, seen, found, todo = set(ends), set(), set(), list(variables)
    while todo:
        variable = todo.pop()
        if isinstance(variable, Literal) or variable in seen:
            continue
        seen.add(variable)
        if variable in ends or variable not in makers:
            found.add(variable)
        else:
            todo += makers[variable].invars
    return found
