"""The savings of invariant tasks: exact entropies of finite groups, and the banana."""

from quadrate.theory.invariance import banana_rate as banana
from quadrate.theory.invariance.groups import (
    InvariantEntropies,
    PermutationGroup,
    cyclic_shifts,
    dihedral_images,
    equal_orbits,
    image_rotations,
    invariant_rate,
    multiset_entropies,
    orbit_entropies,
)

__all__ = [
    "InvariantEntropies",
    "PermutationGroup",
    "banana",
    "cyclic_shifts",
    "dihedral_images",
    "equal_orbits",
    "image_rotations",
    "invariant_rate",
    "multiset_entropies",
    "orbit_entropies",
]
