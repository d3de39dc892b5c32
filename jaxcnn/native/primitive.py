"""Primitives of JAX that the library computes."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

Shapes = Callable[..., Any]
"""(*abstract arrays, **parameters) -> an abstract array or, of several results, a list of them."""


def primitive(
    name: str,
    lower: Callable[..., Any],
    shapes: Shapes,
    *,
    several: bool = False,
    static: Sequence[str] = (),
    plain: Callable[..., Any] | None = None,
) -> Primitive:
    """Make a primitive with no rules but for running and lowering.

    Args:
        name: of the primitive, behind "jaxcnn_".
        lower: a rule of `jax.interpreters.mlir`. A network's many layers are best lowered without
            `composed`, which traces a function anew for every one.
        shapes: of the results.
        several: whether the results are a sequence.
        static: names of the parameters.
        plain: (*arrays, **parameters) -> the results, lowered in its place where a size is a symbol
            (`jax.export`); None where `lower` knows of them.
    """
    if plain is not None:
        lower = _unless_symbolic(lower, mlir.lower_fun(plain, multiple_results=several))
    made = Primitive(f"jaxcnn_{name}")
    made.multiple_results = several
    made.def_impl(jax.jit(made.bind, static_argnames=tuple(static)))
    made.def_abstract_eval(shapes)
    mlir.register_lowering(made, lower)
    return made


def library_call(
    function: str,
    shapes: Shapes,
    *,
    name: str | None = None,
    several: bool = False,
    static: Sequence[str] = (),
    attributes: Callable[..., Mapping[str, Any]] = lambda **_: {},
    in_place: bool = False,
) -> Primitive:
    """Make a primitive that is one call of the library; see `primitive` for the other arguments.

    Args:
        function: of the library.
        shapes: of the results.
        name: of the primitive, behind "jaxcnn_"; None for the function's.
        several: whether the results are a sequence.
        static: names of the parameters.
        attributes: (**parameters) -> what the function is given beside arrays, as NumPy's types.
        in_place: whether the results take the place of the last arrays.
    """

    def lower(ctx, *operands, **parameters):
        found = (ctx.avals_in, ctx.avals_out)
        return call(ctx, function, operands, *found, in_place=in_place, **attributes(**parameters))

    return primitive(name or function, lower, shapes, several=several, static=static)


def composed(
    name: str,
    compute: Callable[..., Any],
    shapes: Shapes,
    *,
    several: bool = False,
    static: Sequence[str] = (),
) -> Primitive:
    """Make a primitive of JAX's operations; see `primitive` for the other arguments.

    Args:
        name: of the primitive, behind "jaxcnn_".
        compute: (*arrays, **parameters) -> the results.
        shapes: of the results.
        several: whether there are several results.
        static: names of the parameters.
    """
    lower = mlir.lower_fun(compute, multiple_results=several)
    return primitive(name, lower, shapes, several=several, static=static)


def call(
    ctx: Any,
    function: str,
    operands: Sequence[Any],
    arrays: Sequence[Any],
    results: Sequence[Any],
    *,
    in_place: bool = False,
    **attributes: Any,
) -> Sequence[Any]:
    """Lower a call of the library, in a lowering rule.

    Args:
        ctx: the rule's.
        function: of the library; the number type is the first floating one of the arrays.
        operands: what it is called with.
        arrays: the operands' abstract values.
        results: those of its results.
        in_place: whether the results take the place of the last operands.
        **attributes: what it is given beside them, as NumPy's types.
    """
    dtype = next(x.dtype.name for x in arrays if x.dtype.name.startswith("float"))
    first = len(operands) - len(results)
    places = {first + i: i for i in range(len(results))} if in_place else {}
    rule = jax.ffi.ffi_lowering(f"jaxcnn_{function}_{dtype}", operand_output_aliases=places)
    return rule(ctx.replace(avals_in=arrays, avals_out=results), *operands, **attributes)


def _unless_symbolic(lower, general):
    def rule(ctx, *operands, **parameters):
        known = all(isinstance(size, int) for array in ctx.avals_in for size in array.shape)
        return (lower if known else general)(ctx, *operands, **parameters)

    return rule


def map_plainly(made: Primitive, plain: Callable[..., Any]) -> None:
    """Give a primitive its rule for `vmap`: what is mapped is the `plain` computation, as XLA's."""

    def rule(arrays, axes, **parameters):
        out = jax.vmap(lambda *each: plain(*each, **parameters), axes)(*arrays)
        return (list(out), [0] * len(out)) if made.multiple_results else (out, 0)

    batching.primitive_batchers[made] = rule


def fold_batches(made: Primitive) -> None:
    """Give a primitive of batches, of one size, its rule for `vmap`: one larger batch."""

    def rule(arrays, axes, **parameters):
        count = next(x.shape[at] for x, at in zip(arrays, axes, strict=True) if at is not None)
        folded, batch = [], 0
        for x, at in zip(arrays, axes, strict=True):
            each = jnp.broadcast_to(x, (count, *x.shape)) if at is None else jnp.moveaxis(x, at, 0)
            batch = each.shape[1]
            folded.append(each.reshape(count * batch, *each.shape[2:]))
        out = made.bind(*folded, **parameters)
        several = made.multiple_results
        found = [x.reshape(count, batch, *x.shape[1:]) for x in (out if several else [out])]
        return (found, [0] * len(found)) if several else (found[0], 0)

    batching.primitive_batchers[made] = rule


def differentiate_plainly(made: Primitive, plain: Callable[..., Any]) -> None:
    """Give a primitive the derivative of a `plain` computation of the same.

    That may take no notice of arguments that follow from others; it must be differentiable itself.
    """

    def rule(primals, tangents, **parameters):
        given = [i for i, tangent in enumerate(tangents) if not isinstance(tangent, ad.Zero)]

        def varied(*some):
            full = list(primals)
            for i, value in zip(given, some, strict=True):
                full[i] = value
            return plain(*full, **parameters)

        return jax.jvp(varied, [primals[i] for i in given], [tangents[i] for i in given])

    ad.primitive_jvps[made] = rule
