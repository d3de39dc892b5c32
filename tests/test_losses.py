from typing import NamedTuple

import jax
import numpy as np
import torch

from jaxcnn import losses


class Heads(NamedTuple):
    logits: jax.Array
    aux_logits2: jax.Array
    aux_logits1: jax.Array


def three_heads():
    rng = np.random.default_rng(0)
    return Heads(*rng.normal(size=(3, 9, 5)) * 30), rng.integers(0, 5, 9)


def torch_cross_entropy(logits, labels):
    logits, labels = torch.from_numpy(np.asarray(logits)), torch.from_numpy(labels)
    return torch.nn.functional.cross_entropy(logits, labels, reduction="none").numpy()


def test_cross_entropy_is_torchs(float64):
    (logits, *_), labels = three_heads()
    want = torch_cross_entropy(logits, labels)
    np.testing.assert_allclose(losses.cross_entropy(logits, labels), want, rtol=1e-13, atol=1e-13)


def test_auxiliary_heads_count_three_tenths(float64):
    outputs, labels = three_heads()
    main, aux2, aux1 = (torch_cross_entropy(logits, labels) for logits in outputs)
    got = losses.with_auxiliary(losses.cross_entropy, outputs, labels)
    assert got.shape == (9,)
    np.testing.assert_allclose(got, main + 0.3 * aux2 + 0.3 * aux1, rtol=1e-13)
    got = losses.with_auxiliary(losses.cross_entropy, outputs, labels, weight=0.0)
    np.testing.assert_allclose(got, main, rtol=1e-13)


def test_the_main_heads_logits_come_first():
    outputs, _ = three_heads()
    assert losses.main_logits(outputs) is outputs.logits
    assert losses.main_logits(outputs.aux_logits1) is outputs.aux_logits1


def test_one_head_is_the_bare_loss():
    """The same program, so that the results of networks with one head stay the same bits."""
    (logits, *_), labels = three_heads()

    def with_auxiliary(logits, labels):
        return losses.with_auxiliary(losses.cross_entropy, logits, labels, 0.3)

    arguments = logits.astype(np.float32), labels.astype(np.int32)
    got, want = (jax.make_jaxpr(f)(*arguments) for f in (with_auxiliary, losses.cross_entropy))
    assert str(got) == str(want)
    assert losses.with_auxiliary(losses.cross_entropy, *arguments).dtype == np.float32
