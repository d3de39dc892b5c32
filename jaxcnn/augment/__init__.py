"""More data from the data at hand: random transforms of a batch, drawn from a key, in the step.

Two layers. The functions (`flip_horizontal`, `crop`, `resized_crop`, `affine`, `adjust_hue`, ...)
are torchvision.transforms.functional's (0.28) on floating (B, H, W, C) images in [0, 1], with one
number an image in place of one for all. The transforms (`random_crop`, `color_jitter`, ...) have
the names, arguments and defaults of torchvision.transforms' classes, draw these numbers and apply
them. `create` composes transforms by name into one `(key, images) -> images`; labels stay as they
are, for no transform moves an image to another place of the batch.
"""

from jaxcnn.augment.by_name import TRANSFORMS, Augment, create, describe
from jaxcnn.augment.color import (
    adjust_brightness,
    adjust_contrast,
    adjust_hue,
    adjust_saturation,
    to_grayscale,
)
from jaxcnn.augment.flips_and_crops import crop, flip_horizontal, flip_vertical, pad
from jaxcnn.augment.random_color import color_jitter, random_grayscale
from jaxcnn.augment.random_crops import random_crop, random_resized_crop
from jaxcnn.augment.random_geometry import (
    random_affine,
    random_horizontal_flip,
    random_rotation,
    random_scale,
    random_vertical_flip,
)
from jaxcnn.augment.resample import resized_crop
from jaxcnn.augment.transform import Transform
from jaxcnn.augment.warp import affine, rotate, scale

__all__ = [
    "TRANSFORMS",
    "Augment",
    "Transform",
    "adjust_brightness",
    "adjust_contrast",
    "adjust_hue",
    "adjust_saturation",
    "affine",
    "color_jitter",
    "create",
    "crop",
    "describe",
    "flip_horizontal",
    "flip_vertical",
    "pad",
    "random_affine",
    "random_crop",
    "random_grayscale",
    "random_horizontal_flip",
    "random_resized_crop",
    "random_rotation",
    "random_scale",
    "random_vertical_flip",
    "resized_crop",
    "rotate",
    "scale",
    "to_grayscale",
]
