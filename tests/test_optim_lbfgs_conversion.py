"""An L-BFGS run begun in torch goes on here with equal steps, and back."""

import jax
import numpy as np
import pytest
import torch
from lbfgs_steps import NAMES, SHAPES, Ours, Theirs, batches, difference, relative, start
from optim_steps import double_scalars

from jaxcnn.optim.lbfgs_conversion import lbfgs_from_torch, lbfgs_to_torch

ARGUMENTS = {"history_size": 5, "max_iter": 4, "tolerance_change": 1e-5, "tolerance_grad": 1e-3}


@pytest.fixture
def torch64(float64):
    with double_scalars():
        yield


def as_tensors(state_dict):
    state = jax.tree.map(
        lambda v: torch.from_numpy(v) if isinstance(v, np.ndarray) else v, state_dict["state"]
    )
    return {**state_dict, "state": state}


@pytest.mark.parametrize("line_search_fn", [None, "strong_wolfe"])
def test_a_run_goes_on_on_the_other_side(line_search_fn, torch64):
    arguments = {**ARGUMENTS, "line_search_fn": line_search_fn}
    theirs, ours = Theirs(start(), **arguments), Ours(start(), **arguments)
    data = batches(21)
    for batch in data[:7]:
        theirs.step(batch)
    ours.take_over(theirs, 7)
    assert jax.tree.map(lambda a: (a.shape, a.dtype), ours.state) == jax.tree.map(
        lambda a: (a.shape, a.dtype), ours.template
    )
    assert int(ours.state.step) == 7
    exact = ours.state_dict()
    assert difference(ours, theirs) == 0
    assert len(exact["state"][0]["ro"]) == 5
    assert exact["param_groups"] == theirs.state_dict()["param_groups"]

    for batch in data[7:14]:
        assert relative(ours.step(batch), theirs.step(batch)) <= 1e-11
        assert difference(ours, theirs) <= 1e-11

    again = Theirs(ours.values(), **arguments)
    again.optimizer.load_state_dict(as_tensors(ours.state_dict()))
    for batch in data[14:]:
        assert relative(ours.step(batch), again.step(batch)) <= 1e-11
        assert difference(ours, again) <= 1e-11


def test_before_the_first_iteration_there_is_little(torch64):
    ours, theirs = Ours(start(), **ARGUMENTS), Theirs(start(), **ARGUMENTS)
    assert ours.state_dict() == theirs.state_dict()
    ours.take_over(theirs, 0)
    assert int(ours.state.func_evals) == 0
    easy = {**ARGUMENTS, "tolerance_grad": 1e9}  # no iteration is made
    ours, theirs = Ours(start(), **easy), Theirs(start(), **easy)
    ours.step(batches(1)[0])
    theirs.step(batches(1)[0])
    assert ours.state_dict() == theirs.state_dict()
    assert ours.state_dict()["state"] == {0: {"func_evals": 1, "n_iter": 0}}
    ours.take_over(theirs, 1)
    assert ours.state_dict() == theirs.state_dict()


def test_vectors_are_in_the_modules_order_and_layout(torch64):
    """Each element of the gradient is that of torch's parameter at its place."""
    ours, theirs = (run(start(), **{**ARGUMENTS, "max_iter": 1}) for run in (Ours, Theirs))
    ours.step(batches(1)[0])
    theirs.step(batches(1)[0])
    vector, begin = ours.state_dict()["state"][0]["prev_flat_grad"], 0
    for name, shape in SHAPES.items():
        end = begin + int(np.prod(shape))
        wanted = theirs.parameters[name].grad.numpy()
        np.testing.assert_allclose(vector[begin:end].reshape(shape), wanted, rtol=1e-11)
        begin = end
    assert begin == len(vector)


@pytest.fixture
def halfway(torch64):
    ours = Ours(start(), **ARGUMENTS)
    ours.step(batches(1)[0])
    return ours


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"momentum": 0.9}, "param_group has unknown momentum"),
        ({"lr": None}, "param_group lacks lr"),
        ({"history_size": 7}, "history_size must be the state's, 5, got 7"),
        ({"params": NAMES[1:]}, "the parameters are .* the names are"),
        ({"max_iter": 0}, "max_iter must be an integer >= 1"),
    ],
)
def test_bad_groups_are_named(change, message, halfway):
    group = {k: v for k, v in {**halfway.group, **change}.items() if v is not None}
    with pytest.raises(ValueError, match=message):
        lbfgs_to_torch(halfway.state, halfway.params, group)


def without(slots, *names):
    return {key: value for key, value in slots.items() if key not in names}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: without(s, "d", "ro"), "missing or unexpected in the state: d, ro"),
        (lambda s: {**s, "momentum_buffer": 1}, "unexpected in the state: momentum_buffer"),
        (lambda s: {**s, "d": s["d"][1:]}, r"d must be of shape \(24,\), got \(23,\)"),
        (lambda s: {**s, "old_dirs": s["old_dirs"] * 9}, "must be of one length <= 5"),
        (lambda s: {**s, "old_stps": [s["d"][1:]] * len(s["ro"])}, "old_stps must be of shape"),
    ],
)
def test_bad_states_are_named(change, message, halfway):
    good = halfway.state_dict()
    bad = {**good, "state": {0: change(good["state"][0])}}
    with pytest.raises(ValueError, match=f"^lbfgs_from_torch: .*{message}"):
        lbfgs_from_torch(bad, halfway.template, halfway.params, NAMES, step=1)


def test_bad_counts_are_named(halfway):
    good, call = halfway.state_dict(), lbfgs_from_torch
    run = halfway.template, halfway.params
    with pytest.raises(ValueError, match="3 parameters in the state_dict, 2 names"):
        call(good, *run, NAMES[1:], step=1)
    with pytest.raises(ValueError, match="the names are"):
        call(good, *run, ["fc9.weight", *NAMES[1:]], step=1)
    with pytest.raises(ValueError, match="step must be at least 1 with a state, got 0"):
        call(good, *run, NAMES, step=0)
    with pytest.raises(ValueError, match="step must be 0 without a state, got 2"):
        call({**good, "state": {}}, *run, NAMES, step=2)
    other = Ours(start(), **{**ARGUMENTS, "history_size": 4})
    with pytest.raises(ValueError, match="history_size must be the template's, 4, got 5"):
        call(good, other.template, other.params, NAMES, step=1)
