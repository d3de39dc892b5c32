"""A random transform: what it draws, kept apart from what it does with the numbers drawn."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxcnn.augment.arguments import probability
from jaxcnn.augment.flips_and_crops import select

Numbers = dict[str, jax.Array]
Shape = tuple[int, ...]


class Transform(NamedTuple):
    """A random transform of a batch.

    Attributes:
        draw: (key, shape of the images (B, H, W, C)) -> numbers, an entry an image; drawn in
            float32, int32 or bool whatever the images' dtype, so that float64 sees the same.
        apply: (images (B, H, W, C) in [0, 1], numbers) -> images, deterministic.
    """

    draw: Callable[[jax.Array, Shape], Numbers]
    apply: Callable[[jax.Array, Numbers], jax.Array]


def sometimes(
    name: str,
    p: Any,
    draw: Callable[[jax.Array, Shape], Numbers],
    apply: Callable[[jax.Array, Numbers], jax.Array],
) -> Transform:
    """Make a transform that every image goes through with probability p, drawn as `chosen`.

    With p = 1 nothing is chosen, and with p = 0 nothing done: images come out as they went in, of
    any size. In between the transform must keep the images' size.

    Args:
        name: of the transform, for errors.
        p: number in [0, 1].
        draw: as `Transform.draw`.
        apply: as `Transform.apply`.

    Raises:
        ValueError: p is no probability.
    """
    p = probability(name, p)
    if p == 0:
        return Transform(lambda key, shape: {}, lambda images, numbers: images)
    if p == 1:
        return Transform(draw, apply)

    def draw_some(key: jax.Array, shape: Shape) -> Numbers:
        key, chosen = jax.random.split(key)
        return {"chosen": choose(chosen, p, shape), **draw(key, shape)}

    def apply_some(images: jax.Array, numbers: Numbers) -> jax.Array:
        return select(name, numbers["chosen"], apply(images, numbers), images)

    return Transform(draw_some, apply_some)


def choose(key: jax.Array, p: float, shape: Shape) -> jax.Array:
    """Draw (B,) bool, each True with probability p."""
    return jax.random.bernoulli(key, jnp.float32(p), shape[:1])


def uniform(key: jax.Array, interval: tuple[float, float], shape: Shape) -> jax.Array:
    """Draw float32 numbers of that shape between both ends of the interval, which may be equal."""
    low, high = interval
    return jax.random.uniform(key, shape, jnp.float32, low, high)
