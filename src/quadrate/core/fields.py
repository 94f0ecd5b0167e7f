"""Fields of configurations as plain values.

NumPy's and PyTorch's scalars become numbers, lists become tuples, and nothing else passes for
either.
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
    """Replaces the fields of a frozen dataclass by plain values of the types that it declares.

    Called in its `__post_init__`.

    Args:
        config: The dataclass; it may declare numbers, bools, texts, choices (Literal), other
            dataclasses, and tuples of these.
        where: What begins the error, such as "stage 'base': ".

    Raises:
        QuadrateError: If a value cannot be taken for its type: a bool or a text for a number, a
            text with control characters, another choice.
    """
    for name, kind in _kinds(config.__class__).items():
        object.__setattr__(config, name, plain(where + name, getattr(config, name), kind))


def plain(what: str, value: Any, kind: Any) -> Any:
    """A value as the type `kind`; arguments and errors as `make_plain`."""
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
    if origin is types.UnionType:  # what may be None
        return None if value is None else plain(what, value, arguments[0])
    if not isinstance(value, kind):
        raise QuadrateError(f"{what} must be {_article(kind.__name__)}; got {shown(value)}")
    return value


def number(what: str, value: Any) -> float:
    """A number as an int or a float, infinite where a float does not hold it.

    A whole one stays an int, as texts of configurations tell 1 from 1.0.

    Raises:
        QuadrateError: If it is not a number; a bool is not one.
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
    """A whole number of at most 64 bits as an int.

    Raises:
        QuadrateError: If it is not one; neither a bool nor 3.0 is.
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
    """Makes a recipe's fields plain.

    Its name must be fit for a folder, and the keys of its points differ.

    Raises:
        QuadrateError: As `make_plain`; or if the name is not, or two points have one key.
    """
    check_file_name("the name of a recipe", recipe.name)
    make_plain(recipe, f"recipe {recipe.name!r}: ")
    if hasattr(recipe, "points") and len({point.key for point in recipe.points}) != len(
        recipe.points
    ):
        raise QuadrateError(f"recipe {recipe.name!r} names the same point twice")


def is_number(value: object) -> typing.TypeGuard[int | float]:
    """Whether a value of JSON is a number; true and false are not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def shown(value: object) -> str:
    """A value for an error, on one line and not long."""
    try:
        text = " ".join(repr(value).split())
    except Exception:  # repr of a stranger's object, or of an integer that is too long to print
        text = f"a value of type {type(value).__name__}"
    return text if len(text) <= 80 else f"{text[:79]}…"


@functools.cache
def _kinds(cls: type) -> dict[str, Any]:
    hints = typing.get_type_hints(cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


def _scalar(value: Any) -> Any:
    """What a scalar of NumPy's or PyTorch's holds; anything else as it is."""
    return value.item() if hasattr(value, "item") and getattr(value, "shape", None) == () else value


def _sequence(what: str, value: Any, kinds: tuple[Any, ...]) -> tuple[Any, ...]:
    """A list, a tuple, a range, or an array of one dimension as a tuple."""
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
    return tuple(
        plain(f"{what}[{i}]", item, kind)
        for i, (item, kind) in enumerate(zip(items, kinds, strict=True))
    )


def _article(name: str) -> str:
    return f"{'an' if name[0] in 'AEIOU' else 'a'} {name}"
