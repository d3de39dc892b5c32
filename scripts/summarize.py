"""Print what every layer or block of a network puts out and costs, and the totals.

    python scripts/summarize.py resnet50 --input 3x224x224
    python scripts/summarize.py vgg_cifar --input 3x256x256 --depth 1
    python scripts/summarize.py cnn_mnist --format json --out cnn.json

A row a layer: output shape, kernel, stride, parameters, MACs, FLOPs, receptive field, memory of its
output; `jaxcnn.summary` has the formulas. Nothing is computed: the largest network takes seconds. A
Linear behind a flatten is the one that the network has when it is initialised for that input.
"""

import json
from pathlib import Path
from typing import Annotated, Literal

import tyro
from _cli import run

from jaxcnn import figures, models, summary
from jaxcnn.files import write_atomically


def main(
    network: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NETWORK")],
    /,
    input: str | None = None,
    depth: int = 0,
    num_classes: int | None = None,
    batch_size: int = 1,
    train: bool = False,
    xla: bool = False,
    format: Literal["text", "markdown", "json"] = "text",
    out: Path | None = None,
) -> None:
    """Print what every layer or block of a network puts out and costs, and the totals.

    Args:
        network: name (see train.py --list).
        input: size of an image, CxHxW as PyTorch has it; by default the documented one.
        depth: components of the dotted names that make a row: 1 for a row a block, 0 for a row a
            layer.
        num_classes: outputs of the last layer; by default the network's own.
        batch_size: images a batch.
        train: the training mode, which also runs auxiliary heads.
        xla: also give the operations that XLA's own analysis counts.
        format: of the table.
        out: file to write to, in place of standard output.
    """
    if depth < 0:
        raise ValueError(f"--depth must be at least 0, got {depth}")
    model = models.create(network, num_classes=num_classes)
    shape = models.input_shape(network) if input is None else summary.parse_input(input)
    options = {"batch_size": batch_size, "train": train}
    table = summary.rows(model, shape, depth=depth or None, **options)
    totals = figures.totals(table)
    if xla:
        totals["XLA's count of FLOPs"] = f"{summary.xla_flops(model, shape, **options):,.0f}"
    height, width, channels = shape
    if format == "json":
        about = {"network": network, "input": [channels, height, width], **options}
        text = json.dumps(about | {"rows": figures.as_records(table), "totals": totals}, indent=1)
    else:
        text = "\n".join(
            [
                f"{network}, {'training' if train else 'evaluation'}; input C x H x W: "
                f"{channels}x{height}x{width}; outputs B x H x W x C or B x K",
                "",
                figures.as_text(table, markdown=format == "markdown"),
                "",
                "; ".join(f"{name} {value}" for name, value in totals.items()),
            ]
        )
    if out is None:
        print(text)
    else:
        write_atomically(out, f"{text}\n".encode())


if __name__ == "__main__":
    run(main)
