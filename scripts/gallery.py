"""Draw what convolutions, pools and a trained network make of a photograph.

    python scripts/gallery.py --out gallery
    python scripts/gallery.py photo.jpg --weights squeezenet1_1.npz
    python scripts/gallery.py photo.jpg --weights RUN/best.safetensors

Of the photograph the centre is shown, four to three; without one it is scikit-learn's china.jpg.
Pictures: edges.png, random_kernels.png, rectangular_kernel.png, pooling.png and, with weights,
filters.png and feature_maps.png.
"""

from pathlib import Path
from typing import Annotated, Literal

import _weights
import jax
import sklearn.datasets
import tyro
from _cli import run

from jaxcnn import canvas, gallery, models
from jaxcnn.data import read_image

_SHAPE = (360, 480, 3)
_CHINA = Path(sklearn.datasets.__file__).parent / "images" / "china.jpg"


def main(
    photo: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="PHOTO")] = _CHINA,
    /,
    weights: Path | None = None,
    network: str | None = None,
    normalization: Literal["imagenet", "symmetric", "none"] | None = None,
    out: Path = Path("gallery"),
    seed: int = 0,
) -> None:
    """Draw what convolutions, pools and a trained network make of a photograph.

    Args:
        photo: an image file that Pillow reads; by default scikit-learn's china.jpg.
        weights: a weights file under PyTorch's keys, such as a run's best.safetensors.
        network: that the weights belong to; found from their keys by default.
        normalization: what they were trained with; by default imagenet for torchvision's networks,
            symmetric for the others.
        out: folder of the pictures.
        seed: of the random kernels.
    """
    if weights is None and (network or normalization):
        raise ValueError("--network and --normalization belong to --weights")
    if not canvas.available():
        raise ModuleNotFoundError("pictures need Matplotlib: pip install 'jaxcnn[plot]'")
    loaded = None if weights is None else _weights.load(weights, network)
    pixels = read_image(photo, _SHAPE)
    out.mkdir(parents=True, exist_ok=True)
    keys = jax.random.split(jax.random.key(seed))
    rectangular = gallery.rectangular_kernel(pixels, keys[1])
    # Name -> panels, columns, title.
    pictures = {
        "edges": (gallery.edges(pixels), 2, "Eight times a pixel less its neighbours"),
        "random_kernels": (gallery.random_kernels(pixels, keys[0]), 4, "Random 3x3 kernels"),
        "rectangular_kernel": (rectangular, 4, "A (4, 3) kernel"),
        "pooling": (gallery.pooling(pixels), 5, "Max pooling above, average pooling below"),
    }
    if loaded is not None:
        name, panels = gallery.filters(loaded.variables)
        pictures["filters"] = panels, 8, f"Filters of {name} in {loaded.network}"
        preprocess = _weights.make_preprocess(loaded.network, normalization)
        images = preprocess(read_image(photo, models.input_shape(loaded.network))[None])
        panels = gallery.feature_maps(loaded.model, loaded.variables, images)
        pictures["feature_maps"] = panels, 6, f"Feature maps of {loaded.network}, a layer a row"
    for name, (panels, columns, title) in pictures.items():
        path = out / f"{name}.png"
        gallery.draw(panels, path, columns=columns, title=title)
        print(path)


if __name__ == "__main__":
    run(main)
