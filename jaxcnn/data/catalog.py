"""Every data source by its name: `load("cifar10", (32, 32, 3))`, `load("folder:pets", ...)`."""

from pathlib import Path

from jaxcnn.data import tfds_sets
from jaxcnn.data.cifar import load_cifar
from jaxcnn.data.dataset import DataError, Dataset, check_image_shape
from jaxcnn.data.digits import load_digits
from jaxcnn.data.encoded import load_encoded
from jaxcnn.data.folder import open_folder
from jaxcnn.data.idx import load_idx


def sources() -> dict[str, str]:
    """Return every source's name, or the form of its name, with a line of description."""
    return {
        "digits": "8x8 gray digits that come with scikit-learn, 1,797, nothing to download",
        **{name: f"{text} (TFDS)" for name, text in tfds_sets.NAMES.items()},
        "idx:DIR": "MNIST's own four files, gzipped or not",
        "cifar:DIR": "CIFAR-10's own Python batches",
        "folder:PATH": "a tree of image files, or a .tar[.gz/.xz/.bz2] or .zip of one: "
        "train/CLASS/IMAGE and test/CLASS/IMAGE, or CLASS/IMAGE",
    }


def load(
    source: str,
    image_shape: tuple[int, int, int],
    *,
    seed: int = 0,
    holdout: float = 0.2,
    cache_dir: Path | None = None,
    stream: bool | None = None,
    tfds_dir: Path | None = None,
    skip_corrupt: bool = False,
) -> Dataset:
    """Load a source by name (see `sources`). Nothing is downloaded.

    `image_shape` is (H, W, C), the network's or, where images are augmented or centre-cropped in
    the step, a larger one to keep them at. Images come with C channels (gray repeated to RGB, RGB
    to gray by the ITU-R 601 luma) as uint8, at the source's own size where it has one
    (`make_preprocess` resizes them in the step); folders and cats_vs_dogs come at H, W.

    `seed` and `holdout` divide sources without a test split: that fraction of each class is held
    out. Decoded images are kept in `cache_dir` (default $XDG_CACHE_HOME/jaxcnn, ~/.cache/jaxcnn).
    `stream` True gives `Files` for folders and TFDS sets, False `Arrays`, None `Files` where the
    decoded images would take more than 2 GiB. `tfds_dir` is TFDS's data directory (default
    $TFDS_DATA_DIR, ~/tensorflow_datasets). `skip_corrupt` leaves image files out that cannot be
    decoded, and lists them on standard error; otherwise they are an error that lists them (of
    `Files`, which are decoded later, an error when met).

    Raises:
        DataError: an unknown source, an argument out of range, damaged or inconsistent data.
        FileNotFoundError: the data are not there; the message says which command gets them.
        ImportError: a TFDS set without TensorFlow Datasets.
    """
    shape = check_image_shape(image_shape)
    kind, colon, place = source.partition(":")
    forms = {"idx", "cifar", "folder"} if colon and place else {"digits", *tfds_sets.NAMES}
    if kind not in forms or bool(colon) != bool(place):
        known = ", ".join(sources())
        raise DataError(f"source={source!r}: not a known source; expected one of {known}")
    if not 0 < holdout < 1:
        raise DataError(f"holdout={holdout}: expected a fraction between 0 and 1")
    if stream and kind in ("digits", "idx", "cifar"):
        raise DataError(f"stream=True: {kind} is small and is held in memory; leave stream out")
    if skip_corrupt and kind in ("digits", "idx", "cifar"):
        raise DataError(f"skip_corrupt=True: {kind} has no image files; leave skip_corrupt out")
    path = Path(place).expanduser()
    if kind == "digits":
        loaded = load_digits(shape[2], seed=seed, holdout=holdout)
    elif kind == "idx":
        loaded = load_idx(path, shape[2])
    elif kind == "cifar":
        loaded = load_cifar(path, shape[2])
    else:
        if kind == "folder":
            encoded = open_folder(path)
        else:
            encoded, shape = tfds_sets.open_tfds(kind, shape, tfds_dir)
        loaded = load_encoded(
            encoded,
            shape,
            seed=seed,
            holdout=holdout,
            cache_dir=cache_dir,
            stream=stream,
            skip_corrupt=skip_corrupt,
        )
    return Dataset(source, *loaded)
