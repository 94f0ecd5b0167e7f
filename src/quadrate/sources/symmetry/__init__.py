"""Sources with symmetry: groups of transformations that no task of interest distinguishes.

A group gives random members of orbits, representatives and the maximal invariant M(x).
"""

from quadrate.sources.symmetry.augment import (
    Affine,
    Colour,
    ColourJitter,
    Geometry,
    HorizontalFlip,
    RandomGrey,
    ResizedCrop,
)
from quadrate.sources.symmetry.banana import Banana
from quadrate.sources.symmetry.group import (
    Group,
    LabelOrbitSet,
    OrbitSet,
    OrbitSplits,
    Population,
    prototypes,
)
from quadrate.sources.symmetry.image_orbits import AUGMENTATIONS, Augmentation, orbit_splits, padded
from quadrate.sources.symmetry.patterns import (
    Multisets,
    Patterns,
    PermutedPatterns,
    cyclic_patterns,
    dihedral_patterns,
    multisets,
)

__all__ = [
    "AUGMENTATIONS",
    "Affine",
    "Augmentation",
    "Banana",
    "Colour",
    "ColourJitter",
    "Geometry",
    "Group",
    "HorizontalFlip",
    "LabelOrbitSet",
    "Multisets",
    "OrbitSet",
    "OrbitSplits",
    "Patterns",
    "PermutedPatterns",
    "Population",
    "RandomGrey",
    "ResizedCrop",
    "cyclic_patterns",
    "dihedral_patterns",
    "multisets",
    "orbit_splits",
    "padded",
    "prototypes",
]
