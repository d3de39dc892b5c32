import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from jaxcnn import schedules


@pytest.mark.parametrize("gamma", [0.5, 0.95, 0.999, 1.0])
@pytest.mark.parametrize("steps_per_epoch", [1, 7])
def test_exponential_is_torchs(gamma, steps_per_epoch, float64):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(()))], lr=0.1)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma)
    want = []
    for step in range(300):
        want.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if (step + 1) % steps_per_epoch == 0:
            scheduler.step()
    schedule = schedules.create("exponential", 0.1, gamma=gamma, steps_per_epoch=steps_per_epoch)
    got = jax.vmap(schedule)(jnp.arange(300))
    np.testing.assert_allclose(got, want, rtol=1e-13, atol=0)


def test_constant_is_constant():
    schedule = schedules.create("constant", 0.25, steps_per_epoch=3)
    assert {float(schedule(step)) for step in range(10)} == {0.25}


def test_errors_name_the_argument():
    for arguments, message in [
        ({"name": "cosine"}, "unknown schedule 'cosine'; known: constant, exponential"),
        ({"name": "exponential"}, "'exponential' needs gamma"),
        ({"name": "constant", "gamma": 0.5}, "'constant' takes no arguments; got gamma"),
        ({"name": "exponential", "gamma": 1.5}, r"gamma must be in \(0, 1\], got 1.5"),
        ({"name": "constant", "steps_per_epoch": 0}, "steps_per_epoch must be at least 1, got 0"),
    ]:
        with pytest.raises(ValueError, match=message):
            schedules.create(learning_rate=0.1, **arguments)
