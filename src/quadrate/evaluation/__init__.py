"""Evaluation: one fixed protocol that scores any codec on held-out images.

docs/evaluation.md describes it.
"""

from quadrate.evaluation.certified import certified_w1
from quadrate.evaluation.conditional_entropy import conditional_entropy_bits
from quadrate.evaluation.critic import fresh_critic_w1, legacy_w1
from quadrate.evaluation.intervals import interpolate_front, mean_interval
from quadrate.evaluation.perception_scores import kid, sliced_w2sq
from quadrate.evaluation.protocol import Protocol
from quadrate.evaluation.references import prepare
from quadrate.evaluation.scores import Reconstruct, columns_of, evaluate

__all__ = [
    "Protocol",
    "Reconstruct",
    "certified_w1",
    "columns_of",
    "conditional_entropy_bits",
    "evaluate",
    "fresh_critic_w1",
    "interpolate_front",
    "kid",
    "legacy_w1",
    "mean_interval",
    "prepare",
    "sliced_w2sq",
]
