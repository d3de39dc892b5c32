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
_EAGER = {"compile": "channels_last", "cuda_graphs": "channels_last"}
"""What the forms that are not eager are compared as in float64."""


def side(job: dict[str, Any]) -> shared.Calls:
    """Return the twin's forward pass, train step and epoch in one of PyTorch's forms."""
    import torch

    name = f"torch {job['form']}"
    for precision, size in shared.compared(job):
        shared.write(job, name, precision, *_eager_numbers(job, precision, size))
    before = shared.begin()
    if job["device_torch"] == "cuda":
        torch.cuda.reset_peak_memory_stats()
    parts = module, forward, step, _ = _parts(job, job["precision"], job["batch_size"])
    product = torch.bfloat16 if job["precision"] == "bfloat16" else None
    square = torch.ones(shared.PEAK_SIZE, shared.PEAK_SIZE, dtype=product)
    square = square.to(job["device_torch"], product or _dtype(job["precision"]))
    forward, step = _as_run(job, forward), _as_run(job, step)

    def synchronised(call: Callable[[], Any]) -> None:
        call()
        if square.is_cuda:
            torch.cuda.synchronize()

    calls = {"forward": forward, "train": step, "peak": lambda: square @ square}
    if "epoch" in job["what"]:
        calls["epoch"] = _epoch(job, step, module)
    calls = {n: partial(synchronised, call) for n, call in calls.items()}
    first = {n: shared.seconds(calls[n]) for n in job["first"]}
    calls["peak"]()
    used = torch.cuda.max_memory_allocated() if square.is_cuda else shared.largest() - before
    if job["form"] in _EAGER:  # not before the first calls, nor in their memory: it compiles too
        shared.write(job, name, job["precision"], *_numbers(job, *parts))
    facts = {"first_s": first, "peak_bytes": used, "torch": torch.__version__}
    return {n: calls[n] for n in (*job["what"], "peak")} | {_turns.FACTS: lambda: facts}


def _dtype(precision: str) -> Any:
    import torch

    return getattr(torch, shared.stored(precision))


def _parts(job: dict[str, Any], precision: str, size: int) -> tuple:
    """Return the module with its batch, its forward function, train step and optimizer."""
    import torch

    from parity import reference
    from parity.sides import training_loss

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
    layout = torch.contiguous_format if job["form"] == "nchw" else torch.channels_last
    module = reference.create(job["network"], job["num_classes"])
    _load(job, module)
    place = {"dtype": _dtype(precision), "device": job["device_torch"]}
    module = module.to(**place).to(memory_format=layout).train()
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

    return module, forward, step, optimizer


def _load(job: dict[str, Any], module: Any) -> None:
    import torch

    kept = weights.read(Path(job["folder"]) / shared.WEIGHTS)
    module.load_state_dict({name: torch.from_numpy(array) for name, array in kept.items()})


def _as_run(job: dict[str, Any], call: Callable[[], Any]) -> Callable[[], Any]:
    return _recorded(call) if job["form"] == "cuda_graphs" else call


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


def _eager_numbers(job: dict[str, Any], precision: str, size: int) -> tuple:
    job = job | {"form": _EAGER.get(job["form"], job["form"])}
    return _numbers(job, *_parts(job, precision, size))


def _numbers(
    job: dict[str, Any], module: Any, forward: Any, step: Any, optimizer: Any
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return the logits of the first weights, and what they are after a step that drops nothing."""
    import torch

    dropouts = [m for m in module.modules() if isinstance(m, torch.nn.modules.dropout._DropoutNd)]
    rates = [layer.p for layer in dropouts]
    for layer in dropouts:
        layer.p = 0.0
    forward, step = _as_run(job, forward), _as_run(job, step)
    _load(job, module)
    for state in optimizer.state.values():
        state["momentum_buffer"].zero_()
    logits = weights.as_numpy(forward())
    step()
    state = {n: weights.as_numpy(v) for n, v in module.state_dict().items()}
    for layer, rate in zip(dropouts, rates, strict=True):
        layer.p = rate
    return logits, state
