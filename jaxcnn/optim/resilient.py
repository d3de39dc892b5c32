"""Steps of the gradient's sign alone, each element with a length of its own: Rprop."""

import jax.numpy as jnp
import optax

from jaxcnn.optim.transform import Value, elementwise, zeros


def rprop(
    learning_rate: Value = 1e-2,
    *,
    etas: tuple[float, float] = (0.5, 1.2),
    step_sizes: tuple[float, float] = (1e-6, 50),
    maximize: bool = False,
) -> optax.GradientTransformation:
    """Build `torch.optim.Rprop` (Riedmiller and Braun 1993): w -= step_size sign(g).

    A step_size grows while its gradient keeps its sign and shrinks where the sign changes; there
    the gradient counts as 0, so that the element rests for one step and neither grows nor shrinks
    in the next. `optax.scale_by_rprop` applies each update one step late instead.

    Args:
        learning_rate: the first step_size, a number >= 0; of a schedule only its first value
            counts, as in PyTorch.
        etas: factors of shrinking, in (0, 1), and of growing, above 1.
        step_sizes: the least and the greatest step_size.
        maximize: step along the gradient.

    Raises:
        ValueError: etas that do not shrink and grow.
    """
    shrink, grow = etas
    if not 0 < shrink < 1 < grow:
        raise ValueError(f"rprop: etas must be in (0, 1) and above 1, got {etas}")

    def rule(g, w, arrays, now):
        agreement, old = g * arrays["prev"], arrays["step_size"]
        changed = old * jnp.where(agreement > 0, grow, 1.0)
        size = jnp.where(
            agreement < 0, jnp.clip(old * shrink, *step_sizes), jnp.clip(changed, *step_sizes)
        )
        # That is below 0, as sizes are above it: without the detour XLA on a CPU computes the
        # agreement anew for every result, from copies of prev and of step_size.
        g = jnp.where(agreement < jnp.minimum(size, 0), 0, g)
        return -jnp.sign(g) * size, {"prev": g, "step_size": size}

    return elementwise(
        "rprop",
        learning_rate,
        {"prev": zeros, "step_size": lambda w, lr: jnp.full_like(w, lr)},
        rule,
        maximize=maximize,
    )
