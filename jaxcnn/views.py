"""What evaluation looks at besides the image: its mirror image, and both a pixel further.

Test-time augmentation: Krizhevsky, Sutskever and Hinton, 2012, section 4.1, average over crops and
their mirror images; the weights of shifted ones are Keller Jordan's, 2024, arXiv:2404.00498,
section 3.5. `jaxcnn.train.make_eval_step` averages the logits.
"""

from collections.abc import Callable, Sequence

import jax

from jaxcnn.augment import pad

Views = Callable[[jax.Array], Sequence[tuple[float, jax.Array]]]
"""Images (B, H, W, C) -> pairs of a weight and images of the same shape; the weights' sum is 1."""


def mirrored(images: jax.Array) -> list[tuple[float, jax.Array]]:
    """Return images and their mirror images, left to right, each with the weight 1/2.

    Args:
        images: (B, H, W, C).
    """
    return [(0.5, images), (0.5, images[:, :, ::-1])]


def mirrored_and_shifted(images: jax.Array) -> list[tuple[float, jax.Array]]:
    """Return images, shifted a pixel up and left or down and right, and all their mirror images.

    A shifted image is filled up by reflection. The two unshifted views have the weight 1/4 each,
    the four shifted ones 1/8 each.

    Args:
        images: (B, H, W, C), at least 2x2.
    """
    padded = pad(images, 1, "reflect")
    shifted = (padded[:, 2:, 2:], padded[:, :-2, :-2])
    return [
        (share * weight, view)
        for share, turned in ((0.5, images), *((0.25, moved) for moved in shifted))
        for weight, view in mirrored(turned)
    ]


VIEWS: dict[str, Views | None] = {
    "one": None,
    "mirrored": mirrored,
    "mirrored and shifted": mirrored_and_shifted,
}
"""Views by name; None is the image alone."""
