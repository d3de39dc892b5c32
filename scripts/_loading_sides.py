"""The two sides of `benchmark_loading.py`: ours, and PyTorch's DataLoader over the same files."""

import contextlib
import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import _turns
import jax
import numpy as np
from PIL import Image, ImageOps

from jaxcnn import data, start
from jaxcnn.data.decode import center_crop_start, read_image
from jaxcnn.data.readers import Readers
from jaxcnn.fit import run_key
from jaxcnn.recipes import load_data
from jaxcnn.settings import Settings
from jaxcnn.steps import one_by_one

ALIKE = 8  # images that both sides read before they are timed, and save for comparison


def loaded(job: dict[str, Any]) -> tuple[Settings, data.Dataset]:
    """Return the settings of a job, and its data."""
    settings = Settings(
        job["network"],
        job["source"],
        1,
        job["batch"],
        0.01,
        momentum=0.9,
        image_size=job["size"],
        stream=job["stream"],
        drop_last=True,
    )
    where = {name: job[name] and Path(job[name]) for name in ("folder", "tfds_dir")}
    dataset = load_data(settings, cache_dir=where["folder"], tfds_dir=where["tfds_dir"])
    if len(dataset.train) < job["batch"]:
        raise ValueError(f"--batch {job['batch']}: {job['source']} has {len(dataset.train)} images")
    return settings, dataset


def _steps(job: dict[str, Any], split: Any) -> int:
    """Return how many batches a block loads."""
    return max(1, min(job["images"], len(split)) // job["batch"])


def ours(job: dict[str, Any]) -> dict[str, Callable[[], Any]]:
    """Return our side's blocks, see `benchmark_loading.py`."""
    began = time.perf_counter()
    settings, dataset = loaded(job)
    ready = time.perf_counter() - began
    split = dataset.train
    if isinstance(split, data.Files):
        alike = [read_image(path, split.image_shape) for path in split.paths[:ALIKE]]
        np.save(Path(job["alike"]) / "jax.npy", np.stack(alike))
    else:
        split = data.to_device(split)
    steps, waited, epochs = _steps(job, split), [], itertools.count()
    readers = Readers(job["workers"])  # as in a run, the same for all epochs
    made = start.build(settings, dataset, None)
    state, key = start.initial_state(settings, made, None, resume=False), run_key(0)

    def batches() -> Any:
        options = {"seed": 0, "epoch": next(epochs), "workers": readers}
        return data.train_batches(split, job["batch"], **options)

    def loading() -> None:
        with contextlib.closing(batches()) as found:
            for batch in itertools.islice(found, steps):
                jax.block_until_ready(batch)

    def step() -> None:
        nonlocal state
        for _ in range(steps):
            state, _ = made.train_step(state, held, key)
        jax.block_until_ready(state)

    def loop() -> None:
        nonlocal state
        began, late = time.perf_counter(), 0.0
        with one_by_one(lambda state, batch: made.train_step(state, batch, key), batches()) as go:
            for _ in range(steps):
                state, _, _, seconds = go(state, 1)
                late += seconds
            jax.block_until_ready(state)
        waited.append(late / (time.perf_counter() - began))

    with contextlib.closing(batches()) as first:
        held = next(first)

    def facts() -> dict[str, Any]:
        # The first loop of all compiled the step.
        found = {"count": steps * job["batch"], "ready_s": ready, "waited": waited[1:]}
        return found | {"input_shape": made.input_shape, "device": jax.devices()[0].device_kind}

    return {"loading": loading, "step": step, "loop": loop, _turns.FACTS: facts}


def theirs(job: dict[str, Any]) -> dict[str, Callable[[], Any]]:
    """Return the blocks of PyTorch's DataLoader over the same files."""
    import torch

    split = loaded(job)[1].train
    reads_by, fit = _transform(split.image_shape)
    mode = "L" if split.image_shape[2] == 1 else "RGB"

    class Photos(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return len(split)

        def __getitem__(self, index: int) -> Any:
            # As torchvision's ImageFolder, but for the orientation.
            with open(split.paths[index], "rb") as file:
                image = Image.open(file)
                upright = ImageOps.exif_transpose(image) if image.getexif() else image
                return fit(upright.convert(mode)), int(split.labels[index])

    photos, chosen = Photos(), range(_steps(job, split) * job["batch"])
    alike = np.stack([photos[i][0].permute(1, 2, 0).numpy() for i in range(len(split))[:ALIKE]])
    np.save(Path(job["alike"]) / "torch.npy", alike)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    loader = torch.utils.data.DataLoader(
        photos,
        job["batch"],
        sampler=torch.utils.data.SubsetRandomSampler(chosen),
        num_workers=job["workers"],
        persistent_workers=True,
        pin_memory=device == "cuda",
    )

    def loading() -> None:
        for images, labels in loader:
            images.to(device), labels.to(device)
        if device == "cuda":
            torch.cuda.synchronize()

    return {"loading": loading, _turns.FACTS: lambda: {"reads_by": reads_by}}


def _transform(shape: tuple[int, int, int]) -> tuple[str, Callable[[Any], Any]]:
    """Return what reads for PyTorch, and an image -> (C, H, W) uint8: Resize and CenterCrop."""
    side = shape[0]
    try:
        from torchvision import transforms

        parts = [transforms.Resize(side), transforms.CenterCrop(side), transforms.PILToTensor()]
        return "torchvision", transforms.Compose(parts)
    except (ImportError, RuntimeError):  # one that was built for another torch raises that
        import torch

    def fit(image: Any) -> Any:
        short = min(image.size)
        width, height = (side * length // short for length in image.size)
        left, top = center_crop_start(width, side), center_crop_start(height, side)
        bilinear = Image.Resampling.BILINEAR
        image = image.resize((width, height), bilinear).crop((left, top, left + side, top + side))
        return torch.from_numpy(np.atleast_3d(image).copy()).permute(2, 0, 1).contiguous()

    return "Pillow", fit
