"""Bottlenecks: latents to integer symbols and back, with a differentiable surrogate and a rate; frozen, with integer tables."""

from quadrate.bottlenecks.contexts import ContextModel, fit_contexts
from quadrate.bottlenecks.dithered import DitheredQuantizer
from quadrate.bottlenecks.entropy import EntropyEstimate, conditional_entropy_bits
from quadrate.bottlenecks.factorized import FactorizedBottleneck, fit_factorized
from quadrate.bottlenecks.gaussian import fit_closed_form
from quadrate.bottlenecks.joint import JointModel, fit_joint
from quadrate.bottlenecks.rounding import RoundingModel

__all__ = [
    "ContextModel",
    "DitheredQuantizer",
    "EntropyEstimate",
    "FactorizedBottleneck",
    "JointModel",
    "RoundingModel",
    "conditional_entropy_bits",
    "fit_closed_form",
    "fit_contexts",
    "fit_factorized",
    "fit_joint",
]
