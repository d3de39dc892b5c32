"""Every optimizer's state is arrays only, and a checkpoint gives it back bit for bit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcnn import checkpoint, optim, schedules
from jaxcnn.train import state_from

PLATEAU = schedules.plateau(0.01, patience=0)
NO_DECAY = [(optim.NORMS_AND_BIASES, {"weight_decay": 0.0})]
CASES = {
    **{name: lambda name=name: optim.create(name, 0.01) for name in optim.OPTIMIZERS},
    "momentum": lambda: optim.sgd(schedules.exponential(0.1, 1, gamma=0.9), momentum=0.9),
    "amsgrad": lambda: optim.adam(0.01, amsgrad=True),
    "plateau": lambda: optim.create("adamw", PLATEAU),
    "groups under a plateau": lambda: optim.groups("adamw", PLATEAU, NO_DECAY),
}


def params():
    rng = np.random.default_rng(0)
    layer = {"kernel": rng.normal(size=(3, 2)), "bias": rng.normal(size=2)}
    return {"params": {"fc": {key: jnp.asarray(v, jnp.float32) for key, v in layer.items()}}}


def steps(tx, state, count):
    for _ in range(count):
        gradients = jax.tree.map(jnp.sin, state.params)
        updates, opt_state = tx.update(gradients, state.opt_state, state.params)
        new = jax.tree.map(jnp.add, state.params, updates)
        state = state.replace(step=state.step + 1, params=new, opt_state=opt_state)
    return state


@pytest.mark.parametrize("case", CASES)
def test_a_saved_run_goes_on_bit_for_bit(case, tmp_path):
    tx = CASES[case]()
    state = steps(tx, state_from(params(), tx), 3)
    if "plateau" in case:
        state = state.replace(opt_state=optim.observe(optim.observe(state.opt_state, 1.0), 2.0))
        assert optim.plateau_rate(state.opt_state) == pytest.approx(0.001)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(state))
    checkpoint.save(tmp_path, state, {})
    restored, _ = checkpoint.restore(tmp_path, state_from(params(), tx))
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    jax.tree.map(np.testing.assert_array_equal, restored, state)
    jax.tree.map(np.testing.assert_array_equal, steps(tx, restored, 2), steps(tx, state, 2))
