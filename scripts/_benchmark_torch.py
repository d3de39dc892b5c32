"""PyTorch's side of `benchmark.py`: the twin of the network, in one of the forms that users run.

`nchw` and `channels_last` are eager in either memory format; `compile` is torch.compile's;
`cuda_graphs`, on a GPU, a whole step recorded once and replayed. In bfloat16 it computes under
autocast, whose parameters stay float32 as ours do.
"""

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import _benchmark_job as shared
import _turns
import numpy as np

from jaxcnn import weights

FORMS = ("nchw", "channels_last", "compile", "cuda_graphs")


def side(job: dict[str, Any]) -> shared.Calls:
    """Return the twin's forward pass, train step and epoch in one of PyTorch's forms."""
    import torch

    name = f"torch {job['form']}"
    for precision, size in shared.compared(job):
        shared.write(job, name, precision, *_numbers(job, precision, size))
    before = shared.begin()
    if job["device_torch"] == "cuda":
        torch.cuda.reset_peak_memory_stats()
    module, forward, step = _parts(job, job["precision"], job["batch_size"])
    product = torch.bfloat16 if job["precision"] == "bfloat16" else None
    square = torch.ones(shared.PEAK_SIZE, shared.PEAK_SIZE, dtype=product)
    square = square.to(job["device_torch"], product or _dtype(job["precision"]))
    if job["form"] == "cuda_graphs":
        forward, step = _recorded(forward), _recorded(step)

    def synchronised(call: Callable[[], Any]) -> None:
        call()
        if square.is_cuda:
            torch.cuda.synchronize()

    calls = {"forward": forward, "train": step, "peak": lambda: square @ square}
    if "epoch" in job["what"]:
        calls["epoch"] = _epoch(job, step, module)
    calls = {n: partial(synchronised, call) for n, call in calls.items()}
    first = {n: shared.seconds(calls[n]) for n in job["first"]}

    def tell() -> dict[str, Any]:
        used = torch.cuda.max_memory_allocated() if square.is_cuda else shared.largest() - before
        return {"first_s": first, "peak_bytes": used, "torch": torch.__version__}

    return {n: calls[n] for n in (*job["what"], "peak")} | {_turns.FACTS: tell}


def _dtype(precision: str) -> Any:
    import torch

    return getattr(torch, shared.stored(precision))


def _parts(job: dict[str, Any], precision: str, size: int, *, drop: bool = True) -> tuple:
    """Return the module with its batch, its forward function and its train step."""
    import torch

    from parity import reference
    from parity.sides import training_loss

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
    layout = torch.contiguous_format if job["form"] == "nchw" else torch.channels_last
    module = reference.create(job["network"], job["num_classes"])
    kept = weights.read(Path(job["folder"]) / shared.WEIGHTS)
    module.load_state_dict({name: torch.from_numpy(array) for name, array in kept.items()})
    place = {"dtype": _dtype(precision), "device": job["device_torch"]}
    module = module.to(**place).to(memory_format=layout).train()
    for layer in module.modules():
        if not drop and isinstance(layer, torch.nn.modules.dropout._DropoutNd):
            layer.p = 0.0
    images, labels = shared.batch(job, size)
    x = torch.from_numpy(images.transpose(0, 3, 1, 2).copy()).to(**place)
    module.x = x.to(memory_format=layout)
    module.y = torch.from_numpy(labels).long().to(job["device_torch"])
    optimizer = torch.optim.SGD(
        module.parameters(),
        lr=shared.LEARNING_RATE,
        momentum=shared.MOMENTUM,
        weight_decay=shared.WEIGHT_DECAY,
        fused=True,
    )
    function = torch.compile(module) if job["form"] == "compile" else module

    def rounding():
        if precision != "bfloat16":
            return nullcontext()
        return torch.autocast(job["device_torch"], dtype=torch.bfloat16)

    def forward():
        module.eval()
        with torch.no_grad(), rounding():
            logits = function(module.x)
        module.train()
        return logits.float() if precision == "bfloat16" else logits

    def step():
        optimizer.zero_grad()
        with rounding():
            loss = training_loss(function(module.x), module.y)
        loss.backward()
        optimizer.step()
        return loss

    return module, forward, step


def _recorded(call: Callable[[], Any]) -> Callable[[], Any]:
    """Return the call as a CUDA graph, recorded once its kernels have been chosen."""
    import torch

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = call()

    def replay():
        graph.replay()
        return result

    return replay


def _epoch(job: dict[str, Any], step: Callable[[], Any], module: Any) -> Callable[[], None]:
    """Return an epoch over data that lie on the device, whose losses are read at its end."""
    import torch

    count, size = job["epoch_steps"], job["batch_size"]
    images, labels = shared.batch(job, count * size)
    x = torch.from_numpy(images.transpose(0, 3, 1, 2).copy()).to(module.x)
    y = torch.from_numpy(labels).to(module.y)

    def call():
        losses = []
        for rows in torch.randperm(len(y), device=y.device).split(size):
            module.x.copy_(x[rows])
            module.y.copy_(y[rows])
            losses.append(step().detach().clone())
        torch.stack(losses).cpu()

    return call


def _numbers(
    job: dict[str, Any], precision: str, size: int
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    eager = {"compile": "channels_last", "cuda_graphs": "channels_last"}
    plain = job | {"form": eager.get(job["form"], job["form"])}
    module, forward, step = _parts(plain, precision, size, drop=False)
    logits = weights.as_numpy(forward())
    step()
    return logits, {n: weights.as_numpy(v) for n, v in module.state_dict().items()}
