"""The error of one set of named arrays against another, and the assertion on it.

The error of an array is max|got - want| / scale, computed in float64. The scale is max|want|, but
at least a thousandth of the largest floating value of the whole set: a quantity that is zero in
exact arithmetic (the gradient of a bias in front of a batch norm) is rounding noise on both sides,
and noise against noise is no error. A mistake stays visible: it is measured on a scale at most a
thousand times too large, against tolerances near 1e-12.
"""

from collections.abc import Collection, Mapping

import numpy as np

Arrays = Mapping[str, np.ndarray]

FLOOR = 1e-3
_WORST = 8


def errors(got: Arrays, want: Arrays) -> dict[str, float]:
    """Return name -> relative maximum error of every array of `want`.

    Integers (counters) are measured against max(1, max|want|) and set no scale for others. An
    array that is not finite on either side, or of another shape, has the error inf; one that is
    zero on both sides 0.

    Raises:
        KeyError: a name of `want` that `got` has not.
    """
    largest = max((_largest(v) for v in want.values() if _floating(v) and _finite(v)), default=0.0)
    result = {}
    for name, wanted in want.items():
        if got[name].shape != wanted.shape or not (_finite(got[name]) and _finite(wanted)):
            result[name] = float("inf")
            continue
        scale = max(_largest(wanted), FLOOR * largest if _floating(wanted) else 1.0)
        difference = _largest(got[name].astype(np.float64) - wanted.astype(np.float64))
        result[name] = difference / scale if scale else (0.0 if difference == 0 else float("inf"))
    return result


def worst(got: Arrays, want: Arrays) -> tuple[float, str]:
    """Return the largest of `errors` and the name it belongs to."""
    found = errors(got, want)
    name = max(found, key=found.__getitem__)
    return found[name], name


def assert_close(got: Arrays, want: Arrays, rtol: float, *, zeros: Collection[str] = ()) -> None:
    """Assert that both sides have the same names, shapes, dtypes and, within rtol, values.

    Args:
        got: name -> array of the side under test.
        want: name -> array of the reference.
        rtol: bound of the relative maximum error of every single array.
        zeros: names that may be zero throughout. Elsewhere that fails: zeros on both sides agree
            whatever the code does, so the comparison would show nothing.

    Raises:
        AssertionError: with every difference in names, shapes and dtypes, or the worst errors.
    """
    assert want, "nothing to compare"
    problems = [f"missing: {name}" for name in want if name not in got]
    problems += [f"unexpected: {name}" for name in got if name not in want]
    for name in want:
        if name not in got:
            continue
        sides = got[name], want[name]
        if sides[0].shape != sides[1].shape:
            problems.append(f"shape of {name}: got {sides[0].shape}, want {sides[1].shape}")
        if sides[0].dtype != sides[1].dtype:
            problems.append(f"dtype of {name}: got {sides[0].dtype}, want {sides[1].dtype}")
        if not all(map(_finite, sides)):
            problems.append(f"not finite: {name}")
        if name not in zeros and not np.any(sides[1]):
            problems.append(f"zero throughout, so the comparison shows nothing: {name}")
    assert not problems, "\n  ".join(["the sides do not compare:", *problems])

    found = errors(got, want)
    over = sorted((e for e in found.items() if not e[1] <= rtol), key=lambda e: -e[1])
    lines = [f"{name}: {error:.2e}" for name, error in over[:_WORST]]
    heading = f"{len(over)} of {len(found)} arrays differ by more than {rtol:.0e}; the worst:"
    assert not over, "\n  ".join([heading, *lines])


def _floating(array: np.ndarray) -> bool:
    return np.issubdtype(array.dtype, np.floating)


def _finite(array: np.ndarray) -> bool:
    return bool(np.isfinite(array).all())


def _largest(array: np.ndarray) -> float:
    return float(np.abs(array).max(initial=0))
