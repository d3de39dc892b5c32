"""Print the shape after every block of a network, or after every layer, and its parameters.

    python scripts/summarize.py vgg_cifar
    python scripts/summarize.py vgg_cifar --input 3x256x256 --depth 2
    python scripts/summarize.py cnn_mnist --depth 0

Nothing is computed: the largest network takes seconds. A Linear behind a flatten is the one that
the network has when it is initialised for that input.
"""

from typing import Annotated

import tyro
from _cli import run

from jaxcnn import models, summary


def main(
    network: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NETWORK")],
    /,
    input: str | None = None,
    depth: int = 1,
    num_classes: int | None = None,
    batch_size: int = 1,
    train: bool = False,
) -> None:
    """Print the shape after every block of a network, and its parameters.

    Args:
        network: name (see train.py --list).
        input: size of an image, CxHxW as PyTorch has it; by default the documented one.
        depth: components of the dotted names that make a row: 1 for a row a block, 0 for a row a
            layer.
        num_classes: outputs of the last layer; by default the network's own.
        batch_size: images a batch.
        train: the training mode, which also runs auxiliary heads.
    """
    if depth < 0:
        raise ValueError(f"--depth must be at least 0, got {depth}")
    model = models.create(network, num_classes=num_classes)
    shape = models.input_shape(network) if input is None else summary.parse_input(input)
    table = summary.rows(model, shape, batch_size=batch_size, depth=depth or None, train=train)
    height, width, channels = shape
    print(
        f"{network}, {'training' if train else 'evaluation'}; input C x H x W: "
        f"{channels}x{height}x{width}; outputs B x H x W x C or B x K\n"
    )
    print(summary.as_text(table))


if __name__ == "__main__":
    run(main)
