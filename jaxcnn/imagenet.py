"""The names of ImageNet's 1,000 classes, in the order of its pretrained networks' outputs.

The classes of the ILSVRC 2012 classification task (Russakovsky et al., 2015, arXiv:1409.0575),
ordered by WordNet synset, under the one short name that torchvision prints for each
(torchvision.models._meta._IMAGENET_CATEGORIES).
"""

from functools import cache
from importlib import resources


@cache
def class_names() -> tuple[str, ...]:
    """Return the 1,000 names; the i-th is that of output i, as "tench" of output 0."""
    text = resources.files("jaxcnn").joinpath("imagenet_classes.txt").read_text(encoding="utf-8")
    return tuple(text.splitlines())
