"""Bottlenecks: latents to integer symbols and back, with a differentiable surrogate and a rate."""

from quadrate.bottlenecks.conditional_entropy import EntropyEstimate, conditional_entropy_bits
from quadrate.bottlenecks.dithered import DitheredQuantizer

# Frozen bottlenecks are imported from their own modules: some need the entropy coder, which
# training does without.
__all__ = ["DitheredQuantizer", "EntropyEstimate", "conditional_entropy_bits"]
