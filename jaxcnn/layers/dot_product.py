"""Scaled dot-product attention, and the weights of soft and hard attention, as pure functions."""

import math

import jax
import jax.numpy as jnp


def scaled_dot_product_attention(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    mask: jax.Array | None = None,
    *,
    is_causal: bool = False,
    scale: float | None = None,
    hard: bool = False,
) -> jax.Array:
    """Return softmax(query key^T scale) value, as PyTorch's function of this name does.

    Vaswani et al., 2017, arXiv:1706.03762, section 3.2.1; `torch.nn.functional`'s `attn_mask` is
    our `mask`, its dropout is left to `Dropout`.

    Args:
        query: (..., L, E), floating.
        key: (..., S, E).
        value: (..., S, V).
        mask: (..., L, S), bool, True where a key takes part, or floating, added to the scores. A
            query for which no key takes part gets zeros, as in PyTorch.
        is_causal: query i sees keys up to i alone; not beside a mask.
        scale: factor of the scores, by default 1 / sqrt(E).
        hard: take the best key's value alone, see `attention_weights`.

    Returns:
        (..., L, V), of the query's dtype.

    Raises:
        ValueError: shapes that do not fit, or both a mask and is_causal.
    """
    name = "scaled_dot_product_attention"
    if min(query.ndim, key.ndim, value.ndim) < 2 or query.shape[-1] != key.shape[-1]:
        raise ValueError(
            f"{name}: query (..., L, E) and key (..., S, E) must have one E, got shapes "
            f"{query.shape} and {key.shape}"
        )
    if key.shape[-2] != value.shape[-2]:
        raise ValueError(
            f"{name}: key (..., S, E) and value (..., S, V) must have one S, got shapes "
            f"{key.shape} and {value.shape}"
        )
    if mask is not None and is_causal:
        raise ValueError(f"{name}: is_causal=True is a mask already, got another of {mask.shape}")
    length, keys = query.shape[-2], key.shape[-2]
    if is_causal:
        mask = jnp.tri(length, keys, dtype=bool)
    scores = query @ jnp.swapaxes(key, -1, -2)
    scores = scores * (1 / math.sqrt(query.shape[-1]) if scale is None else scale)
    where = None
    if mask is not None and mask.dtype == bool:
        where = jnp.broadcast_to(mask, scores.shape)
    elif mask is not None:
        scores = scores + mask
    return attention_weights(scores, hard=hard, where=where) @ value


def attention_weights(
    scores: jax.Array, *, axis: int = -1, hard: bool = False, where: jax.Array | None = None
) -> jax.Array:
    """Return the softmax of the scores, or hard attention: 1 for the best and 0 for the others.

    Hard attention's gradient is the softmax' (straight-through, Bengio et al., 2013,
    arXiv:1308.3432), as that of `torch.nn.functional.gumbel_softmax(hard=True)` is, here without
    noise. Of equal scores the first is the best.

    Args:
        scores: floating.
        axis: what the weights sum to 1 over.
        hard: whether one takes all.
        where: bool, of the scores' shape: what takes part; where nothing does, all weights are 0.

    Returns:
        Weights of the scores' shape and dtype.
    """
    soft = jax.nn.softmax(scores, axis=axis, where=where)
    if not hard:
        return soft
    best = jnp.argmax(soft, axis=axis)
    picked = jax.nn.one_hot(best, scores.shape[axis], axis=axis, dtype=scores.dtype)
    if where is not None:
        picked = jnp.where(where, picked, jnp.zeros((), scores.dtype))
    return picked + (soft - jax.lax.stop_gradient(soft))
