"""What is possible: rate functions of distortion, perception and classification, in closed form and by solvers. Needs numpy and scipy only."""

from quadrate.theory import banana
from quadrate.theory.bernoulli import Bernoulli
from quadrate.theory.channels import Channel, DiscreteChannel, GaussianChannel, MixedChannel, Point
from quadrate.theory.convergence import ConvergenceWarning
from quadrate.theory.discrete import Discrete, Solution, solve
from quadrate.theory.functions import classification, distortion, measure, rate
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
from quadrate.theory.one_shot import OneShotBernoulli
from quadrate.theory.representation import Representation, representation
from quadrate.theory.scalar_gaussian import ScalarGaussian
from quadrate.theory.source import Source
from quadrate.theory.universality import mse_encoder_bounds, one_shot_bound, rate_penalty, universal_rate
from quadrate.theory.vector_gaussian import AlignedLabels, ScalarLabel, VectorGaussian

__all__ = [
    "AlignedLabels",
    "Bernoulli",
    "Channel",
    "ConvergenceWarning",
    "Discrete",
    "DiscreteChannel",
    "GaussianChannel",
    "InvariantEntropies",
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
