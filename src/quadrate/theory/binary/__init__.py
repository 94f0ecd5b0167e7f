"""Binary sources under Hamming distortion, in long blocks and in one shot."""

from quadrate.theory.binary.bernoulli import Bernoulli
from quadrate.theory.binary.one_shot import OneShotBernoulli

__all__ = ["Bernoulli", "OneShotBernoulli"]
