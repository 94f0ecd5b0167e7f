"""Fields of configurations as plain values.

Scalars of NumPy and PyTorch become numbers, lists become tuples; anything else is refused.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import numbers
import types
import typing
from typing import Any

from quadrate.core.names import check_file_name, check_text
from quadrate.errors import QuadrateError

_LARGEST_WHOLE = 1 << 63


def make_plain(config: Any, where: str = "") -> None:
    """Replaces the fields of a frozen dataclass by plain values of their declared types.

    To be called in its `__post_init__`.

    Args:
        config: The dataclass; it may declare numbers, bools, texts, choices (Literal), other
            dataclasses, and tuples of these.
        where: The beginning of an error, such as "stage 'base': ".

    Raises:
        QuadrateError: If a value does not fit its type: a bool or a text in place of a number, a
            text with control characters, an unknown choice.
    """
    for name, kind in _kinds(config.__class__).items():
        object.__setattr__(config, name, plain(where + name, getattr(config, name), kind))


def plain(what: str, value: Any, kind: Any) -> Any:
    """Converts a value to the type `kind`; raises as `make_plain` does."""
    if kind is float:
        return number(what, value)
    if kind is int:
        return whole(what, value)
    if kind is bool:
        value = _scalar(value)
        if not isinstance(value, bool):
            raise QuadrateError(f"{what} must be True or False; got {shown(value)}")
        return value
    if kind is str:
        return str(check_text(what, value))
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        if not isinstance(value, str) or value not in arguments:
            raise QuadrateError(f"{what} must be one of {', '.join(arguments)}; got {shown(value)}")
        return str(value)
    if origin is tuple:
        return _sequence(what, value, arguments)
    if origin is types.UnionType:  # a type, or None
        return None if value is None else plain(what, value, arguments[0])
    if not isinstance(value, kind):
        raise QuadrateError(f"{what} must be {_article(kind.__name__)}; got {shown(value)}")
    return value


def number(what: str, value: Any) -> float:
    """Converts a number to an int or a float, which is infinite where the number is too large.

    Whole numbers stay ints, since texts of configurations tell 1 from 1.0.

    Raises:
        QuadrateError: If the value is not a number, or is a bool.
    """
    given, value = value, _scalar(value)
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise QuadrateError(f"{what} must be a number; got {shown(given)}")
    try:
        as_float = float(value)
    except OverflowError:
        return math.inf
    return int(value) if isinstance(value, numbers.Integral) else as_float


def whole(what: str, value: Any) -> int:
    """Converts a whole number of at most 64 bits to an int.

    Raises:
        QuadrateError: If the value is anything else, such as a bool or 3.0.
    """
    given, value = value, _scalar(value)
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise QuadrateError(f"{what} must be a whole number; got {shown(given)}")
    value = int(value)
    if not -_LARGEST_WHOLE <= value < _LARGEST_WHOLE:
        raise QuadrateError(f"{what} must be a whole number of at most 64 bits")
    return value


def check_at_least(config: Any, least: int, *names: str) -> None:
    """Raises a QuadrateError if a field is below `least`."""
    for name in names:
        if getattr(config, name) < least:
            raise QuadrateError(f"{name} must be at least {least}; got {getattr(config, name)}")


def check_positive(config: Any, *names: str) -> None:
    """Raises a QuadrateError if a field is not finite or not above 0."""
    for name in names:
        if not 0 < getattr(config, name) < math.inf:
            raise QuadrateError(f"{name} must be finite and above 0; got {getattr(config, name)}")


def check_not_negative(config: Any, *names: str, where: str = "") -> None:
    """Raises a QuadrateError if a field is not finite or below 0."""
    for name in names:
        if not 0 <= getattr(config, name) < math.inf:
            raise QuadrateError(
                f"{where}{name} must be finite and not negative; got {getattr(config, name)}"
            )


def check_shares(config: Any, *names: str) -> None:
    """Raises a QuadrateError if a field does not lie in [0, 1]."""
    for name in names:
        if not 0 <= getattr(config, name) <= 1:
            raise QuadrateError(
                f"{name} is a share of the training and must lie in [0, 1]; got"
                f" {getattr(config, name)}"
            )


def check_recipe(recipe: Any) -> None:
    """Makes a recipe's fields plain, and checks its name and points.

    Raises:
        QuadrateError: As `make_plain` does; or if the name cannot name a folder, or two points
            have the same key.
    """
    check_file_name("the name of a recipe", recipe.name)
    make_plain(recipe, f"recipe {recipe.name!r}: ")
    points = getattr(recipe, "points", ())
    if len({point.key for point in points}) != len(points):
        raise QuadrateError(f"recipe {recipe.name!r} names the same point twice")


def is_number(value: object) -> typing.TypeGuard[int | float]:
    """Whether a value from JSON is a number, and neither true nor false."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def shown(value: object) -> str:
    """A value as an error shows it: on one short line."""
    try:
        text = " ".join(repr(value).split())
    except Exception:  # from a user's __repr__, or an integer that is too long to print
        text = f"a value of type {type(value).__name__}"
    return text if len(text) <= 80 else f"{text[:79]}…"


@functools.cache
def _kinds(cls: type) -> dict[str, Any]:
    hints = typing.get_type_hints(cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


def _scalar(value: Any) -> Any:
    """The number in a scalar of NumPy or PyTorch; any other value as it is."""
    return value.item() if hasattr(value, "item") and getattr(value, "shape", None) == () else value


def _sequence(what: str, value: Any, kinds: tuple[Any, ...]) -> tuple[Any, ...]:
    """Converts a list, a tuple, a range, or an array of one dimension to a tuple."""
    items = value.tolist() if hasattr(value, "tolist") else value
    if not isinstance(items, list | tuple | range):
        raise QuadrateError(
            f"{what} must be a tuple, such as {what.split()[-1]}=({shown(value)},); got"
            f" {shown(value)}"
        )
    if kinds[-1] is ...:
        return tuple(plain(f"{what}[{i}]", item, kinds[0]) for i, item in enumerate(items))
    if len(items) != len(kinds):
        raise QuadrateError(f"{what} must have {len(kinds)} numbers; got {shown(value)}")
    pairs = enumerate(zip(items, kinds, strict=True))
    return tuple(plain(f"{what}[{i}]", item, kind) for i, (item, kind) in pairs)


def _article(name: str) -> str:
    return f"{'an' if name[0] in 'AEIOU' else 'a'} {name}"
