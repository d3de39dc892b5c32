"""`lbfgs` against `torch.optim.LBFGS`: parameters and every array of the state after every call."""

import pytest
from lbfgs_steps import Ours, Theirs, batches, difference, relative, start
from optim_steps import double_scalars

CALLS = 32
EARLY = {"tolerance_change": 1e-5, "tolerance_grad": 1e-3}
FIXED = [{}, {"lr": 0.3, "gamma": 0.95}, {"lr": 0.5, "max_eval": 3}, EARLY]
SEARCH = [
    EARLY,
    {"lr": 0.3, "gamma": 0.95, **EARLY},
    {"lr": 3.0, "max_eval": 7, **EARLY},
    {"max_eval": 3, **EARLY},
]
GRID = {None: FIXED, "strong_wolfe": SEARCH}
FREE = [EARLY, SEARCH[1], SEARCH[2]]
"""Where rounding is not amplified from call to call either: see `lbfgs_steps.loss`."""


@pytest.fixture
def torch64(float64):
    with double_scalars():
        yield


@pytest.mark.parametrize("max_iter", [1, 4, 20])
@pytest.mark.parametrize("history_size", [2, 5, 100])
@pytest.mark.parametrize("line_search_fn", GRID)
def test_every_call_equals_torchs(line_search_fn, history_size, max_iter, torch64):
    """Every call from torch's state before it, and where it can be the whole run by itself."""
    form = {"line_search_fn": line_search_fn, "history_size": history_size, "max_iter": max_iter}
    for own in GRID[line_search_fn]:
        arguments = {**form, **own}
        ours, theirs, free = (run(start(), **arguments) for run in (Ours, Theirs, Ours))
        for calls, batch in enumerate(batches(CALLS)):
            if calls:
                ours.take_over(theirs, calls)
            value, wanted = ours.step(batch), theirs.step(batch)
            worst = max(difference(ours, theirs), relative(value, wanted))
            if own in FREE:
                value = free.step(batch)
                worst = max(worst, difference(free, theirs), relative(value, wanted))
            assert worst <= 1e-11, (own, calls, worst)
        slots = theirs.state_dict()["state"][0]
        assert slots["n_iter"] >= 10 and len(slots["ro"]) >= min(history_size, 9)
