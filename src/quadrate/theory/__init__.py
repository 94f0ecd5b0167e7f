"""Rate functions of distortion, perception and classification: the limits of any codec.

In closed form and by solvers, with numpy and scipy only.
"""

from quadrate.theory.any_source import Source
from quadrate.theory.binary import Bernoulli, OneShotBernoulli
from quadrate.theory.channels import Channel, DiscreteChannel, GaussianChannel, MixedChannel, Point
from quadrate.theory.convergence import ConvergenceWarning, LocalOptimumWarning
from quadrate.theory.discrete import Discrete, Solution, solve
from quadrate.theory.functions import classification, distortion, measure, rate
from quadrate.theory.gaussian import AlignedLabels, ScalarGaussian, ScalarLabel, VectorGaussian
from quadrate.theory.invariance import (
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
from quadrate.theory.invariance import banana_rate as banana
from quadrate.theory.universality import (
    Representation,
    mse_encoder_bounds,
    one_shot_bound,
    rate_penalty,
    representation,
    universal_rate,
)

__all__ = [
    "AlignedLabels",
    "Bernoulli",
    "Channel",
    "ConvergenceWarning",
    "Discrete",
    "DiscreteChannel",
    "GaussianChannel",
    "InvariantEntropies",
    "LocalOptimumWarning",
    "MixedChannel",
    "OneShotBernoulli",
    "PermutationGroup",
    "Point",
    "Representation",
    "ScalarGaussian",
    "ScalarLabel",
    "Solution",
    "Source",
    "VectorGaussian",
    "banana",
    "classification",
    "cyclic_shifts",
    "dihedral_images",
    "distortion",
    "equal_orbits",
    "image_rotations",
    "invariant_rate",
    "measure",
    "mse_encoder_bounds",
    "multiset_entropies",
    "one_shot_bound",
    "orbit_entropies",
    "rate",
    "rate_penalty",
    "representation",
    "solve",
    "universal_rate",
]
