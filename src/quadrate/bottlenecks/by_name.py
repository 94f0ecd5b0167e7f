"""Bottlenecks by name: the registries of trainable and of frozen ones.

Everything is imported when it is built, so that a configuration can check names without PyTorch.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from importlib import import_module
from operator import attrgetter
from typing import Any

from quadrate.core.registry import Registry
from quadrate.errors import QuadrateError

Shape = tuple[int, ...]
"""Of one sample's latents: (d,) for vectors, (c, h, w) for maps."""


def find_lazily(path: str) -> Any:
    """Import `module:name` of the bottlenecks: names alone, for a configuration, need no torch."""
    module, name = path.split(":")
    return attrgetter(name)(import_module(f"quadrate.bottlenecks.{module}"))


def _of_levels(path: str) -> Callable[..., Any]:
    """A builder that gives the levels of each dimension to a class in a module of bottlenecks."""

    def build(shape: Shape, levels: Sequence[int] = ()) -> Any:
        if levels and len(levels) != shape[0]:
            raise QuadrateError(f"latents of shape {shape} need {shape[0]} levels; got {levels}")
        return _at_sites(find_lazily(path)(levels), shape)

    return build


def _of_dims(path: str) -> Callable[[Shape], Any]:
    """A builder that gives d to a class in a module of bottlenecks."""
    return lambda shape: _at_sites(find_lazily(path)(shape[0]), shape)


def _at_sites(bottleneck: Any, shape: Shape) -> Any:
    """A bottleneck of vectors, or of maps, which share it among their sites."""
    if len(shape) == 1:
        return bottleneck
    return find_lazily("spatial:SpatialBottleneck")(bottleneck, shape)


def _loads(path: str) -> Callable[..., Any]:
    return lambda arrays, first, levels: find_lazily(path).from_arrays(arrays, first, levels)


BOTTLENECKS: Registry[Callable[..., Any]] = Registry(
    "bottleneck",
    {
        "dithered": _of_levels("dithered:DitheredQuantizer"),
        "factorized": _of_dims("factorized:FactorizedBottleneck.of_dims"),
        "hyperprior": _of_dims("hyperprior:HyperpriorBottleneck"),
        "lattice-z": _of_dims("lattice:ZBottleneck.of_dims"),
        "lattice-d4": _of_dims("lattice:D4Bottleneck.of_dims"),
        "lattice-e8": _of_dims("lattice:E8Bottleneck.of_dims"),
        "unit-gaussian": _of_dims("unit_gaussian:UnitGaussianBottleneck"),
    },
)
"""What builds a bottleneck from the shape of its latents, and from levels if its rate is fixed."""


FROZEN: Registry[Callable[..., Any]] = Registry(
    "frozen bottleneck",
    {
        "dithered": _loads("contexts:ContextModel"),
        "rounding": _loads("rounding:RoundingModel"),
        "lattice": _loads("lattice:LatticeModel"),
        "joint": _loads("joint_tables:JointModel"),
        "hyperprior": _loads("hyperprior_model:HyperpriorModel"),
    },
)
"""What builds a frozen bottleneck from its arrays, `first`, and levels, by the model's `name`."""


def build_bottleneck(name: str, shape: Shape, levels: Sequence[int] = ()) -> Any:
    """Build the bottleneck of a name.

    Args:
        name: In the registry.
        shape: What a receiver reads of one sample, (d,) or (c, h, w).
        levels: The levels of each dimension or channel where they fix the rate; otherwise empty.

    Returns:
        An `nn.Module` that keeps the protocol `Bottleneck`.

    Raises:
        QuadrateError: If the name is unknown, or shape and levels are not right for it.
    """
    build = BOTTLENECKS.find(name)
    if not levels:
        return build(shape)
    if not takes_levels(name):
        raise QuadrateError(
            f"bottleneck {name!r} learns its rate: give dims instead of levels; got"
            f" levels={tuple(levels)}"
        )
    return build(shape, levels)


def takes_levels(name: str) -> bool:
    """Whether levels fix the rate of the bottleneck of a name, rather than that it is learned.

    Raises:
        QuadrateError: If the name is unknown.
    """
    try:
        inspect.signature(BOTTLENECKS.find(name)).bind((1,), (2,))
    except TypeError:
        return False
    return True


def register_bottleneck(
    name: str, build: Callable[..., Any], load: Callable[..., Any] | None = None
) -> None:
    """Register a bottleneck of your own under a name that configurations can give.

    Args:
        name: The name.
        build: Takes the shape of what is received of one sample, (d,) or (c, h, w), and the levels
            of each dimension if these fix the rate; returns an `nn.Module` that keeps the protocol
            `Bottleneck`.
        load: Takes a frozen model's arrays, its first column, and the levels of all columns;
            returns the model. Codec files find it by the model's `name`, which must be `name`. Not
            needed if `freeze` gives one of Quadrate's own models.

    Raises:
        QuadrateError: If the name is taken, or is not fit for a file.
    """
    BOTTLENECKS.register(name, build)
    if load:
        FROZEN.register(name, load)
