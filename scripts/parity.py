"""Compare networks with their PyTorch twins, or a pair of one's own, and print the errors.

    python scripts/parity.py                          every network, float64 and float32
    python scripts/parity.py cnn_mnist --format json --out parity.json
    python scripts/parity.py --pair my_module:my_pair
    python scripts/parity.py vgg16 --publish          into the published tables, beside the others
    python scripts/parity.py --render                 the published tables again, nothing compared

Exit status 1 if a float64 error exceeds its budget.
"""

import importlib
import os
import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from _cli import run

# The script's own folder holds a file of the package's name, this one.
sys.path[:] = [p for p in sys.path if Path(p or ".").resolve() != Path(__file__).resolve().parent]

from jaxcnn import models  # noqa: E402
from jaxcnn.precision import Precision  # noqa: E402
from parity import harness, report  # noqa: E402
from parity import publish as published  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]


def main(
    networks: Annotated[tuple[str, ...], tyro.conf.Positional] = (),
    /,
    dtype: Literal["float64", "float32", "both"] = "both",
    format: Literal["text", "markdown", "json"] = "text",
    out: Path | None = None,
    pair: str | None = None,
    products: Precision = "float32",
    functional: bool = False,
    where: bool = False,
    publish: bool = False,
    render: bool = False,
    seed: int = 0,
    batch_size: int = 4,
) -> None:
    """Compare networks with their PyTorch twins to the full depth.

    Args:
        networks: names (see jaxcnn.models.names()); all of them if none is given.
        dtype: what to compare in; float32 errors stand beside PyTorch's own rounding.
        format: of the table.
        out: file to write the table to, in place of standard output.
        pair: module:function that returns (torch module, Flax module, (H, W, C)); compared in
            place of the project's networks. The current directory is searched for the module.
        products: what our float32 side computes in; the table says how far it is from PyTorch's
            float32 then, with --dtype float32.
        functional: with --pair, let layers without parameters exist on one side only.
        where: also say at which layer, parameter and step the sides part first.
        publish: put the networks' numbers into parity/results/parity.json as soon as each has
            them, and write parity/results/parity.md and the README's table anew from that file.
        render: write those two anew and compare nothing.
        seed: of weights, images and dropout masks.
        batch_size: images a batch.
    """
    if pair is not None and networks:
        raise ValueError("give either networks or --pair, not both")
    if publish or render:
        if pair is not None or dtype != "both" or format != "text" or out is not None or where:
            raise ValueError(
                "--publish and --render take no --pair, --dtype, --format, --out or --where"
            )
        if render and (publish or networks):
            raise ValueError("--render compares nothing: give neither networks nor --publish")
    if products != "float32" and dtype != "float32":
        raise ValueError(f"--products {products}: expected --dtype float32 with it")
    options = {"seed": seed, "batch_size": batch_size}
    if pair is None:
        unknown = sorted(set(networks) - set(models.names()))
        if unknown:
            known = ", ".join(models.names())
            raise ValueError(f"unknown network {', '.join(unknown)}; known: {known}")
        networks = networks or tuple(models.names())
        makes = [partial(_named, name, products, **options) for name in networks]
    else:
        makes = [_own(pair, products, functional=functional, **options)]
    if publish or render:
        # First of all: what is wrong with the documents shows before hours of comparing.
        published.render(ROOT)
        if publish:
            _publish(dict(zip(networks, makes, strict=True)), options)
        return
    dtypes = ("float64", "float32") if dtype == "both" else (dtype,)
    table = [row for make in makes for row in report.rows(make, dtypes)]

    text = {
        "text": report.as_text,
        "markdown": report.as_markdown,
        "json": partial(report.as_json, **options, products=products),
    }[format](table)
    if out is None:
        print(text)
    else:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text + "\n", encoding="utf-8")
    if where:
        for make in makes:
            double = make("float64")
            print(f"\n{double.name}\n{report.first_divergence(double)}", file=sys.stderr)
    if not all(row.passed for row in table):
        sys.exit(1)


def _publish(makes: dict[str, report.MakePair], options: dict[str, int]) -> None:
    passed = True
    for name, make in makes.items():
        print(f"{name} ...", flush=True)
        record = published.add(ROOT, name, make, **options)
        print(f"{report.as_text(record.rows)}\n{record.seconds:.0f} s\n", flush=True)
        passed &= record.passed
    if not passed:
        sys.exit(1)


def _in(dtype: str, products: Precision) -> dict[str, Any]:
    """Return the options of a pair: the float64 one, beside which a table stands, is exact."""
    return {"dtype": dtype, "products": products if dtype == "float32" else "float32"}


def _named(name: str, products: Precision, dtype: str, **options) -> harness.Pair:
    return harness.pair(name, **_in(dtype, products), **options)


def _own(path: str, products: Precision, **options):
    """Import module:function and return dtype -> pair."""
    module_name, colon, function_name = path.partition(":")
    if not (module_name and colon and function_name):
        raise ValueError(f"--pair must be module:function, got {path!r}")
    sys.path.insert(0, os.getcwd())
    function = getattr(importlib.import_module(module_name), function_name, None)
    if not callable(function):
        raise ValueError(f"--pair: {module_name} has no function {function_name!r}")
    torch_module, flax_module, input_shape = function()

    def make(dtype: str) -> harness.Pair:
        of_dtype = _in(dtype, products)
        return harness.make_pair(torch_module, flax_module, input_shape, **of_dtype, **options)

    return make


if __name__ == "__main__":
    run(main)
