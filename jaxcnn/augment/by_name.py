"""Transforms by name: the table that recipes and scripts choose from, and their composition."""

import ast
import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxcnn import named
from jaxcnn.augment.random_color import color_jitter, random_grayscale
from jaxcnn.augment.random_crops import random_crop, random_resized_crop
from jaxcnn.augment.random_geometry import (
    random_affine,
    random_horizontal_flip,
    random_rotation,
    random_scale,
    random_vertical_flip,
)
from jaxcnn.augment.transform import Transform

TRANSFORMS: dict[str, Callable[..., Transform]] = {
    "random_crop": random_crop,
    "random_resized_crop": random_resized_crop,
    "random_horizontal_flip": random_horizontal_flip,
    "random_vertical_flip": random_vertical_flip,
    "random_rotation": random_rotation,
    "random_scale": random_scale,
    "random_affine": random_affine,
    "color_jitter": color_jitter,
    "random_grayscale": random_grayscale,
}

Augment = Callable[[jax.Array, jax.Array], jax.Array]


def describe() -> dict[str, str]:
    """Return every transform's name with its arguments and their defaults: "p=0.5"."""
    described = {}
    for name, builder in TRANSFORMS.items():
        parameters = inspect.signature(builder).parameters.values()
        texts = [p.name if p.default is p.empty else f"{p.name}={p.default!r}" for p in parameters]
        described[name] = ", ".join(texts)
    return described


def create(text: str, image_shape: tuple[int, int, int]) -> Augment | None:
    """Build an augmentation from its text: transforms separated by commas, done in that order.

    `random_crop(padding=4), random_horizontal_flip, color_jitter(brightness=0.2)`: names of
    `TRANSFORMS`, arguments by name, values as Python literals. The result draws anew for every
    image, with a key of its own for every transform.

    Args:
        text: the transforms; empty for none.
        image_shape: the network's (H, W, C). H, W are the `size` of random_resized_crop where it is
            not given, and of random_crop, which keeps the images' own where they are smaller.

    Returns:
        (key, images) -> images; None for an empty text. It takes (B, h, w, C), uint8 or floating
        in [0, 1], of any size, and returns floats in [0, 1] (float32 for uint8), in the same order.
        It can be jitted and mapped over keys.

    Raises:
        ValueError: a text of another form, an unknown name or argument, a bad value. While tracing:
            images of other channels or dtype, or too small for a crop.
    """
    chosen = _parse(text)
    for name, arguments in chosen:
        _build(name, arguments, image_shape, image_shape)
    if not chosen:
        return None

    def augment(key: jax.Array, images: jax.Array) -> jax.Array:
        images = _to_floats(images, image_shape[2])
        for place, (name, arguments) in enumerate(chosen):
            transform = _build(name, arguments, image_shape, images.shape[1:])
            numbers = transform.draw(jax.random.fold_in(key, place), images.shape)
            images = transform.apply(images, numbers)
        return images

    return augment


def _build(
    name: str, arguments: dict[str, Any], network: tuple[int, ...], images: tuple[int, ...]
) -> Transform:
    """Build a transform for a network's and the images' (H, W, C)."""
    if name == "random_resized_crop":
        arguments = {"size": network[:2], **arguments}
    elif name == "random_crop":
        arguments = {"size": tuple(map(min, network[:2], images[:2])), **arguments}
    try:
        return named.build("transform", TRANSFORMS, name, **arguments)
    except ValueError as error:
        raise ValueError(f"augment: {error}") from error


def _parse(text: str) -> list[tuple[str, dict[str, Any]]]:
    """Return the names of the text with their arguments."""
    try:
        parsed = ast.parse(f"[{text}\n]", mode="eval").body
        if not isinstance(parsed, ast.List):  # "a], [b"
            raise ValueError(ast.dump(parsed))
        return [_read(node) for node in parsed.elts]
    except (SyntaxError, ValueError) as error:
        raise ValueError(
            f"augment: expected transforms like random_crop(padding=4), random_horizontal_flip, "
            f"with arguments by name and Python literals as values, got {text!r}"
        ) from error


def _read(node: ast.expr) -> tuple[str, dict[str, Any]]:
    """Return a transform's name and arguments; ValueError if the node is something else."""
    call = node if isinstance(node, ast.Call) else ast.Call(node, [], [])
    if not isinstance(call.func, ast.Name) or call.args:
        raise ValueError(ast.dump(node))
    arguments = {}
    for keyword in call.keywords:
        if keyword.arg is None:
            raise ValueError("**")
        arguments[keyword.arg] = ast.literal_eval(keyword.value)
    return call.func.id, arguments


def _to_floats(images: jax.Array, channels: int) -> jax.Array:
    floating = jnp.issubdtype(images.dtype, jnp.floating)
    if images.ndim != 4 or images.shape[3] != channels or not (floating or images.dtype == "uint8"):
        raise ValueError(
            f"augment: images must be (B, H, W, {channels}), uint8 or floating in [0, 1], got "
            f"{images.shape} {images.dtype}"
        )
    return images if floating else images.astype(jnp.float32) / jnp.float32(255)
