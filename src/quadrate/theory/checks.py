"""Checks of arguments: a ValueError names the argument and says what would be right."""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from quadrate.theory.channels import FloatArray

# The sum of a distribution may differ from one by this much, more than the rounding of float32.
_SUM_TOLERANCE = 1e-6


def number(
    name: str, value: Any, low: float = -math.inf, high: float = math.inf, *, open_low: bool = False
) -> float:
    """A finite real number within [low, high], or (low, high] if `open_low`.

    Raises:
        ValueError: If the value is not one.
    """
    try:
        checked = float(value)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{name} must be a number; got {value!r}") from None
    above = low < checked if open_low else low <= checked
    if not (math.isfinite(checked) and above and checked <= high):
        bounds = [f" {'>' if open_low else '>='} {low:g}"] * (low > -math.inf)
        bounds += [f" <= {high:g}"] * (high < math.inf)
        raise ValueError(f"{name} must be a finite number{' and'.join(bounds)}; got {value!r}")
    return checked


def array(
    name: str, value: ArrayLike, dimensions: tuple[int, ...] = (), *, infinite: bool = False
) -> FloatArray:
    """A float64 array of finite numbers, with one of the given numbers of dimensions.

    Args:
        name: The argument's name in the message.
        value: The argument.
        dimensions: The allowed numbers of dimensions; empty for any.
        infinite: Also allow inf.

    Raises:
        ValueError: If the value is not such an array.
    """
    try:
        # Complex numbers, dates and strings must not become other numbers.
        if np.asarray(value).dtype.kind not in "biufO":
            raise TypeError
        checked = np.array(value, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(
            f"{name} must be an array of numbers of one shape; got {_shown(value)}"
        ) from None
    if dimensions and checked.ndim not in dimensions:
        wanted = " or ".join(str(count) for count in dimensions)
        raise ValueError(f"{name} must have {wanted} dimension(s); got shape {checked.shape}")
    if checked.size == 0 or not (np.isfinite(checked) | (infinite & np.isposinf(checked))).all():
        raise ValueError(
            f"{name} must hold at least one number, all finite{' or inf' if infinite else ''}; got"
            f" {_shown(value)}"
        )
    return checked


def distributions(name: str, value: ArrayLike, shape: tuple[int | None, ...]) -> FloatArray:
    """Probabilities along the last axis, renormalized to the last bit.

    Args:
        name: The argument's name in the message.
        value: Non-negative numbers that sum to one along the last axis, up to 1e-6.
        shape: Lengths of the axes, None for any.

    Raises:
        ValueError: If the value is not such an array.
    """
    checked = array(name, value)
    if checked.ndim != len(shape) or any(
        want is not None and have != want for have, want in zip(checked.shape, shape, strict=False)
    ):
        wanted = ", ".join("any" if length is None else str(length) for length in shape)
        raise ValueError(f"{name} must have shape ({wanted}); got {checked.shape}")
    sums = checked.sum(axis=-1, keepdims=True)
    if (checked < 0).any() or (np.abs(sums - 1) > _SUM_TOLERANCE).any():
        what = "a distribution" if checked.ndim == 1 else "a distribution in every row"
        raise ValueError(
            f"{name} must be {what}: non-negative and summing to 1; the least entry is"
            f" {checked.min():g}, a sum is {_worst(sums):g}"
        )
    return np.asarray(checked / sums)


def count(name: str, value: Any) -> int:
    """An integer of at least 1.

    Raises:
        ValueError: If the value is not one.
    """
    try:
        checked = operator.index(value)
    except TypeError:
        checked = 0
    if checked < 1:
        raise ValueError(f"{name} must be an integer >= 1; got {value!r}")
    return checked


def broadcast(**arguments: ArrayLike) -> tuple[FloatArray, ...]:
    """Arrays of numbers as float64 arrays of their common shape; infinities allowed.

    A negative bound is a mistake, unless it is on the classification, which may be a differential
    entropy. A bound that no codec meets is a question with an answer.

    Raises:
        ValueError: If an argument is not an array of numbers, holds a NaN or a negative number, or
            the shapes do not broadcast.
    """
    arrays = []
    for name, value in arguments.items():
        try:
            values = np.asarray(value, dtype=np.float64)
        except (TypeError, ValueError, OverflowError):
            raise ValueError(
                f"{name} must be a number or an array of numbers; got {_shown(value)}"
            ) from None
        if np.isnan(values).any():
            raise ValueError(f"{name} must not be NaN: a number, or inf for no constraint")
        if name != "classification" and (values < 0).any():
            raise ValueError(f"{name} must be >= 0; got {values.min():g}")
        arrays.append(values)
    try:
        return tuple(np.array(values) for values in np.broadcast_arrays(*arrays))
    except ValueError:
        shapes = [f"{name} {each.shape}" for name, each in zip(arguments, arrays, strict=True)]
        raise ValueError(
            f"constraints must broadcast to one shape; got {', '.join(shapes)}"
        ) from None


def plain(values: FloatArray) -> float | FloatArray:
    """An array without dimensions as a float, any other as it is."""
    return float(values) if np.ndim(values) == 0 else np.asarray(values)


def _shown(value: Any) -> str:
    """A value on one line, cut short."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 100 else f"{text[:100]}…"


def _worst(sums: FloatArray) -> float:
    return float(sums.flat[np.argmax(np.abs(sums - 1))])
